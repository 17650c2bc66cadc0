/** sdr report, run as a user runs it. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { sampleRow } from "../report/sample-rows.ts";
import { MAIN, Sdr } from "./sdr.ts";

const folder = mkdtempSync(join(tmpdir(), "sdr-report-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));

const rows = ["sr-rto", "hybrid"].map((policy) =>
  sampleRow({ policy, bytes: 2 ** 20, loss: 1e-3 }),
);
const lines = rows.map((row) => `${JSON.stringify(row)}\n`).join("");

function write(name: string, text: string): string {
  const at = join(folder, name);
  mkdirSync(at, { recursive: true });
  writeFileSync(join(at, "results.jsonl"), text);
  return at;
}

function run(...args: string[]) {
  return new Sdr(process.execPath, [MAIN, "report", ...args]).end();
}

describe("sdr report", () => {
  test("a folder of experiments becomes a page, and images beside it", async () => {
    write("all/first", lines);
    const out = join(folder, "page.html");
    const png = join(folder, "images");
    const { status, stdout } = await run(join(folder, "all"), "--out", out, "--png", png, "--json");
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ report: out, rows: 2, charts: 1, notices: [] });
    expect(readFileSync(out, "utf8")).toContain("<title>sample</title>");
    expect(readdirSync(png)).toEqual(["e1-distribution.png"]);
  });

  test("what was cut off is said; what cannot be read is refused and nothing is written", async () => {
    const out = join(folder, "other.html");
    const cut = await run(write("cut", lines.slice(0, -20)), "--out", out);
    expect(cut).toMatchObject({ status: 0, stderr: expect.stringMatching(/line 2 is cut off/) });
    rmSync(out);
    const refused = [
      [write("empty", ""), /has no rows/],
      [write("text", "hello\n"), /is not JSON/],
      [write("old", lines.replaceAll('"0.1.0"', '"7.1.0"')), /written by version "7.1.0"/],
      [join(folder, "missing"), /does not exist/],
    ] as const;
    for (const [path, why] of refused) {
      const { status, stderr } = await run(path, "--out", out);
      expect(status).not.toBe(0);
      expect(stderr).toMatch(why);
    }
    expect(readdirSync(folder)).not.toContain("other.html");
  });
});
