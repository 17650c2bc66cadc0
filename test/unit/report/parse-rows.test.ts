import { describe, expect, test } from "vitest";
import { mergeRows, parseRows } from "../../../src/report/parse-rows.ts";
import type { ResultRow } from "../../../src/report/row.ts";
import { sampleRow } from "./sample-rows.ts";

const row = sampleRow({ policy: "sr-rto", bytes: 2 ** 20, loss: 1e-3 });
const other = sampleRow({ policy: "sr-nack", bytes: 2 ** 20, loss: 1e-3 });
const text = (...rows: object[]) => rows.map((one) => `${JSON.stringify(one)}\n`).join("");
const parse = (input: string) => parseRows(input, "results.jsonl", "0.1.0");

function refusal(input: string): { code: string; message: string } {
  try {
    parse(input);
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error("it was not refused");
}

describe("rows of results from files", () => {
  test("rows come back as they were written", () => {
    expect(parse(text(row, other))).toEqual({ rows: [row, other], notices: [] });
  });

  test("a last line that was cut off is left out, and said so", () => {
    const whole = text(row, other);
    for (const cut of [1, 10, 100]) {
      const { rows, notices } = parse(whole.slice(0, -1 - cut));
      expect(rows).toEqual([row]);
      expect(notices).toEqual(["results.jsonl, line 2 is cut off: the 1 rows before it are used."]);
    }
  });

  test("a last line without its line break counts when it is whole", () => {
    expect(parse(text(row, other).slice(0, -1)).rows).toEqual([row, other]);
  });

  test("what is no JSON is refused, with its line", () => {
    expect(refusal(`${text(row)}{"a\n${text(other)}`).message).toMatch(/line 2 is not JSON/);
    expect(refusal("hello").message).toMatch(/line 1 is not JSON/);
  });

  test("nothing at all is refused", () => {
    for (const nothing of ["", "\n\n"]) expect(refusal(nothing).message).toMatch(/has no rows/);
  });

  test("rows of another version are refused; another last number is the same version", () => {
    expect(refusal(text({ ...row, version: "0.2.0" }))).toMatchObject({ code: "UNSUPPORTED" });
    expect(refusal(text({ ...row, version: "1.1.0" })).message).toMatch(/"1.1.0", this is 0.1.0/);
    expect(parse(text({ ...row, version: "0.1.7" })).rows).toHaveLength(1);
  });

  test("every wrong field is named", () => {
    const breaches: Partial<Record<keyof ResultRow, unknown>>[] = [
      ...[{ meanNs: "1" }, { meanNs: -1 }, { bytes: null }, { policy: 7 }, { rateBps: 0 }],
      ...[{ quantilesNs: [1, 2] }, { quantilesNs: {} }, { transport: "pigeon" }, { method: "" }],
      ...[{ exact: 1 }, { boundNs: 0 }, { collective: "star" }, { policy: "x".repeat(5000) }],
      ...[{ collective: "ring", datacenters: 1.5 }, { wireOverhead: null }, { phases: [{}] }],
    ];
    for (const breach of breaches) {
      const { code, message } = refusal(text({ ...row, ...breach }));
      expect(code).toBe("INVALID_ARGUMENT");
      expect(message).toContain(Object.keys(breach).at(-1)!);
      expect(message.length).toBeLessThan(200);
    }
    for (const value of [[], 1, null, "row"]) {
      expect(refusal(`${JSON.stringify(value)}\n`).message).toMatch(/is no row of results/);
    }
  });

  test("a row none of whose trials were delivered needs no times", () => {
    const failed = {
      ...row,
      failed: row.trials,
      meanNs: null,
      quantilesNs: null,
      wireOverhead: null,
    };
    expect(parse(text(failed)).rows).toHaveLength(1);
  });

  test("a row that comes in two files counts once, and that is said", () => {
    const { rows, notices } = mergeRows([parse(text(row, other)), parse(text(other))]);
    expect(rows).toEqual([row, other]);
    expect(notices).toEqual(["1 rows came more than once: the first of each is used."]);
  });
});
