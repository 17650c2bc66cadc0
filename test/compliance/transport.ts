/**
 * What every transport must do, as one suite: a transport adopts it with a fixture maker. Cases use the published
 * calls alone. What a transport's capabilities rule out is skipped with the reason in the title.
 */
import { describe, test } from "vitest";
import { chunkBytesOf, type FixtureMaker } from "./fixture.ts";
import { abortCases } from "./transport-aborts.ts";
import { dataCases } from "./transport-data.ts";
import { faultCases } from "./transport-faults.ts";
import { lifeCases } from "./transport-life.ts";
import { memoryCases } from "./transport-memory.ts";

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
    describe("life", () => lifeCases(maker));
    describe("early ends", () => abortCases(maker, chunkBytesOf(maker)));
    describe("memory and arguments", () => memoryCases(maker, chunkBytesOf(maker)));
  });
}
