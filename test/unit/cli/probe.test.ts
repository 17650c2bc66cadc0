/** sdr probe finds what is injected on loopback: losses one by one, bursts, delay, loss by payload. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { type MeasureOptions, measure } from "../../../src/cli/path/probe-measure.ts";
import {
  answerBytes,
  decodeAnswer,
  decodeOffer,
  encodeAnswer,
  encodeOffer,
  PROBE_LIMITS,
  rounds,
} from "../../../src/cli/path/probe-protocol.ts";
import { type Probed, ProbeServer } from "../../../src/cli/path/probe-serve.ts";
import { type LinkProfile, parseLink } from "../../../src/link/profile.ts";
import { ChunkBitmap } from "../../../src/reliability/bitmap.ts";
import { Context, connect, SdrError } from "../../../src/sdk/index.ts";
import { cleanUp, listening, run, scratch, start, until } from "./sdr.ts";

afterEach(cleanUp);

/** Runs `work` against a listening end in this process; tells what that end saw. */
async function served<T>(
  work: (port: number) => Promise<T>,
  link: LinkProfile = {},
): Promise<{ result: T; probed: Probed[]; failed: SdrError[] }> {
  const probed: Probed[] = [];
  const failed: SdrError[] = [];
  const server = await ProbeServer.open({
    ...{ port: 0, host: "127.0.0.1", link, udpPort: 0, seed: 2, peerTimeoutNs: 5e9 },
    onProbed: (one) => probed.push(one),
    onFailed: (error) => failed.push(error),
  });
  const stop = new AbortController();
  const running = server.run(stop.signal);
  try {
    return { result: await work(server.port), probed, failed };
  } finally {
    stop.abort();
    await running;
  }
}

function options(port: number, link: LinkProfile, more: Partial<MeasureOptions> = {}) {
  return {
    ...{ to: { host: "127.0.0.1", port }, link, seed: 1, udpPort: 0, peerTimeoutNs: 5e9 },
    ...{ payloads: [1024], leaveOut: false, packets: 4000, rateBps: 200e6 },
    signal: new AbortController().signal,
    ...more,
  };
}

/** A connection that a listening end takes. */
const SMALL = { packetBytes: 512, chunkBytes: 512, maxMessageBytes: 512, maxParityBytes: 0 };

/** As many as the first packets of a trace lose. */
function lostIn(trace: Uint8Array, packets: number): number {
  return trace.subarray(0, packets).reduce((sum, bit) => sum + bit, 0);
}

describe("what is injected is found", () => {
  test("1 % of independent losses, each one, within the interval; the delay both ways", async () => {
    const random = new Random(1, "losses");
    const lossTrace = Uint8Array.from({ length: 20_000 }, () => (random.chance(0.01) ? 1 : 0));
    const link: LinkProfile = { loss: "trace", lossTrace, delayNs: 5e6 };
    const back: LinkProfile = { delayNs: 3e6 };
    const { result, probed } = await served((port) => measure(options(port, link)), back);
    const { sizes, rtt, leftOut } = result;
    expect(leftOut).toEqual([]);
    const { trace, fit } = sizes[0]!;
    expect(Buffer.compare(trace, lossTrace.subarray(0, 4000))).toBe(0);
    expect(fit.lossLow).toBeLessThan(0.01);
    expect(fit.lossHigh).toBeGreaterThan(0.01);
    expect(result.link.loss).toBe("bernoulli");
    expect(rtt.minNs).toBeGreaterThanOrEqual(8e6);
    expect(rtt.medianNs).toBeGreaterThanOrEqual(rtt.minNs);
    expect(rtt.p99Ns).toBeGreaterThanOrEqual(rtt.medianNs);
    // The echoes go over a link of their own: it loses what the trace's beginning loses.
    expect(rtt.samples + rtt.lost).toBe(PROBE_LIMITS.echoes - PROBE_LIMITS.echoesCold);
    expect(Math.abs(result.link.delayNs! - rtt.medianNs / 2)).toBeLessThanOrEqual(500);
    expect(probed).toContainEqual(
      expect.objectContaining({ payloadBytes: 1024, packets: 4000, lost: fit.lost }),
    );
  });

  test("bursts of 8, over several rounds, as a chain of that length", async () => {
    const random = new Random(2, "bursts");
    let bad = false;
    const lossTrace = Uint8Array.from({ length: 60_000 }, () => {
      const lost = bad ? 1 : 0;
      bad = bad ? !random.chance(1 / 8) : random.chance(1 / 800);
      return lost;
    });
    const link: LinkProfile = { loss: "trace", lossTrace };
    const more = { payloads: [256], packets: 40_000 };
    const { result } = await served((port) => measure(options(port, link, more)));
    const { fit } = result.sizes[0]!;
    // Between rounds one packet, or a few, are notes.
    expect(rounds(40_000, 256).length).toBe(3);
    expect(Math.abs(fit.lost - lostIn(lossTrace, 40_000))).toBeLessThan(30);
    expect(result.link).toMatchObject({ loss: "gilbert_elliott", geLossBad: 1 });
    expect(Math.abs(fit.meanBurst - 8)).toBeLessThan(2);
    expect(Math.abs(fit.fittedBurst - 8)).toBeLessThan(2);
  });

  test("loss by payload, with random losses of everything else, too", async () => {
    const link = parseLink("loss size 1024:0.5%,8192:10%");
    const more = { payloads: [1024, 8192], packets: 3000 };
    const { result } = await served((port) => measure(options(port, link, more)));
    expect(result.bySize).toBe(true);
    expect(result.link.lossBySize!.map(([bytes]) => bytes)).toEqual([1024, 8192]);
    // Five standard deviations: 1 % and 10 % are told apart whatever the seed.
    const [small, large] = result.sizes.map(({ fit }) => fit.loss) as [number, number];
    expect(Math.abs(small - 0.005)).toBeLessThan(0.0065);
    expect(Math.abs(large - 0.1)).toBeLessThan(0.028);
  });

  test("a clear path: no loss, and how much there may be at most", async () => {
    const { result } = await served((port) => measure(options(port, {}, { packets: 3000 })));
    expect(result.sizes[0]!.fit).toMatchObject({ lost: 0, lossLow: 0, lossHigh: 0.001 });
    expect(result.link.loss).toBeUndefined();
  });
});

describe("what cannot be measured", () => {
  test("payloads beyond the MTU are refused, or left out where none were asked for", async () => {
    const more = { payloads: [1024, 65_535], packets: 100 };
    const refused = served((port) => measure(options(port, {}, more)));
    await expect(refused).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/65535 B is more than the \d+ B .* MTU .*--payload/),
    });
    const { result } = await served((port) =>
      measure(options(port, {}, { ...more, leaveOut: true })),
    );
    expect(result.sizes.map(({ payloadBytes }) => payloadBytes)).toEqual([1024]);
    expect(result.leftOut).toMatchObject([{ payloadBytes: 65_535 }]);
  });

  test("another version, and what is no probe, are refused at both ends", async () => {
    const context = Context.udp();
    const offer = (port: number, meta: unknown) =>
      connect(context, { host: "127.0.0.1", port, meta, attributes: SMALL });
    const { failed } = await served(async (port) => {
      for (const meta of [{ probe: 99 }, { file: 1 }, { probe: 1, kind: "loss", packets: 0 }]) {
        await expect(offer(port, meta)).rejects.toMatchObject({ code: "PEER_INCOMPATIBLE" });
      }
    });
    context.close();
    expect(failed.map(({ message }) => message)).toEqual([
      expect.stringContaining("version 99, this server by 1"),
      expect.stringContaining("does not probe"),
      expect.stringContaining("not valid"),
    ]);
  });

  test("offers and answers survive the way, hostile ones are refused", () => {
    for (const offer of [{ kind: "echo" }, { kind: "loss", packets: 77 }] as const)
      expect(decodeOffer(encodeOffer(offer))).toEqual(offer);
    for (const packets of [-1, 0.5, "7", null, PROBE_LIMITS.packetsMax + 1, Number.NaN])
      expect(() => decodeOffer({ probe: 1, kind: "loss", packets })).toThrow(SdrError);
    for (const meta of [undefined, null, 7, "x", [], { probe: 1 }, { probe: 1, kind: "x" }])
      expect(() => decodeOffer(meta)).toThrow(SdrError);
    const bits = new ChunkBitmap(Uint32Array.of(0b1011, 1), 33);
    const lost = new Uint8Array(33);
    decodeAnswer(encodeAnswer(bits, 33), lost);
    expect([...lost].flatMap((bit, i) => (bit === 0 ? [i] : []))).toEqual([0, 1, 3, 32]);
    expect(() => decodeAnswer(new Uint8Array(answerBytes(33) + 1), lost)).toThrow(SdrError);
  });

  test("rounds hold all packets and no more memory than their limit", () => {
    for (const payloadBytes of [256, 1400, 8192, 65_000]) {
      for (const packets of [1, 257, 10_000, PROBE_LIMITS.packetsMax]) {
        const all = rounds(packets, payloadBytes);
        expect(all.reduce((sum, count) => sum + count, 0)).toBe(packets);
        const most = Math.max(...all);
        expect(most * payloadBytes).toBeLessThanOrEqual(PROBE_LIMITS.roundBytesMax);
        expect(Math.min(...all)).toBeGreaterThan(0);
      }
    }
  });
});

describe("sdr probe", () => {
  const listen = (...args: string[]) =>
    listening(start("probe", "--listen", "127.0.0.1", "--port", "0", ...args));
  const probe = (port: number, ...args: string[]) =>
    run("probe", "127.0.0.1", "--port", String(port), ...args);

  test("prints, writes a link once, and the listening end ends by a signal", async () => {
    const { sdr, port } = await listen("--json");
    const out = join(scratch(), "path.link");
    const trace = join(scratch(), "trace.txt");
    writeFileSync(trace, `${"0".repeat(49)}1`);
    const link = ["--link", `delay 1ms loss trace @${trace}`];
    const shape = ["--payload", "1KiB,256", "--packets", "500", "--rate", "100mbit"];
    const json = await probe(port, ...shape, ...link, "--out", out, "--json");
    expect({ status: json.status, stderr: json.stderr }).toEqual({ status: 0, stderr: "" });
    const report = JSON.parse(json.stdout);
    expect(report).toMatchObject({ host: "127.0.0.1", port, rateBps: 100e6, leftOut: [] });
    expect(report.sizes).toMatchObject([
      { payloadBytes: 256, packets: 500, lost: 10, meanBurst: 1 },
      { payloadBytes: 1024, packets: 500, lost: 10, loss: 0.02 },
    ]);
    expect(readFileSync(out, "utf8")).toBe(`${report.link}\n`);
    expect(parseLink(report.link).delayNs).toBeGreaterThanOrEqual(0.5e6);
    const people = await probe(port, ...shape, ...link);
    expect(people.stdout).toMatch(/round trip: least .* p99 .* jitter/);
    expect(people.stdout).toMatch(/ 256 B +500 +10 +2 % /);
    expect(people.stdout).toMatch(/^--link "delay .* loss /m);
    sdr.kill("SIGTERM");
    const ended = await sdr.end();
    expect(ended.status).toBe(0);
    expect(JSON.parse(ended.stdout)).toEqual({ probes: 4 });
    expect(ended.stderr).toContain("10 of 500 packets of 256 B lost");
  });

  test("nobody listens: what to start, and nothing is written", async () => {
    const { sdr, port } = await listen();
    sdr.kill("SIGTERM");
    await sdr.end();
    const out = join(scratch(), "path.link");
    const { status, stderr } = await probe(port, "--out", out);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^sdr: PEER_UNREACHABLE: .*ECONNREFUSED \(start sdr probe --listen/);
    expect(existsSync(out)).toBe(false);
  });

  /** A probe that takes minutes, sending. */
  async function underWay(port: number, ...args: string[]) {
    const long = ["--packets", "100000", "--rate", "10mbit", "--payload", "1KiB"];
    const probing = start("probe", "127.0.0.1", "--port", String(port), ...long, ...args);
    await until("it sends", () => probing.stderr.includes("sending 100000 packets of 1 KiB"));
    return probing;
  }

  test("an interrupt ends the measuring end; the other one goes on", async () => {
    const { sdr, port } = await listen();
    const out = join(scratch(), "path.link");
    const probing = await underWay(port, "--out", out);
    probing.kill("SIGINT");
    const ended = await probing.end();
    expect({ status: ended.status, stdout: ended.stdout }).toEqual({ status: 1, stdout: "" });
    expect(ended.stderr).toMatch(/^sdr: ABORTED: interrupted by SIGINT$/m);
    expect(existsSync(out)).toBe(false);
    const next = await probe(port, "--packets", "100", "--payload", "1KiB", "--json");
    expect({ status: next.status, stderr: next.stderr }).toEqual({ status: 0, stderr: "" });
    sdr.kill("SIGINT");
    expect((await sdr.end()).status).toBe(0);
  });

  test("a listening end that is interrupted or killed is noticed", async () => {
    for (const [signal, code, timeout] of [
      ["SIGTERM", "PEER_CLOSED", "60s"],
      ["SIGKILL", "PEER_UNREACHABLE", "3s"],
    ] as const) {
      const { sdr, port } = await listen();
      const probing = await underWay(port, "--peer-timeout", timeout);
      sdr.kill(signal);
      const ended = await probing.end();
      expect(ended.status).toBe(1);
      expect(ended.stderr).toMatch(new RegExp(`^sdr: ${code}: `, "m"));
    }
  });

  test.each([
    [["127.0.0.1", "--payload", "1KiB,1024"], "repeat"],
    [["127.0.0.1", "--packets", "9", "--seconds", "9"], "both"],
    [["127.0.0.1", "--seconds", "3600", "--rate", "100gbit"], "packets of each payload"],
    [["--listen", "--packets", "9"], "only answers"],
    [[], "no host"],
  ])("wrong use %j: %s", async (args, what) => {
    const { status, stderr } = await run("probe", ...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^sdr: INVALID_ARGUMENT: /);
    expect(stderr).toContain(what);
  });
});
