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
  ["ec-mds", "ec-mds(32,8)"],
  ["ec-xor()", "ec-xor(32,8)"],
  ["ec-mds(32,8)", "ec-mds(32,8)"],
  ["ec-mds(k=20, m=5)", "ec-mds(20,5)"],
  ["EC-XOR(m=3)", "ec-xor(32,3)"],
  ["ec-mds(255,1,0.25)", "ec-mds(255,1)"],
  ["ec-mds(1,255, beta=.5)", "ec-mds(1,255,beta=0.5)"],
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
  ["ec-mds(0,8)", "k 0", "k >= 1"],
  ["ec-mds(2.5)", "k 2.5", "whole numbers"],
  ["ec-mds(32,0)", "m 0", "m >= 1"],
  ["ec-mds(200,57)", "k 200 and m 57", "k + m <= 256"],
  ["ec-xor(4)", "m 8 is more than k 4", "m <= k"],
  ["ec-xor(32,8,0)", "beta 0", "at most 16"],
  ["ec-mds(32,8,17)", "beta 17", "at most 16"],
  ["ec-mds(32,8,1,1)", '"1"', "takes k, m, beta"],
  ["ec-mds(32,k=32)", '"k=32"', "given twice"],
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
    const canonical = parsePolicy(name).name;
    expect(canonical.startsWith(name)).toBe(true);
    expect(parsePolicy(canonical).name).toBe(canonical);
    expect(summary.length).toBeLessThan(80);
  }
  const longest = [`sr-nack(alpha=${1 / 3},reorder=${1 / 3})`, `ec-mds(128,128,${1 / 3})`];
  for (const text of longest) expect(parsePolicy(text).name.length).toBeLessThanOrEqual(64);
});
