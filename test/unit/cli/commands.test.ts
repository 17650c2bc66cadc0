/** sdr emulate and sdr demo as commands, and what every command makes of wrong arguments. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { cleanUp, run, scratch, start, until } from "./sdr.ts";

afterEach(cleanUp);

const SMALL = ["--size", "4MiB", "--link", "rate 100gbit delay 1ms loss 0.1%"];

describe("sdr emulate", () => {
  test("prints the documented fields, and the lossless time where nothing is lost", async () => {
    const link = ["--link", "rate 100gbit delay 1ms", "--reverse-link", "delay 2ms"];
    const policies = ["--policy", "gbn", "--policy", "sr-rto(1)"];
    const { status, stdout, stderr } = await run(
      ...["emulate", "--size", "4MiB", ...link, ...policies, "--trials", "3", "--json"],
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const { results, ...rest } = JSON.parse(stdout);
    const idealNs = (4 * 2 ** 20 * 8) / 100 + 3e6;
    expect(rest).toEqual({
      link: "rate 100gbit delay 1ms",
      reverseLink: "delay 2ms",
      seed: 1,
      message: { bytes: 4 * 2 ** 20, chunks: 64, packets: 1024 },
      idealNs,
      boundNs: idealNs,
    });
    expect(results.map(({ policy }: { policy: string }) => policy)).toEqual([
      "gbn",
      "sr-rto(alpha=1)",
    ]);
    for (const result of results) {
      const { policy: _, completionNs, slowdown, ...counts } = result;
      expect(Object.keys(completionNs).sort()).toEqual([
        "ci95",
        "max",
        "mean",
        "min",
        "p50",
        "p99",
        "p999",
      ]);
      expect(completionNs.ci95).toBe(0);
      expect(Math.abs(completionNs.mean - idealNs)).toBeLessThan(100);
      expect(Object.keys(slowdown).sort()).toEqual(["mean", "p50", "p99", "p999"]);
      expect(slowdown.mean).toBeCloseTo(1, 4);
      expect(counts).toMatchObject({ trials: 3, chunksRetransmitted: 0, delivered: 3, failed: 0 });
      expect(counts.wireBytes).toBeGreaterThan(4 * 2 ** 20);
      expect(counts.overhead).toBeCloseTo(counts.wireBytes / (4 * 2 ** 20) - 1, 9);
      expect(counts.controlFrames).toBeGreaterThan(0);
    }
  });

  test("gives the same for any number of jobs, another for another seed", async () => {
    const emulate = (...args: string[]) =>
      run("emulate", ...SMALL, "--trials", "40", "--json", ...args);
    const [one, three, other] = await Promise.all([
      emulate("--jobs", "1", "--seed", "7"),
      emulate("--jobs", "3", "--seed", "7"),
      emulate("--jobs", "2", "--seed", "8"),
    ]);
    expect(one.status).toBe(0);
    expect(three.stdout).toBe(one.stdout);
    expect(JSON.parse(other.stdout).results).not.toEqual(JSON.parse(one.stdout).results);
    expect(JSON.parse(one.stdout).results[0].chunksRetransmitted).toBeGreaterThan(0);
  });

  test("carries no bytes, one byte, and more than the default split holds", async () => {
    for (const size of ["0", "1", "2GiB"]) {
      const ended = await run(
        "emulate",
        "--size",
        size,
        "--trials",
        "1",
        "--policy",
        "sr-nack",
        "--json",
      );
      expect(ended.stderr).toBe("");
      expect(JSON.parse(ended.stdout).results[0].delivered).toBe(1);
    }
  });

  test("nothing gets through: status 1, one document, the count", async () => {
    const { status, stdout, stderr } = await run(
      ...["emulate", "--size", "1MiB", "--link", "delay 1ms loss 100%", "--trials", "2", "--json"],
    );
    expect(status).toBe(1);
    expect(stderr).toMatch(/^sdr: PEER_UNREACHABLE: trial 0 of sr-rto /);
    const { boundNs, results } = JSON.parse(stdout);
    expect(boundNs).toBeNull();
    expect(results[0]).toMatchObject({
      completionNs: null,
      slowdown: null,
      delivered: 0,
      failed: 2,
    });
  });

  test("reads a trace from a file", async () => {
    const trace = join(scratch(), "trace.txt");
    // Its length shares no factor with a chunk: a repeated chunk does not lose the same packet again.
    writeFileSync(trace, `1${"0".repeat(36)}\n`);
    const link = `rate 1gbit delay 1ms loss trace @${trace}`;
    const { stdout } = await run(
      "emulate",
      "--size",
      "1MiB",
      "--link",
      link,
      "--trials",
      "1",
      "--json",
    );
    expect(JSON.parse(stdout).results[0].chunksRetransmitted).toBeGreaterThan(0);
  });

  test("a table for people", async () => {
    const { stdout, stderr } = await run("emulate", ...SMALL, "--trials", "2");
    expect(stdout).toMatch(/^policy +completion/);
    expect(stdout).toMatch(/^sr-nack .* 2 of 2$/m);
    expect(stderr).toContain("4 MiB in 64 chunks of 1024 packets over 100 Gbit/s, 1 ms one way");
  });

  test("ends at SIGINT, with threads or without", async () => {
    for (const jobs of ["1", "2"]) {
      const long = start("emulate", "--size", "1GiB", "--trials", "100000", "--jobs", jobs);
      await until("it says what it does", () => long.stderr.includes("trials"));
      long.kill("SIGINT");
      const { status, stderr } = await long.end();
      expect(stderr).toMatch(/^sdr: ABORTED: interrupted by SIGINT$/m);
      expect(status).toBe(1);
    }
  });
});

describe("sdr demo", () => {
  test("every policy carries the file, and the figures are there", async () => {
    const path = join(scratch(), "small");
    writeFileSync(path, new Random(1).fill(new Uint8Array(3_000_000)));
    const link = "rate 1gbit delay 2ms loss 2% duplicate 1% reorder 1%";
    const ended = await run("demo", "--file", path, "--link", link, "--packet", "1400", "--json");
    expect(ended.stderr).toBe("");
    expect(ended.status).toBe(0);
    const { file, results, ...rest } = JSON.parse(ended.stdout);
    expect(file).toMatchObject({ name: "small", bytes: 3_000_000 });
    expect(rest).toEqual({ link, rttNs: 4e6, seed: 1 });
    expect(results.map(({ policy }: { policy: string }) => policy)).toEqual([
      "gbn",
      "sr-rto",
      "sr-nack",
      "ec-mds(32,8)",
      "ec-xor(32,8)",
      "hybrid",
      "auto",
    ]);
    const packets = Math.ceil(3_000_000 / 1400);
    for (const row of results) {
      expect(row.verdict).toBe("intact");
      expect(row.idealNs).toBe(Math.round((3_000_000 + packets * 24) * 8 + 4e6));
      expect(row.slowdown).toBeCloseTo(row.completionNs / row.idealNs, 9);
      expect(row.slowdown).toBeGreaterThanOrEqual(1);
      for (const count of [
        "dropped",
        "duplicated",
        "reordered",
        "chunksRetransmitted",
        "controlFrames",
      ]) {
        expect(row[count], count).toBeGreaterThan(0);
      }
    }
  });

  test("ends at SIGINT, and its receiving process with it", async () => {
    const demo = start("demo", "--link", "rate 10mbit delay 1ms");
    await until("it says what it does", () => demo.stderr.includes("each direction"));
    demo.kill("SIGINT");
    // "close" comes when the receiving process too has let go of stderr.
    const { status, stderr } = await demo.end();
    expect(stderr).toMatch(/^sdr: ABORTED: interrupted by SIGINT$/m);
    expect(status).toBe(1);
  });
});

describe("wrong arguments: status 2, one line with a code and a remedy", () => {
  const send = ["send", "package.json", "127.0.0.1:9"];
  test.each([
    ["no command", []],
    ["an unknown command", ["bogus"]],
    ["an unknown option", ["emulate", "--bogus"]],
    ["too many arguments", ["demo", "extra"]],
    ["a missing argument", ["send", "file"]],
    ["an unknown policy", ["emulate", "--policy", "nope"]],
    ["an unknown policy to send by", [...send, "--policy", "nope"]],
    ["a policy given twice", ["demo", "--policy", "gbn", "--policy", "gbn"]],
    ["an unknown link", ["emulate", "--link", "nowhere"]],
    ["a wrong term", [...send, "--link", "loss 200%"]],
    ["a wrong term for the demo", ["demo", "--link", "rate fast"]],
    ["a wrong size", ["emulate", "--size", "1parsec"]],
    ["a negative size", ["emulate", "--size=-1"]],
    ["a chunk that is not whole packets", ["emulate", "--chunk", "5000"]],
    ["a packet too small", [...send, "--packet", "3"]],
    ["no trials", ["emulate", "--trials", "0"]],
    ["trials that are no number", ["emulate", "--trials", "many"]],
    ["no jobs", ["emulate", "--jobs", "0"]],
    ["a wrong seed", ["emulate", "--seed", "1.5"]],
    ["a wrong rate", [...send, "--rate", "fast"]],
    ["a wrong time", [...send, "--peer-timeout", "5"]],
    ["too many channels", [...send, "--channels", "1000"]],
    ["an address without a port", ["send", "package.json", "127.0.0.1"]],
    ["an IPv6 address without brackets", ["send", "package.json", "::1:9"]],
    ["a port out of range", ["recv", "65536"]],
    ["an address of another machine", ["recv", "0", "--host", "192.0.2.1"]],
  ])("%s", async (_, args) => {
    const { status, stdout, stderr } = await run(...args);
    expect(stderr).toMatch(/^sdr: [A-Z_]+: .+ \(.+\)$/m);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  });

  test("with --json the error is the document", async () => {
    const { status, stdout } = await run("emulate", "--policy", "nope", "--json");
    expect(status).toBe(2);
    expect(JSON.parse(stdout).error).toMatchObject({ code: "INVALID_ARGUMENT", number: 1 });
  });

  test("help and version are no errors", async () => {
    for (const args of [["--help"], ["send", "--help"], ["--version"]]) {
      const { status, stdout, stderr } = await run(...args);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(stdout).not.toBe("");
    }
  });
});
