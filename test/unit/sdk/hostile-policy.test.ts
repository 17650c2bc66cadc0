/**
 * Policies are the user's code. One that throws, or returns what makes no sense, fails its own message on both ends;
 * the process, the queue pair and the messages beside it go on.
 */
import { describe, expect, test } from "vitest";
import {
  Context,
  EmulatedWorld,
  type Policy,
  parseLink,
  parsePolicy,
  type QueuePair,
  reliableReceive,
  reliableWrite,
  SdrError,
} from "../../../src/sdk/index.ts";

const BYTES = 100_000;
const SHAPE = { packetBytes: 1000, chunkBytes: 4000 };
const TIMEOUT_NS = 3e9;
const sound = parsePolicy("sr-nack");

type Faults = Readonly<Record<string, unknown>>;
const boom = () => {
  throw new Error("boom");
};
/** As a getter of the session. */
class Throws {}

/** A session of the sound policy, but for the members given. */
function broken<T extends object>(session: T, faults: Faults): T {
  return new Proxy(session, {
    get(target, key) {
      const fault = typeof key === "string" && key in faults ? faults[key] : undefined;
      if (fault instanceof Throws) return boom();
      if (typeof key === "string" && key in faults) return fault;
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function sender(faults: Faults): Policy {
  return {
    name: "hostile",
    parityChunks: () => 4,
    createSender: (params) => broken(sound.createSender(params), faults),
    createReceiver: (params) => sound.createReceiver(params),
  };
}

function receiver(faults: Faults): Policy {
  return {
    name: "hostile",
    parityChunks: () => 4,
    createSender: (params) => sound.createSender(params),
    createReceiver: (params) => broken(sound.createReceiver(params), faults),
  };
}

async function connected(world: EmulatedWorld): Promise<[QueuePair, QueuePair]> {
  const link = parseLink("rate 1gbit delay 1ms loss 1%");
  const [a, b] = [Context.emulated(world, link), Context.emulated(world, link)];
  const [qa, qb] = [a.createQueuePair(SHAPE), b.createQueuePair(SHAPE)];
  await world.run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
  return [qa, qb];
}

function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "ok",
    (error) => (error instanceof SdrError ? error.code : `not ours: ${error}`),
  );
}

/** How a message under `policy` and one beside it end: [receive, write, receive, write]. */
async function outcome(policy: Policy): Promise<string[]> {
  const world = new EmulatedWorld({ seed: 5 });
  const [qa, qb] = await connected(world);
  const options = { timeoutNs: TIMEOUT_NS };
  const work = [policy, sound].flatMap((each) => [
    codeOf(reliableReceive(qb, new Uint8Array(BYTES), each, options)),
    codeOf(reliableWrite(qa, new Uint8Array(BYTES), each, options)),
  ]);
  return world.run(Promise.all(work));
}

const frame = (type: number, bytes: number) => () => ({
  kind: "policy",
  message: 0,
  type,
  payload: new Uint8Array(bytes),
});
const range = (first: number, count: number) => () => ({ first, count });
const mds = { kind: "mds", k: 4, m: 2 };
const task =
  (first: number, count: number, parityFirst: number, code: unknown = mds) =>
  () => ({ code, first, count, parityFirst });

/** Of either session: BYTES are 25 chunks, with 4 parity chunks. */
const TASKS: readonly (readonly [string, Faults])[] = [
  ["a pollTask that throws", { pollTask: boom }],
  ["a task beyond the message", { pollTask: task(24, 2, 0) }],
  ["a task before the message", { pollTask: task(-1, 2, 0) }],
  ["a task of more chunks than its code has", { pollTask: task(0, 5, 0) }],
  ["a task beyond the parity", { pollTask: task(0, 4, 3) }],
  ["a task that is no numbers", { pollTask: task(0, Number.NaN, 0) }],
  ["a task of no code", { pollTask: task(0, 1, 0, undefined) }],
  ["a task of a code that is none", { pollTask: task(0, 1, 0, { kind: "magic", k: 4, m: 2 }) }],
  ["a task of a code too large", { pollTask: task(0, 1, 0, { kind: "mds", k: 255, m: 2 }) }],
  ["tasks without end", { pollTask: task(0, 4, 0) }],
  ["a task whose end throws", { pollTask: task(0, 4, 0), handleTaskDone: boom }],
];

const SENDERS: readonly (readonly [string, Faults])[] = [
  ...["handleControl", "handleInjected", "pollTransmit", "pollControl", "nextTimeoutNs"].map(
    (name) => [`${name} throws`, { [name]: boom }] as const,
  ),
  ...["state", "chunksAcknowledged"].map(
    (name) => [`${name} throws`, { [name]: new Throws() }] as const,
  ),
  ["a timer at NaN", { nextTimeoutNs: () => Number.NaN }],
  ["a timer at no number", { nextTimeoutNs: () => undefined }],
  ["a timer that never moves on", { nextTimeoutNs: () => 0 }],
  ["a timer before time began", { nextTimeoutNs: () => -1 }],
  [
    "a parity chunk beyond the split",
    { pollTransmit: () => ({ ...range(2 ** 20, 1)(), parity: true }) },
  ],
  ...TASKS,
  ["a chunk beyond the message", { pollTransmit: range(1000, 1) }],
  ["a chunk before the message", { pollTransmit: range(-1, 1) }],
  ["a chunk that is no number", { pollTransmit: range(Number.NaN, 1) }],
  ["no chunks", { pollTransmit: range(0, 0) }],
  ["more chunks than there is room for", { pollTransmit: range(0, 1e9) }],
  ["a frame that is none", { pollControl: () => ({ kind: "gossip" }) }],
  ["a frame above the packet size", { pollControl: frame(64, 60_000) }],
  ["a frame with one of our own kinds", { pollControl: frame(3, 4) }],
];

const RECEIVERS: readonly (readonly [string, Faults])[] = [
  ...["handleProgress", "handleControl", "handleTimeout", "pollControl", "nextTimeoutNs"].map(
    (name) => [`${name} throws`, { [name]: boom }] as const,
  ),
  ...["state", "complete"].map((name) => [`${name} throws`, { [name]: new Throws() }] as const),
  ["a timer at NaN", { nextTimeoutNs: () => Number.NaN }],
  ["a timer that never moves on", { nextTimeoutNs: () => 0 }],
  ["a frame above the packet size", { pollControl: frame(200, 60_000) }],
  ["a frame that is none", { pollControl: () => null }],
  ...TASKS,
];

describe("a sender's session with", () => {
  test.each(SENDERS)("%s fails its message alone", async (_name, faults) => {
    expect(await outcome(sender(faults))).toEqual([
      "INVALID_ARGUMENT",
      "INVALID_ARGUMENT",
      "ok",
      "ok",
    ]);
  });

  test("counters that throw fails at the sender, when all is delivered", async () => {
    const ended = await outcome(sender({ counters: new Throws() }));
    expect(ended).toEqual(["ok", "INVALID_ARGUMENT", "ok", "ok"]);
  });

  test.each([
    ["data without end", range(0, 1)],
    ["nothing to send", () => null],
  ])("%s leaves the messages beside it their turn", async (_name, pollTransmit) => {
    const late = "DEADLINE_EXCEEDED";
    expect(await outcome(sender({ pollTransmit }))).toEqual([late, late, "ok", "ok"]);
  });
});

describe("a receiver's session with", () => {
  test.each(RECEIVERS)("%s fails its message alone", async (_name, faults) => {
    const [receive, write, ...beside] = await outcome(receiver(faults));
    expect([receive, write]).toEqual(["INVALID_ARGUMENT", "INVALID_ARGUMENT"]);
    expect(beside).toEqual(["ok", "ok"]);
  });

  test("a handleDone that throws has nothing left to fail", async () => {
    expect(await outcome(receiver({ handleDone: boom }))).toEqual(["ok", "ok", "ok", "ok"]);
  });
});

test.each([[-1], [0.5], [Number.NaN], ["many"], [1e9]])(
  "a policy that brings %s parity chunks is refused at post",
  async (count) => {
    const policy = { ...sound, name: "hostile", parityChunks: () => count } as unknown as Policy;
    const world = new EmulatedWorld({ seed: 5 });
    const [, qb] = await connected(world);
    expect(() => reliableReceive(qb, new Uint8Array(BYTES), policy)).toThrow(/parity/);
  },
);

test.each([["a function that throws", boom] as const, ["no function", 4] as const])(
  "a parityChunks that is %s is refused at post with an error of ours",
  async (_name, parityChunks) => {
    const policy = { ...sound, name: "hostile", parityChunks } as unknown as Policy;
    const world = new EmulatedWorld({ seed: 5 });
    const [, qb] = await connected(world);
    const post = async () => reliableReceive(qb, new Uint8Array(BYTES), policy);
    expect(await codeOf(post())).toBe("INVALID_ARGUMENT");
  },
);

test.each([
  ["createSender", boom],
  ["createSender", () => undefined],
  ["createReceiver", boom],
  ["createReceiver", () => null],
])("a %s without a session fails its message alone", async (name, create) => {
  const policy = { ...sound, name: "hostile", [name]: create } as unknown as Policy;
  expect(await outcome(policy)).toEqual(["INVALID_ARGUMENT", "INVALID_ARGUMENT", "ok", "ok"]);
});

test("a short message behind a long one has its turn before the long one is through", async () => {
  const world = new EmulatedWorld({ seed: 6 });
  const [qa, qb] = await connected(world);
  const done: number[] = [];
  const work = [20_000_000, BYTES].flatMap((bytes, index) => [
    reliableReceive(qb, new Uint8Array(bytes), sound),
    reliableWrite(qa, new Uint8Array(bytes), sound).then(() => done.push(index)),
  ]);
  await world.run(Promise.all(work));
  expect(done).toEqual([1, 0]);
});
