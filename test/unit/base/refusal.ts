import { expect } from "vitest";
import { type ErrorCode, SdrError } from "../../../src/base/errors.ts";

/** Asserts that `call` throws an SdrError of this code whose message holds every one of `parts`. */
export function expectRefusal(call: () => unknown, code: ErrorCode, parts: string[] = []): void {
  let thrown: unknown;
  try {
    call();
  } catch (error) {
    thrown = error;
  }
  expect(thrown, "nothing was thrown").toBeInstanceOf(SdrError);
  const error = thrown as SdrError;
  expect(error.code).toBe(code);
  for (const part of parts) expect(error.message).toContain(part);
  expect(error.remedy, "an error says what to do").not.toBe("");
}
