/** The shipped experiments: all are understood, and the figures' say what the paper found. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { readExperiment } from "../../../src/cli/experiment/experiment.ts";
import type { Finding } from "../../../src/cli/experiment/findings.ts";
import { version } from "../../../src/cli/version.ts";
import { parseRows } from "../../../src/report/parse-rows.ts";
import { cleanUp, run, scratch } from "./sdr.ts";

afterEach(cleanUp);

const FOLDER = fileURLToPath(new URL("../../../experiments/", import.meta.url));

describe("shipped experiments", () => {
  const files = readdirSync(FOLDER).filter((name) => /^(?!kubernetes).*\.yaml$/.test(name));

  test.each(files)("%s is understood, and named as its file", (file) => {
    const { experiment } = readExperiment(join(FOLDER, file));
    expect(`${experiment.name}.yaml`).toBe(file);
    expect(experiment.about).not.toBe("");
    expect(experiment.cells.length).toBeGreaterThan(1);
  });

  test("there is one for each figure", () => {
    for (const figure of [
      "03a",
      "03b",
      "03c",
      "09",
      "10a",
      "10b",
      "10c",
      "10d",
      "12",
      "13",
      "15",
    ]) {
      expect(files).toContain(`fig-${figure}.yaml`);
    }
  });
});

describe("sdr figures --quick", () => {
  test("finds what the paper found", async () => {
    const out = join(scratch(), "figures");
    const ended = await run("figures", "--quick", "--out", out, "--json");
    expect({ status: ended.status, stderr: ended.stderr }).toEqual({ status: 0, stderr: "" });
    const { findings, rows, report } = JSON.parse(ended.stdout);
    expect(readFileSync(report, "utf8")).toContain("<html");
    const here = (pattern: RegExp) => {
      const found = (findings as Finding[]).filter(({ what }) => pattern.test(what));
      expect(found, String(pattern)).toHaveLength(1);
      return [...found[0]!.here.matchAll(/[\d.]+(?=x)/g)].map(Number);
    };
    // Up to 1 %, 3 % and 10 %: the paper has 6.5 and 12.2.
    const [, mean = 0] = here(/chunks lost whole: greatest mean/);
    expect(mean).toBeGreaterThan(5.5);
    expect(mean).toBeLessThan(7.5);
    const [, tail = 0] = here(/chunks lost whole: greatest at p99.9/);
    expect(tail).toBeGreaterThan(11);
    expect(tail).toBeLessThan(13.5);
    const gains = here(/Allreduce at p99.9: ec-mds/);
    expect(Math.max(...gains)).toBeGreaterThan(3);
    const xor = (findings as Finding[]).find(({ what }) => what.includes("Reed-Solomon at p99.9"));
    expect(xor?.here).toBe("0.1 %");
    const figure15 = parseRows(
      readFileSync(join(out, "fig-15", "results.jsonl"), "utf8"),
      "",
      version(),
    );
    for (const { chunkLoss, packetLoss, chunkBytes, packetBytes } of figure15.rows) {
      const chunks = -Math.expm1((chunkBytes / packetBytes) * Math.log1p(-packetLoss));
      expect(chunkLoss / chunks).toBeCloseTo(1, 9);
    }
    expect(rows).toBeGreaterThan(1000);
  });
});
