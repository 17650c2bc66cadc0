import { expect } from "vitest";
import { type ErrorCode, SdrError } from "../../../src/base/errors.ts";

/** Asserts that the promise rejects with an SdrError of this code whose message holds every one of `parts`. */
export async function expectRejection(
  promise: Promise<unknown>,
  code: ErrorCode,
  parts: string[] = [],
): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error, "nothing was thrown").toBeInstanceOf(SdrError);
  const { code: actual, message, remedy } = error as SdrError;
  expect({ code: actual, message }).toMatchObject({ code });
  for (const part of parts) expect(message).toContain(part);
  expect(remedy, "an error says what to do").not.toBe("");
}
