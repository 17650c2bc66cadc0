/** sdr perf between two processes over UDP, and in one process in virtual time: what it measures, and how it fails. */
import { readFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { UsageError } from "../../../src/cli/failure.ts";
import { Pattern } from "../../../src/cli/perf/pattern.ts";
import { perfCommand } from "../../../src/cli/perf/perf.ts";
import { decodeOffer, decodeResult, decodeSent } from "../../../src/cli/perf/protocol.ts";
import { Completions } from "../../../src/cli/perf/send.ts";
import type { RunShape } from "../../../src/cli/perf/shape.ts";
import { Context, connect } from "../../../src/sdk/index.ts";
import { cleanUp, listening, run, start } from "./sdr.ts";

afterEach(cleanUp);

interface Run {
  readonly [name: string]: unknown;
  readonly drops: Readonly<Record<string, number>>;
}

async function server(...args: string[]) {
  return listening(start("perf", "-p", "0", "--host", "127.0.0.1", ...args));
}

/** Both ends of one client's measurement, their documents read. */
async function measured(args: readonly string[], serverArgs: readonly string[] = []) {
  const { sdr, port } = await server("--json", ...serverArgs);
  const client = await run("perf", "127.0.0.1", "-p", String(port), "--json", ...args);
  expect(client.stderr).toBe("");
  expect(client.status).toBe(0);
  const ended = await sdr.end();
  expect(ended.status).toBe(0);
  const runs = JSON.parse(client.stdout).runs as Run[];
  const told = JSON.parse(ended.stdout).runs as Run[];
  return { runs, told };
}

const VIRTUAL = ["perf", "-d", "emu", "--json", "--link"];

async function emulated(link: string, ...args: string[]): Promise<Run[]> {
  const { status, stderr, stdout } = await run(...VIRTUAL, link, ...args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return JSON.parse(stdout).runs as Run[];
}

describe("two processes over UDP", () => {
  test("raw writes: every message is verified, and both ends tell the same figures", async () => {
    const { runs, told } = await measured(["-s", "16KiB", "-n", "60", "--verify-every", "1"]);
    expect(runs).toHaveLength(1);
    const [one] = runs as [Run];
    // A busy machine may lose packets in its sockets: whatever is not complete is said so.
    expect(one).toMatchObject({ bytes: 16_384, iterations: 60, corrupt: 0, transport: "udp" });
    expect(Number(one.verified) + Number(one.incomplete)).toBe(60);
    expect(one.averageBps).toBeGreaterThan(0);
    expect(one.peakBps).toBeGreaterThanOrEqual(one.averageBps as number);
    expect(told.map(({ directions }) => directions)).toEqual(runs.map((each) => each.directions));
  });

  test("several queue pairs and channels, both directions, with a policy", async () => {
    const args = ["-s", "64KiB", "-n", "8", "-q", "2", "--channels", "2", "-b", "-t", "4"];
    const { runs } = await measured([...args, "--policy", "sr-nack", "--verify-every", "1"]);
    const [one] = runs as [Run];
    expect(one).toMatchObject({ iterations: 32, incomplete: 0, verified: 32, corrupt: 0 });
    const directions = one.directions as { from: string; received: { messages: number } }[];
    expect(directions.map(({ from, received }) => [from, received.messages])).toEqual([
      ["client", 16],
      ["server", 16],
    ]);
    expect(one.receiverBusy === null || (one.receiverBusy as number) > 0).toBe(true);
  });

  test("lost packets: raw messages that lack chunks are counted, and the run ends", async () => {
    const link = "loss 20%";
    const args = ["-s", "32KiB", "-n", "40", "-m", "1024", "-c", "1024", "--verify-every", "1"];
    const { runs } = await measured([...args, "--link", link, "--seed", "3"]);
    const [one] = runs as [Run];
    expect(one.incomplete).toBeGreaterThan(30); // 0.8^32 of them are whole
    expect(Number(one.verified) + Number(one.incomplete)).toBe(40);
    expect(one.missingChunks).toBeGreaterThanOrEqual(one.incomplete as number);
    expect(one.drops.linkDropped).toBeGreaterThanOrEqual(one.missingChunks as number);
    expect(one.corrupt).toBe(0);
  });

  test("the same loss under a policy: every message arrives", async () => {
    const args = ["-s", "32KiB", "-n", "20", "-m", "1024", "-c", "2048", "--verify-every", "1"];
    const { runs } = await measured([...args, "--link", "loss 5%", "--policy", "ec-mds(8,4)"]);
    expect(runs[0]).toMatchObject({ incomplete: 0, verified: 20, corrupt: 0 });
  });

  test("sweeps: a run for each number of channels and chunk size, one client", async () => {
    const args = ["-s", "8KiB", "-n", "4", "-m", "1024"];
    const { runs, told } = await measured([
      ...[...args, "--sweep-channels", "1,2", "--sweep-chunk", "1KiB,4KiB"],
    ]);
    expect(runs.map(({ channels, chunkBytes }) => [channels, chunkBytes])).toEqual([
      [1, 1024],
      [1, 4096],
      [2, 1024],
      [2, 4096],
    ]);
    expect(told).toHaveLength(4);
  });

  test("for a time instead of a number of messages; text in ib_write_bw's columns", async () => {
    const { sdr, port } = await server();
    const client = await run(
      ...["perf", "127.0.0.1", "-p", String(port), "-D", "1", "-s", "4096", "--report_gbits"],
    );
    expect(client).toMatchObject({ status: 0, stderr: "" });
    expect(client.stdout).toContain(
      " #bytes    #iterations BW peak[Gb/sec] BW average[Gb/sec] MsgRate[Mpps]",
    );
    const row = client.stdout.split("\n").find((line) => line.startsWith(" 4096 ")) ?? "";
    expect(Number(row.trim().split(/\s+/)[1])).toBeGreaterThan(1);
    expect((await sdr.end()).stdout).toContain(" 4096 ");
  });

  test("--keep serves one client after the other, until a signal", async () => {
    const { sdr, port } = await server("--keep", "--json");
    for (let i = 0; i < 2; i++) {
      const client = await run("perf", "127.0.0.1", "-p", String(port), "-n", "2", "-s", "64");
      expect(client).toMatchObject({ status: 0, stderr: "" });
    }
    sdr.kill("SIGTERM");
    const ended = await sdr.end();
    expect(ended.status).toBe(0);
    expect(JSON.parse(ended.stdout).runs).toHaveLength(2);
  });
});

describe("virtual time", () => {
  test("a rate, a delay and enough in flight give the link's rate, and no time passes outside", async () => {
    const link = "rate 10gbit delay 100us";
    const [one] = await emulated(link, "-s", "1MiB", "-n", "50", "--verify-every", "1");
    expect(one).toMatchObject({ transport: "emulated", virtualTime: true, verified: 50 });
    expect(one).toMatchObject({ incomplete: 0, corrupt: 0, receiverBusy: null });
    expect(one?.goodputBps).toBeGreaterThan(9.5e9);
    expect(one?.goodputBps).toBeLessThan(10e9);
  });

  test("all of ib_write_bw's sizes", async () => {
    const runs = await emulated("rate 100gbit delay 5us", "-a", "-n", "3", "-t", "2");
    expect(runs.map(({ bytes }) => bytes)).toEqual(
      Array.from({ length: 23 }, (_, i) => 2 ** (i + 1)),
    );
    expect(runs.every(({ incomplete, corrupt }) => incomplete === 0 && corrupt === 0)).toBe(true);
  });

  test("equal seeds give equal runs, whatever is lost", async () => {
    const args = ["rate 10gbit delay 1ms loss 2%", "-s", "256KiB", "-n", "40", "--seed", "9"];
    const first = await emulated(...(args as [string]));
    expect(first[0]?.incomplete).toBeGreaterThan(0);
    expect(await emulated(...(args as [string]))).toEqual(first);
  });
});

describe("what cannot be measured is refused", () => {
  test.each([
    [["-d", "emu"], "has no rate"],
    [["-d", "emu", "--link", "rate 1gbit", "--channels", "2"], "no threads"],
    [["-d", "emu", "--link", "rate 1gbit", "host"], "both ends in this process"],
    [["-d", "udp:nowhere", "host"], "is not numeric"],
    [["-d", "a b", "host"], "is not understood"],
    [["-x", "1", "host"], "of RDMA devices"],
    [["-d", "mlx5_0", "-m", "1000", "host"], "use 256, 512"],
    [["-s", "0", "host"], "size"],
    [["-s", "2GiB", "host"], "size"],
    [["-n", "0", "host"], "iters"],
    [["-n", "5", "-D", "1", "host"], "both"],
    [["-D", "1ns", "host"], "duration"],
    [["-t", "0", "host"], "tx-depth"],
    [["-q", "65", "host"], "qp"],
    [["-s", "1GiB", "-t", "16", "host"], "fewer or smaller messages"],
    [["--policy", "nope", "host"], "nope"],
    [["-p", "0", "host"], "port"],
    [["--sweep-channels", "1,x", "host"], "channels"],
  ])("%j", async (args, what) => {
    const refused = perfCommand().parseAsync(args, { from: "user" });
    await expect(refused).rejects.toBeInstanceOf(UsageError);
    await expect(refused).rejects.toThrow(what);
  });

  test("as one line, with exit status 2", async () => {
    const { status, stderr, stdout } = await run("perf", "-s", "0", "host");
    expect(stderr).toMatch(/^sdr: INVALID_ARGUMENT: size "0" is not valid .*\n$/);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  });

  test("a host where nobody listens", async () => {
    const { sdr, port } = await server();
    sdr.kill("SIGTERM");
    await sdr.end();
    const client = await run("perf", "127.0.0.1", "-p", String(port));
    expect(client.stderr).toMatch(/^sdr: PEER_UNREACHABLE: .*start sdr perf without a host/);
    expect(client.status).toBe(1);
  });

  test("a server killed under way ends its client, and a client its server", async () => {
    const args = ["-D", "60", "-s", "4096", "--peer-timeout", "3s"];
    for (const killed of ["server", "client"] as const) {
      const { sdr, port } = await server("--peer-timeout", "3s");
      const client = start("perf", "127.0.0.1", "-p", String(port), ...args);
      await new Promise((resume) => client.child.once("spawn", resume));
      const other = killed === "server" ? client : sdr;
      await untilBusy(sdr.child.pid as number);
      (killed === "server" ? sdr : client).kill("SIGKILL");
      const ended = await other.end();
      expect(ended.stderr).toMatch(/sdr: (PEER_UNREACHABLE|PEER_CLOSED): /);
      expect(ended.status).toBe(1);
    }
  });

  test("a second client meanwhile is told to wait", async () => {
    const { sdr, to, port } = await server();
    const first = start("perf", "127.0.0.1", "-p", String(port), "-D", "60", "-s", "4096");
    await untilBusy(sdr.child.pid as number);
    const second = await run("perf", to.split(":")[0] as string, "-p", String(port));
    expect(second.stderr).toMatch(/^sdr: BUSY: /);
    first.kill("SIGTERM");
    expect((await first.end()).stderr).toMatch(/^sdr: ABORTED: /);
    expect((await sdr.end()).status).toBe(1);
  });

  test("a client of another kind of device, and one that is no sdr perf", async () => {
    const { sdr, port } = await server();
    const shape = { bytes: 1, iterations: 1, queuePairs: 1, depth: 1, channels: 1 };
    const token = "0".repeat(32);
    const offer = { perf: 1, kind: "control", session: token, client: token, device: "verbs" };
    const offers = [{ ...offer, shape }, { file: 1 }, { ...offer, device: "udp", shape: {} }];
    for (const meta of offers)
      await expect(
        connect(({ localAddress }) => Context.udp({ address: localAddress }), {
          ...{ host: "127.0.0.1", port, meta },
        }),
      ).rejects.toMatchObject({ code: "PEER_INCOMPATIBLE" });
    const good = await run("perf", "127.0.0.1", "-p", String(port), "-n", "1");
    expect(good.status).toBe(0);
    expect((await sdr.end()).stderr.match(/PEER_INCOMPATIBLE/g)).toHaveLength(3);
  });
});

/** A run is under way: the server's process has used some processor time since it said that it listens. */
async function untilBusy(pid: number): Promise<void> {
  const used = () => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return Number(fields[11]) + Number(fields[12]);
  };
  const before = used();
  const startMs = performance.now();
  while (used() < before + 30) {
    if (performance.now() > startMs + 30_000) throw new Error("waited in vain for a run");
    await new Promise((resume) => setTimeout(resume, 20));
  }
}

describe("parts", () => {
  const shape: RunShape = {
    ...{ bytes: 1000, iterations: 1, durationNs: undefined, queuePairs: 1, depth: 2, channels: 1 },
    ...{ packetBytes: undefined, chunkBytes: undefined, policy: "none", both: false },
    verifyEvery: 1,
  };

  test("the peak is that of the fastest tenth, also of very many messages", () => {
    const completions = new Completions(0, shape);
    const count = 300_000;
    // One every 100 ns, but the second tenth of them every 50 ns.
    let ns = 0;
    for (let i = 0; i < count; i++) {
      ns += i >= count / 10 && i < count / 5 ? 50 : 100;
      completions.add(ns);
    }
    const fast = (1000 * 8e9) / 50;
    expect(completions.peakBps()).toBeGreaterThan(fast * 0.999);
    expect(completions.peakBps()).toBeLessThan(fast * 1.001);
    expect(completions.lastNs).toBe(ns);
  });

  test("of a run shorter than what is in flight the peak is the average", () => {
    const completions = new Completions(100, shape);
    completions.add(1100);
    expect(completions.peakBps()).toBe((1000 * 8e9) / 1000);
  });

  test("no peak is below the average, wherever the windows lie", () => {
    const completions = new Completions(0, shape);
    for (const ns of [0, 100, 100]) completions.add(ns);
    expect(completions.peakBps()).toBe((3 * 1000 * 8e9) / 100);
  });

  test("a message's bytes are not another's, and one wrong byte is found", () => {
    const pattern = new Pattern(3_000_000);
    const at = (message: number) =>
      pattern.region.data.slice(pattern.offset(message), pattern.offset(message) + 3_000_000);
    const data = at(7);
    expect(pattern.isIntact(7, data)).toBe(true);
    for (const other of [6, 8, 7 + 32, 7 + 1024]) expect(pattern.isIntact(other, data)).toBe(false);
    data[2_999_999]! ^= 1;
    expect(pattern.isIntact(7, data)).toBe(false);
  });

  test("reports and offers of a peer are checked", () => {
    const device = { kind: "udp", name: "udp" } as const;
    const refused = expect.objectContaining({ code: "PEER_INCOMPATIBLE" });
    for (const meta of [undefined, null, 3, {}, { perf: 2 }, { perf: 1, session: "x" }])
      expect(() => decodeOffer(meta, device)).toThrow(refused);
    const drops = { sendErrors: 0, linkDropped: 0, linkQueueDropped: 0, linkCorrupted: 0 };
    const sent = { counts: [3], bytes: 3, durationNs: 1, peakBps: 1, workers: [], drops };
    expect(decodeSent(sent, 1)).toEqual(sent);
    const bad = [
      ...[
        { ...sent, counts: [1, 2] },
        { ...sent, counts: [-1] },
        { ...sent, counts: [1.5] },
      ],
      ...[
        { ...sent, bytes: "3" },
        { ...sent, workers: [Number.NaN] },
        { ...sent, drops: {} },
      ],
      ...[undefined, { ...sent, peakBps: null }, { ...sent, workers: new Array(65).fill(0) }],
    ];
    for (const value of bad)
      expect(() => decodeSent(value, 1), JSON.stringify(value)).toThrow(refused);
    expect(() => decodeResult({ messages: -1 })).toThrow(refused);
  });
});
