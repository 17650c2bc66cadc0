/**
 * What every transport must do, as one suite: a transport adopts it with a fixture maker. Cases use the published
 * calls alone. What a transport's capabilities rule out is skipped with the reason in the title.
 */
import { describe, test } from "vitest";
import type { FixtureMaker } from "./fixture.ts";
import { dataCases } from "./transport-data.ts";
import { faultCases } from "./transport-faults.ts";
import { lifeCases } from "./transport-life.ts";

export function transportCompliance(maker: FixtureMaker): void {
  const { name, unavailable } = maker;
  describe(`transport: ${name}`, () => {
    if (unavailable !== undefined) {
      process.stdout.write(`skipped transport ${name}: ${unavailable}\n`);
      test.skip(`cannot run here: ${unavailable}`, () => {});
      return;
    }
    describe("data", () => dataCases(maker));
    describe("faults", () => faultCases(maker));
    describe("life and errors", () => lifeCases(maker));
  });
}

/** A case that runs only where `possible`; else it is listed as skipped and the reason printed. */
export function caseIf(
  possible: boolean,
  reason: string,
  title: string,
  body: () => Promise<void>,
): void {
  if (possible) {
    test(title, body);
    return;
  }
  process.stdout.write(`skipped "${title}": ${reason}\n`);
  test.skip(`${title} (${reason})`, () => {});
}
