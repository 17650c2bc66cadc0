import { expect, test } from "vitest";
import { assert, check, ERROR_NUMBERS, SdrError } from "../../../src/base/errors.ts";
import { expectRefusal } from "./refusal.ts";

test("every code has a number of its own, from 1", () => {
  const numbers = Object.values(ERROR_NUMBERS);
  expect(new Set(numbers).size).toBe(numbers.length);
  expect(Math.min(...numbers)).toBe(1);
});

test("an error carries code, number, remedy and cause, and tells the remedy", () => {
  const cause = new Error("inner");
  const error = new SdrError("NO_SPACE", "disk /x is full", "free 3 bytes", { cause });
  expect(error).toMatchObject({ code: "NO_SPACE", remedy: "free 3 bytes", cause, number: 15 });
  expect(error.message).toBe("disk /x is full (free 3 bytes)");
  expect(new SdrError("CLOSED", "gone", "").message).toBe("gone");
});

test("check refuses arguments, assert names a broken invariant of our own", () => {
  expectRefusal(() => check(false, "x is 3", "give 2"), "INVALID_ARGUMENT", ["x is 3", "give 2"]);
  expect(() => check(true, "", "")).not.toThrow();
  expect(() => assert(false, "a <= b")).toThrow(/^invariant broken: a <= b$/);
  expect(() => assert(true, "")).not.toThrow();
});
