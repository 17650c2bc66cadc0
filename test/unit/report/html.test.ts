import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { escapeHtml, pageData, pageOf, writeWhole } from "../../../src/report/html.ts";
import { writeReport } from "../../../src/report/html-report.ts";
import type { ResultRow } from "../../../src/report/row.ts";
import { sampleRow } from "./sample-rows.ts";

const folder = mkdtempSync(join(tmpdir(), "sdr-report-"));
afterAll(() => rmSync(folder, { recursive: true }));

const HOSTILE = `</script><script>alert(1)</script><img src=x onerror="alert(2)">'&\u2028<!--`;

function packedOf(html: string): { charts: object[]; tables: object[]; data: unknown } {
  const [, text] = /<script type="text\/plain" id="contents">([^<]*)<\/script>/.exec(html)!;
  return JSON.parse(gunzipSync(Buffer.from(text!, "base64")).toString());
}

describe("pages", () => {
  test("text of HTML is escaped", () => {
    expect(escapeHtml(`<a href="x">'&`)).toBe("&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
  });

  test("nothing from a file becomes an element, whatever it is written into", () => {
    const row: ResultRow = {
      ...sampleRow({ policy: HOSTILE, bytes: 2 ** 20, loss: 1e-3 }),
      ...{ experiment: HOSTILE, link: HOSTILE, reverseLink: HOSTILE, key: HOSTILE },
    };
    const html = pageOf({
      ...{
        title: HOSTILE,
        subtitle: HOSTILE,
        notices: [HOSTILE],
        data: pageData("results", [row]),
      },
      sections: [
        { title: HOSTILE, text: HOSTILE, blocks: [] },
        {
          title: "tables",
          blocks: [
            { kind: "facts", facts: [[HOSTILE, HOSTILE]] },
            { kind: "table", caption: HOSTILE, columns: [{ title: HOSTILE }], rows: [[HOSTILE]] },
          ],
        },
      ],
    });
    expect(html).not.toContain("<img");
    expect(html).not.toContain("<script>alert");
    expect(html.match(/<script/g)).toHaveLength(3);
    expect(html.match(/<\/script>/g)).toHaveLength(3);
    expect(packedOf(html).data).toEqual(pageData("results", [JSON.parse(JSON.stringify(row))]));
  });

  test("a page names the hashes of its scripts and forbids all connections", () => {
    const html = pageOf({ title: "a", sections: [] });
    const [, policy] = /Content-Security-Policy" content="([^"]*)"/.exec(html)!;
    expect(policy).toMatch(
      /^default-src 'none'; script-src 'sha256-\S+' 'sha256-\S+' 'unsafe-eval';/,
    );
    expect(policy).not.toMatch(/connect-src|img-src|https?:|\*/);
    expect(html).not.toMatch(/<link|src="|@import/);
  });

  test("records keep every field that any of them has", () => {
    const data = pageData("results", [
      { a: 1, b: [1, 2] },
      { a: 2, c: "x" },
    ]);
    expect(data).toEqual({
      ...{ name: "results", fields: ["a", "b", "c"] },
      rows: [
        [1, [1, 2], null],
        [2, null, "x"],
      ],
    });
  });
});

describe("files", () => {
  test("a report is one file of moderate size, and the same for the same rows", async () => {
    const rows = [1e-4, 1e-3].map((loss) => sampleRow({ policy: "sr-rto", bytes: 2 ** 20, loss }));
    const path = join(folder, "report.html");
    const options = { title: "two rows", version: "0.1.0" };
    await writeReport(rows, path, options);
    const first = readFileSync(path, "utf8");
    expect(first.length).toBeLessThan(1_000_000);
    expect(first).toContain("<title>two rows</title>");
    await writeReport(rows, path, options);
    expect(readFileSync(path, "utf8")).toBe(first);
    expect(readdirSync(folder)).toEqual(["report.html"]);
  });

  test("a file that cannot be written leaves what was there, and nothing half-written", async () => {
    const at = mkdtempSync(join(folder, "full-"));
    const taken = join(at, "taken");
    writeFileSync(join(at, "other"), "as it was");
    await expect(writeWhole(join(at, "missing", "x"), "text")).rejects.toMatchObject({
      code: "ENOENT",
    });
    await writeWhole(taken, "first");
    await writeWhole(taken, "second");
    expect(readFileSync(taken, "utf8")).toBe("second");
    // A folder cannot be replaced by a file: the renaming fails after the draft was written.
    mkdtempSync(join(at, "folder-"));
    const target = readdirSync(at).find((name) => name.startsWith("folder-"))!;
    await expect(writeWhole(join(at, target), "text")).rejects.toThrow();
    expect(readdirSync(at).sort()).toEqual([target, "other", "taken"].sort());
  });
});
