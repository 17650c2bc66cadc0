/**
 * What can go wrong with an RDMA device, over the emulated one: each error names what was wrong, and what to do; a
 * hardware queue that fails takes its queue pair with it and nothing else.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import koffi from "koffi";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  Context,
  MemoryRegion,
  parsePolicy,
  type QueuePair,
  type QueuePairAttributes,
  reliableReceive,
  reliableWrite,
  SdrError,
  type VerbsTransportOptions,
} from "../../../src/sdk/index.ts";
import { DEVICES, useEmulatedDevice } from "../../compliance/verbs-fixture.ts";

const unavailable = useEmulatedDevice(DEVICES);
const configure: (text: string) => number =
  unavailable === undefined
    ? koffi.load(process.env.SDR_IBVERBS ?? "").func("int sdr_emulated_configure(const char *text)")
    : () => 0;
const count: (name: string) => number =
  unavailable === undefined
    ? koffi
        .load(process.env.SDR_IBVERBS ?? "")
        .func("uint64_t sdr_emulated_count(const char *name)")
    : () => 0;

const GOOD = "port 1 active mtu 1024; gid 1 v2 10.0.0.1";
const contexts: Context[] = [];

function use(text: string): void {
  expect(configure(text)).toBe(0);
}

function open(options: Partial<VerbsTransportOptions> = {}): Context {
  const context = Context.verbs({ device: "rxe0", ...options });
  contexts.push(context);
  return context;
}

/** The SdrError that `work` throws; each has a remedy, and names what was wrong. */
function errorOf(work: () => unknown, code: string, ...words: (string | RegExp)[]): SdrError {
  let thrown: unknown;
  try {
    work();
  } catch (error) {
    thrown = error;
  }
  return expectError(thrown, code, ...words);
}

function expectError(thrown: unknown, code: string, ...words: (string | RegExp)[]): SdrError {
  expect(thrown).toBeInstanceOf(SdrError);
  const error = thrown as SdrError;
  expect({ code: error.code, message: error.message }).toMatchObject({ code });
  for (const word of words) expect(error.message).toMatch(word);
  expect(error.remedy).not.toBe("");
  return error;
}

async function rejection(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

beforeEach(() => {
  if (unavailable === undefined) use(DEVICES);
});

afterEach(() => {
  for (const context of contexts.splice(0)) context.close();
});

describe.skipIf(unavailable !== undefined)("an RDMA device that cannot be used", () => {
  test("no library", () => {
    const program = `
      const { registerTypeScript } = await import("./test/sim/load-ts.mjs");
      registerTypeScript();
      const { Context } = await import("./src/sdk/index.ts");
      try {
        Context.verbs({ device: "rxe0" });
      } catch ({ code, message, remedy }) {
        console.log(JSON.stringify({ code, message, remedy }));
      }`;
    const root = fileURLToPath(new URL("../../..", import.meta.url));
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
      cwd: root,
      env: { ...process.env, SDR_IBVERBS: "/nowhere/libibverbs.so.1" },
      encoding: "utf8",
    });
    expect(stdout, stderr).not.toBe("");
    const { code, message, remedy } = JSON.parse(stdout);
    expect(code).toBe("ENVIRONMENT");
    expect(message).toMatch("/nowhere/libibverbs.so.1");
    expect(remedy).toMatch("libibverbs1");
  });

  test("none at all", () => {
    use("nodevices");
    errorOf(() => open(), "ENVIRONMENT", "no RDMA device", "rdma link add");
  });

  test("an unknown one: those there are, are named", () => {
    const words = ["rxe9", "rxe0, rxe1, mlx5_0, mlx5_1"];
    errorOf(() => open({ device: "rxe9" }), "INVALID_ARGUMENT", ...words);
  });

  test.each(["rxe", "mlx5"])("one that may not be opened (%s)", (kind) => {
    use(`device rxe0 ${kind}; deny EACCES; ${GOOD}`);
    errorOf(() => open(), "ACCESS_DENIED", "rxe0", "Permission denied", "/dev/infiniband");
  });

  test("one that cannot be opened", () => {
    use(`device rxe0 rxe; deny EIO; ${GOOD}`);
    errorOf(() => open(), "ENVIRONMENT", "rxe0", "Input/output error", "ibv_devinfo -d rxe0");
  });

  test("one whose ports are down", () => {
    use("device rxe0 rxe; port 1 down; gid 1 v2 10.0.0.1; port 2 down; gid 1 v2 10.0.0.2");
    errorOf(() => open(), "ENVIRONMENT", "rxe0", "port 1 is down, port 2 is down", "ip link set");
    errorOf(() => open({ port: 2 }), "ENVIRONMENT", "port 2 is down");
  });

  test("the port that is active is chosen", () => {
    use(`device rxe0 rxe; port 1 down; gid 1 v2 10.0.0.1; port 2 active; gid 1 v2 10.0.0.2`);
    expect(open().capabilities.packetBytesMax).toBe(4096);
  });

  test("a port beyond its last", () => {
    errorOf(() => open({ port: 2 }), "INVALID_ARGUMENT", "rxe0 has no port 2", "use 1 to 1");
  });

  test("Ethernet without a GID", () => {
    use("device rxe0 rxe; port 1 active");
    errorOf(() => open(), "ENVIRONMENT", "rxe0 port 1 has no GID", "ip addr add");
  });

  test("a GID that is missing", () => {
    errorOf(() => open({ gidIndex: 7 }), "INVALID_ARGUMENT", "has no GID 7", "sdr devices");
  });

  test("an MTU above the port's", () => {
    const words = ["MTU 4096", "active MTU of 1024", "ip link set"];
    errorOf(() => open({ mtu: 4096 }), "INVALID_ARGUMENT", ...words);
  });

  test.each([1500, 128, 8192, 0.5])("an MTU that is none: %d", (mtu) => {
    errorOf(() => open({ mtu }), "INVALID_ARGUMENT", `${mtu}`, "256, 512, 1024, 2048");
  });

  test.each([
    ["max_qp 3", "3 queue pairs"],
    ["max_cqe 64", "completion queues of 64"],
    ["max_qp_wr 8", "8 work requests"],
  ])("queues beyond its limits: %s", (limit, words) => {
    use(`device rxe0 rxe; limit ${limit}; ${GOOD}`);
    const context = open();
    const work = () => context.createQueuePair({ maxMessageBytes: 1 << 20 });
    errorOf(work, "ENVIRONMENT", "rxe0", words, "fewer generations");
    // Nothing is left of it.
    context.close();
    expect(count("leaked")).toBe(0);
  });

  test.each(["create_cq_ex", "create_qp_ex", "post_recv", "modify_qp"])(
    "%s that fails, at any of its calls",
    (call) => {
      for (let nth = 1; nth <= 3; nth++) {
        use(`${DEVICES}; fail ${call} ${nth} EIO`);
        const context = Context.verbs({ device: "rxe0" });
        try {
          const work = () => context.createQueuePair({ maxMessageBytes: 1 << 20 });
          // Two completion queues there are; the third call is the next queue pair's.
          if (call === "create_cq_ex" && nth === 3) work();
          errorOf(work, "ENVIRONMENT", "rxe0 gives no", "Input/output error");
          work();
        } finally {
          context.close();
        }
        expect(count("leaked")).toBe(0);
      }
    },
  );

  test("too little memory may be locked for control datagrams", () => {
    use(`${DEVICES}; memlock 65536`);
    const work = () => open().createQueuePair({ maxMessageBytes: 1 << 20 });
    errorOf(work, "ENVIRONMENT", "B of memory cannot be registered with rxe0", "locked memory");
  });
});

const ATTRIBUTES: QueuePairAttributes = {
  maxMessageBytes: 1 << 20,
  packetBytes: 1024,
  chunkBytes: 4096,
  maxMessages: 4,
};
/** What a queue pair of these attributes registers for control datagrams. */
const CONTROL_BYTES = (512 + 256) * 1024;

async function connect(a: QueuePair, b: QueuePair): Promise<void> {
  await Promise.all([a.connect(b.info()), b.connect(a.info())]);
}

function pairOn(devices: readonly [string, string], attributes: QueuePairAttributes = {}) {
  const [a, b] = devices.map((device) => open({ device }));
  if (a === undefined || b === undefined) throw new Error("two devices");
  const all = { ...ATTRIBUTES, ...attributes };
  return { a, b, qa: a.createQueuePair(all), qb: b.createQueuePair(all), attributes: all };
}

/** One message from qa to qb arrives whole. */
async function deliver(qa: QueuePair, qb: QueuePair, bytes = 20_000): Promise<void> {
  const from = Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + (i >> 8)) & 255);
  const to = MemoryRegion.allocate(bytes);
  await Promise.all([
    reliableReceive(qb, to, parsePolicy("sr-nack")),
    reliableWrite(qa, from, parsePolicy("sr-nack")),
  ]);
  expect(Buffer.compare(from, to.data)).toBe(0);
}

const MEMORY = [
  ["keys of each message", ["rxe0", "rxe1"]],
  ["root key", ["mlx5_0", "mlx5_1"]],
] as const;

describe.skipIf(unavailable !== undefined).each(MEMORY)("too little memory: %s", (_, devices) => {
  test("for a receive: it is refused, later ones work", async () => {
    use(`${DEVICES}; memlock ${2 * CONTROL_BYTES + 300_000}`);
    const { qa, qb } = pairOn(devices);
    await connect(qa, qb);
    const words = ["receive 0: 1048576 B of memory cannot be registered", "Cannot allocate memory"];
    const region = MemoryRegion.allocate(1 << 20);
    errorOf(() => qb.postReceive({ region }), "ENVIRONMENT", ...words, "locked memory");
    await deliver(qa, qb);
  });

  test("for a send: it fails on both ends, later ones work", async () => {
    use(`${DEVICES}; memlock ${2 * CONTROL_BYTES + 300_000}`);
    const { qa, qb } = pairOn(devices);
    await connect(qa, qb);
    const to = MemoryRegion.allocate(100_000);
    const receive = qb.postReceive({ region: to });
    const arrived = rejection(receive.arrived);
    const send = qa.send(MemoryRegion.allocate(1 << 20), { bytes: 100_000 });
    const words = ["data of message 0: 1048576 B of memory cannot be registered", "locked memory"];
    expectError(await rejection(send.injected), "ENVIRONMENT", ...words);
    expectError(await arrived, "ENVIRONMENT", "the peer gave up message 0");
    receive.complete();
    await deliver(qa, qb);
  });

  test("for a send that its user feeds: continue says so", async () => {
    use(`${DEVICES}; memlock ${2 * CONTROL_BYTES + 300_000}`);
    const { qa, qb } = pairOn(devices);
    await connect(qa, qb);
    const receive = qb.postReceive({ region: MemoryRegion.allocate(100_000) });
    const send = qa.startSend({ bytes: 8192 });
    await send.ready;
    const large = MemoryRegion.allocate(1 << 20);
    const request = { region: large, offset: 0, chunk: 0, bytes: 8192 };
    errorOf(
      () => send.continue(request),
      "ENVIRONMENT",
      "1048576 B of memory cannot be registered",
    );
    expect(send.continue({ ...request, region: MemoryRegion.allocate(8192) })).toBe("ok");
    send.end();
    await Promise.all([send.injected, receive.arrived]);
    receive.complete();
  });
});

type Info = Record<string, unknown> & { transport: { queues: string } };

/** A peer's info with its queues' bytes as `change` makes them. */
function changed(info: Uint8Array, change: (queues: Buffer) => Buffer): Uint8Array {
  const fields = JSON.parse(new TextDecoder().decode(info)) as Info;
  const queues = change(Buffer.from(fields.transport.queues, "base64")).toString("base64");
  const transport = { ...fields.transport, queues };
  return new TextEncoder().encode(JSON.stringify({ ...fields, transport }));
}

describe.skipIf(unavailable !== undefined)("a peer that differs", () => {
  const refused = async (qp: QueuePair, info: Uint8Array, ...words: (string | RegExp)[]) =>
    expectError(await rejection(qp.connect(info)), "PEER_INCOMPATIBLE", ...words);

  test("RC and UC", async () => {
    const qa = open().createQueuePair(ATTRIBUTES);
    const qb = open({ device: "rxe1", reliable: true }).createQueuePair(ATTRIBUTES);
    await refused(qa, qb.info(), "the peer uses RC queue pairs, this end UC");
    await refused(qb, qa.info(), "the peer uses UC queue pairs, this end RC");
  });

  test("another number of channels, of generations", async () => {
    const qa = open().createQueuePair(ATTRIBUTES);
    const b = open({ device: "rxe1", channels: 2 });
    await refused(qa, b.createQueuePair(ATTRIBUTES).info(), "2 channels", "this end 4 and 1");
    const more = b.createQueuePair({ ...ATTRIBUTES, generations: 8 });
    await refused(qa, more.info(), "generations 8");
  });

  test("an InfiniBand port and an Ethernet port", async () => {
    use(`device rxe0 rxe; ${GOOD}; device ib0 mlx5; port 1 active mtu 1024 lid 3 infiniband`);
    const { qa, qb } = pairOn(["rxe0", "ib0"]);
    await refused(qa, qb.info(), "the peer's port is InfiniBand, this end's Ethernet");
    await refused(qb, qa.info(), "the peer's port is Ethernet, this end's InfiniBand");
  });

  test("another version", async () => {
    const { qa, qb } = pairOn(["rxe0", "rxe1"]);
    const other = changed(qb.info(), (queues) => {
      queues[4] = 9;
      return queues;
    });
    await refused(qa, other, "version 9, this is 1");
  });

  test("a queue pair over UDP, and its own info", async () => {
    const { qa } = pairOn(["rxe0", "rxe1"]);
    const udp = Context.udp({ address: "127.0.0.1" });
    contexts.push(udp);
    await refused(qa, udp.createQueuePair(ATTRIBUTES).info(), '"udp", not verbs');
    errorOf(() => open({ device: "" }), "INVALID_ARGUMENT", "sdr devices");
    expectError(await rejection(qa.connect(qa.info())), "INVALID_ARGUMENT", "queue pair's own");
  });

  test("an info that is not as it was written, whichever of its bytes", async () => {
    const { qa, qb } = pairOn(["mlx5_0", "mlx5_1"]);
    const good = qb.info();
    const size = Buffer.from(
      (JSON.parse(new TextDecoder().decode(good)) as Info).transport.queues,
      "base64",
    ).length;
    for (let at = 0; at < size; at++) {
      for (const flip of [1, 0x80, 0xff]) {
        const bad = changed(good, (queues) => {
          queues[at] = (queues[at] ?? 0) ^ flip;
          return queues;
        });
        await refused(qa, bad, "the peer's info");
      }
      await refused(
        qa,
        changed(good, (queues) => queues.subarray(0, at)),
        "the peer's info",
      );
    }
    await refused(
      qa,
      changed(good, (queues) => Buffer.concat([queues, Buffer.alloc(4)])),
    );
    await connect(qa, qb); // none of them did any harm
    await deliver(qa, qb);
  });

  test.each(MEMORY)("a grant that is none: %s", async (_, devices) => {
    const { qa, qb } = pairOn(devices);
    await connect(qa, qb);
    const good = qb.native.grant.bind(qb.native);
    const grants: ((message: number) => Uint8Array | undefined)[] = [
      () => undefined,
      () => new Uint8Array(8).fill(0xff),
      () => new Uint8Array(64),
      (message) => good(message)?.subarray(0, -4),
      (message) => good(message)?.map((byte, at) => (at === 0 ? byte ^ 3 : byte)),
    ];
    for (const [message, grant] of grants.entries()) {
      Object.defineProperty(qb.native, "grant", { value: grant, configurable: true });
      const receive = qb.postReceive({ region: MemoryRegion.allocate(8192) });
      const arrived = rejection(receive.arrived);
      const send = qa.send(MemoryRegion.allocate(8192));
      const words = [`message ${message} sent a grant`];
      expectError(await rejection(send.injected), "PEER_INCOMPATIBLE", ...words);
      expect(await arrived).toMatchObject({ code: "PEER_INCOMPATIBLE" });
      receive.complete();
    }
    Object.defineProperty(qb.native, "grant", { value: good });
    await deliver(qa, qb);
  });
});

/**
 * The hardware queues of the first two queue pairs, in the order of their making: two generations' data and control
 * each; a root key has one more behind, on which it is changed.
 */
const BREAKS = [
  { side: "the sender", queue: "data", at: { rxe: 1, mlx5: 1 }, owner: 0 },
  { side: "the sender", queue: "control", at: { rxe: 3, mlx5: 3 }, owner: 0 },
  { side: "the receiver", queue: "data", at: { rxe: 4, mlx5: 5 }, owner: 1 },
  { side: "the receiver", queue: "control", at: { rxe: 6, mlx5: 7 }, owner: 1 },
] as const;
const KINDS = [
  { kind: "rxe", devices: ["rxe0", "rxe1"] },
  { kind: "mlx5", devices: ["mlx5_0", "mlx5_1"] },
] as const;
const CASES = KINDS.flatMap((kind) => BREAKS.map((one) => ({ ...one, ...kind })));

/** Until something fails. */
async function endlessly(qa: QueuePair, qb: QueuePair): Promise<never> {
  for (;;) await deliver(qa, qb);
}

describe.skipIf(unavailable !== undefined)("a hardware queue that fails", () => {
  test.each(CASES)(
    "$kind: a $queue queue of $side",
    async ({ kind, devices, at, queue, owner }) => {
      use(`${DEVICES}; break ${at[kind]} after 200 general vendor 77`);
      // The other end of a lost control queue hears nothing more.
      const pair = pairOn(devices, { generations: 2, peerTimeoutNs: 2e9 });
      const { a, b, qa, qb, attributes } = pair;
      await connect(qa, qb);
      // Pending for ever, on either end: a message that nobody feeds.
      const receive = qa.postReceive({ region: MemoryRegion.allocate(4096) });
      const send = qb.startSend({ bytes: 4096 });
      const pending = [rejection(receive.arrived), rejection(send.injected)];
      if (owner === 1) pending.reverse();
      const [own, other] = owner === 0 ? [qa, qb] : [qb, qa];
      const traffic = rejection(endlessly(qa, qb));
      const words = [`${queue} queue`, "(status 21, vendor code 77)", "make a new queue pair"];
      expectError(await pending[0], "ENVIRONMENT", ...words);
      const code = /^(ENVIRONMENT|PEER_CLOSED|PEER_UNREACHABLE)$/;
      expect(((await pending[1]) as SdrError).code).toMatch(code);
      expect(((await traffic) as SdrError).code).toMatch(code);
      errorOf(() => own.send(MemoryRegion.allocate(4096)), "ENVIRONMENT", ...words);
      await Promise.all([own.close(), other.close()]);
      const more = [a.createQueuePair(attributes), b.createQueuePair(attributes)] as const;
      await connect(...more);
      await deliver(...more);
      await deliver(more[1], more[0]);
      for (const context of [a, b]) context.close();
      expect(count("leaked")).toBe(0);
    },
  );
});
