/** sdr links and sdr links fit as commands. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { delayQuantile } from "../../../src/link/fit-delay.ts";
import { PROFILES, parseLink } from "../../../src/link/profile.ts";
import { cleanUp, run, scratch } from "./sdr.ts";

afterEach(cleanUp);

function file(name: string, content: string | Uint8Array): string {
  const path = join(scratch(), name);
  writeFileSync(path, content);
  return path;
}

/** Bursts of `length` in `packets`, each after a gap of its own; every one of them is lost. */
function bursty(packets: number, length: number, gap: number): string {
  const random = new Random(3, "bursts");
  let bits = "";
  while (bits.length < packets) {
    bits += "0".repeat(random.int(1, 2 * gap)) + "1".repeat(length);
  }
  return bits.slice(0, packets);
}

describe("sdr links", () => {
  test("lists every shipped link with its figures and source", async () => {
    const { status, stdout, stderr } = await run("links");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const lines = stdout.split("\n");
    for (const { name } of PROFILES)
      expect(lines.filter((line) => line.startsWith(`${name} `))).toHaveLength(1);
    const starlink = lines.find((line) => line.startsWith("starlink-loaded "));
    expect(starlink).toMatch(/150 Mbit\/s +95 ms +1\.56 % +4\.00 +Michel/);
    expect(lines.find((line) => line.startsWith("cscs-350km "))).toContain("0.1 % to 1 %");
  });

  test("the same as JSON, with terms that parse", async () => {
    const { stdout } = await run("links", "--json");
    const { links } = JSON.parse(stdout);
    expect(links.map(({ name }: { name: string }) => name)).toEqual(
      PROFILES.map(({ name }) => name),
    );
    const wan = links.find(({ name }: { name: string }) => name === "wan-3750km");
    expect(wan).toMatchObject({ rateBps: 400e9, rttNs: 25e6, jitterNs: 0, packetLoss: 1e-5 });
    for (const { name, link } of links) {
      expect({ ...parseLink(link), name }).toEqual(parseLink(name));
    }
  });

  test("one in full, by name or by terms", async () => {
    const named = await run("links", "uno-d1");
    expect(named.stdout).toContain(
      '--link        "rate 100gbit delay 1ms loss gemodel 0.00789019%',
    );
    expect(named.stdout).toContain("Uno, SC'25");
    const terms = await run("links", "delay 3ms loss gemodel 1% 10%", "--json");
    expect(JSON.parse(terms.stdout)).toMatchObject({
      link: "delay 3ms loss gemodel 1% 10% 100% 0%",
      rttNs: 6e6,
      burstPackets: expect.closeTo(10, 9),
    });
  });

  test("an unknown name is a usage error that lists the known ones", async () => {
    const { status, stderr } = await run("links", "moon");
    expect(status).toBe(2);
    expect(stderr).toMatch(/^sdr: INVALID_ARGUMENT: link "moon" is neither .*wan-3750km/);
  });
});

describe("sdr links fit", () => {
  test("bursts become a link with their length, which --out writes once", async () => {
    const trace = file("trace.txt", bursty(100_000, 8, 800).replace(/(.{80})/g, "$1\n"));
    const out = join(scratch(), "fitted.link");
    const fitted = await run("links", "fit", trace, "--out", out, "--json");
    expect({ status: fitted.status, stderr: fitted.stderr }).toEqual({ status: 0, stderr: "" });
    const { link, loss, delay } = JSON.parse(fitted.stdout);
    expect(delay).toBeNull();
    expect(loss.packets).toBe(100_000);
    expect(loss.meanBurst).toBeCloseTo(8, 1);
    expect(loss.loss).toBeGreaterThan(loss.lossLow);
    expect(loss.candidates.length).toBe(4);
    const { geR } = parseLink(link);
    expect(1 / geR!).toBeCloseTo(8, 1);
    expect(readFileSync(out, "utf8")).toBe(`${link}\n`);
    // It can be given to --link as it is.
    const shown = await run("links", readFileSync(out, "utf8"), "--json");
    expect(JSON.parse(shown.stdout).link).toBe(link);
    const again = await run("links", "fit", trace, "--out", out);
    expect(again.status).toBe(1);
    expect(again.stderr).toMatch(/^sdr: FILE: .* exists/);
  });

  test("people see models, run lengths and the terms", async () => {
    const trace = file("trace.txt", bursty(20_000, 4, 200));
    const { stdout } = await run("links", "fit", trace);
    expect(stdout).toContain("Gilbert");
    expect(stdout).toMatch(/runs of losses, mean 4\.00 packets/);
    expect(stdout).toMatch(/^--link "loss gemodel /m);
    // Bursts of one length only are nothing that a chain makes: said so.
    expect(stdout).toContain("more than chance explains");
  });

  test("a CSV gives delay, jitter and distribution, too", async () => {
    const random = new Random(5, "csv");
    const lines = Array.from({ length: 5000 }, (_, i) => {
      const sent = 1_790_000_000_000_000_000n + BigInt(i) * 80_000n;
      const delay = Math.round(25e6 + 1e6 * delayQuantile("normal", random.float()));
      return `${i},${sent},${random.chance(0.02) ? "" : sent + BigInt(delay)}`;
    });
    const path = file("record.csv", `sequence,sent_ns,received_ns\n${lines.join("\n")}\n`);
    const { stdout } = await run("links", "fit", path, "--json");
    const { link, loss } = JSON.parse(stdout);
    const fitted = parseLink(link);
    expect(fitted).toMatchObject({ distribution: "normal", loss: "bernoulli" });
    expect(Math.abs(fitted.delayNs! / 25e6 - 1)).toBeLessThan(0.01);
    expect(Math.abs(fitted.jitterNs! / 1e6 - 1)).toBeLessThan(0.1);
    expect(loss.lossLow).toBeLessThan(0.02);
    expect(loss.lossHigh).toBeGreaterThan(0.02);
    const people = await run("links", "fit", path);
    expect(people.stdout).toContain("median 25");
  });

  test("none lost, all lost: bounds in words and figures", async () => {
    const none = await run("links", "fit", file("none.txt", "0".repeat(3000)));
    expect(none.stdout).toContain("the loss is below 0.1 %");
    expect(none.stdout).toContain('--link "none"');
    const all = await run("links", "fit", file("all.txt", new Uint8Array(3000).fill(1)));
    expect(all.stdout).toContain("the loss is above 99.9 %");
    expect(all.stdout).toContain('--link "loss 100%"');
  });

  test.each([
    ["other characters", "00 01 0x", 'character 8 is "x"'],
    ["a line cut off", "1,5,6\n2,6,7\n3,8", "no end"],
  ])("%s is a usage error that names file and place, and writes nothing", async (_, text, what) => {
    const path = file("bad.txt", text);
    const out = join(scratch(), "out.link");
    const { status, stdout, stderr } = await run("links", "fit", path, "--out", out);
    expect(status).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toContain(`sdr: INVALID_ARGUMENT: ${path}: `);
    expect(stderr).toContain(what);
    expect(existsSync(out)).toBe(false);
  });

  test("a missing file, a folder and no file at all", async () => {
    const missing = await run("links", "fit", join(scratch(), "none"), "--json");
    expect(missing.stderr).toContain("NOT_FOUND");
    expect(JSON.parse(missing.stdout).error.code).toBe("NOT_FOUND");
    expect((await run("links", "fit", scratch())).stderr).toContain("is a directory");
    const nothing = await run("links", "fit");
    expect(nothing.status).toBe(2);
    expect(nothing.stderr).toMatch(/^sdr: INVALID_ARGUMENT: missing required argument 'trace'/);
  });
});
