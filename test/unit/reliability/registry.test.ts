import { expect, test } from "vitest";
import { POLICIES, parsePolicy } from "../../../src/reliability/registry.ts";

test.each([
  ["gbn", "gbn"],
  ["sr-rto", "sr-rto"],
  [" SR-RTO ", "sr-rto"],
  ["sr-rto()", "sr-rto"],
  ["sr-rto(alpha=2)", "sr-rto"],
  ["sr-rto(alpha=1)", "sr-rto(alpha=1)"],
  ["sr-rto(.5)", "sr-rto(alpha=0.5)"],
  ["sr-nack", "sr-nack"],
  ["sr-nack( alpha = 4 , reorder = 0.25 )", "sr-nack(alpha=4,reorder=0.25)"],
  ["sr-nack(2, 1e-3)", "sr-nack(reorder=0.001)"],
])("%j is %j", (text, name) => {
  expect(parsePolicy(text).name).toBe(name);
  expect(parsePolicy(parsePolicy(text).name).name).toBe(name);
});

test.each([
  ["", '""', "gbn, sr-rto, sr-nack"],
  ["tcp", '"tcp"', "gbn, sr-rto, sr-nack"],
  ["sr-rto(1", '"sr-rto(1"', "gbn, sr-rto, sr-nack"],
  ["sr-rto(beta=1)", '"beta=1"', "takes alpha"],
  ["sr-rto(1,2)", '"2"', "takes alpha"],
  ["sr-rto(alpha=1,alpha=2)", '"alpha=2"', "takes alpha"],
  ["sr-rto(alpha=x)", '"x"', "takes alpha"],
  ["sr-rto(alpha=0)", "alpha 0", "0.1 to 100"],
  ["sr-rto(alpha=1e-9)", "alpha 1e-9", "0.1 to 100"],
  ["sr-nack(reorder=2)", "reorder 2", "at most 1"],
  ["gbn(1)", '"1"', "takes no options"],
  ["sr-rto(__proto__=1)", "__proto__", "takes alpha"],
])("%j is refused, showing %s and %s", (text, shown, remedy) => {
  expect(() => parsePolicy(text)).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(shown) }),
  );
  expect(() => parsePolicy(text)).toThrow(remedy);
});

test("a very long name is refused without being repeated in full", () => {
  expect(() => parsePolicy("x".repeat(10_000))).toThrow(/^.{1,400}$/s);
});

test("every registered policy parses to itself and fits the wire", () => {
  for (const { name, summary } of POLICIES) {
    expect(parsePolicy(name).name).toBe(name);
    expect(summary.length).toBeLessThan(80);
  }
  const longest = parsePolicy(`sr-nack(alpha=${1 / 3},reorder=${1 / 3})`).name;
  expect(longest.length).toBeLessThanOrEqual(64);
});
