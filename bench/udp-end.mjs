// One end of the UDP benchmark, in a process of its own: the benchmark (udp.mjs) tells it by messages what to do, and
// it uses the SDK as any application would. Payload is checked outside the timed part.
import { createHash, randomFillSync } from "node:crypto";
import {
  Context,
  MemoryRegion,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../dist/sdk/index.js";

const POISON = 0xa5;

let context;
let region;
let sha256;
let seconds; // of processor time, when the transfer began
const queuePairs = new Map();

function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function digest() {
  return createHash("sha256").update(region.data).digest("hex");
}

/** Counters that grew while a transfer ran. */
function counted(qp, before) {
  const now = qp.counters();
  return {
    packetsSent: now.packetsSent - before.packetsSent,
    duplicates: now.duplicates - before.duplicates,
    framesSent: now.framesSent - before.framesSent,
  };
}

function transfers(qp, policyText, messages, start) {
  const policy = parsePolicy(policyText);
  const bytes = region.bytes / messages;
  return Promise.all(
    Array.from({ length: messages }, (_, i) =>
      start(qp, region, policy, { offset: i * bytes, bytes }),
    ),
  );
}

let pending; // the transfer under way: its reports
let before;

const commands = {
  /** The buffer is filled with randomness by the sender, so that every byte is checked. */
  open({ bytes, role }) {
    context = Context.udp();
    region = MemoryRegion.allocate(bytes);
    if (role === "send") {
      for (let at = 0; at < bytes; at += 2 ** 30)
        randomFillSync(region.data.subarray(at, at + 2 ** 30));
      sha256 = digest();
    }
    return { sha256, capabilities: context.capabilities };
  },
  create({ name, attributes }) {
    const qp = context.createQueuePair(attributes);
    queuePairs.set(name, qp);
    return { info: qp.info(), chunkBytes: qp.attributes.chunkBytes };
  },
  async connect({ name, info }) {
    await queuePairs.get(name).connect(info);
    return {};
  },
  /** Receives are posted; the answer comes at once. */
  expect({ name, policy, messages }) {
    const qp = queuePairs.get(name);
    region.data.fill(POISON);
    before = qp.counters();
    seconds = cpuSeconds();
    pending = transfers(qp, policy, messages, reliableReceive);
    return {};
  },
  async received({ name }) {
    const reports = await pending;
    const used = cpuSeconds() - seconds;
    const counters = counted(queuePairs.get(name), before);
    return { reports, cpuSeconds: used, counters, sha256: digest() };
  },
  async send({ name, policy, messages }) {
    const qp = queuePairs.get(name);
    before = qp.counters();
    seconds = cpuSeconds();
    const reports = await transfers(qp, policy, messages, reliableWrite);
    return { reports, cpuSeconds: cpuSeconds() - seconds, counters: counted(qp, before) };
  },
  async close() {
    await Promise.all([...queuePairs.values()].map((qp) => qp.close()));
    context.close();
    process.disconnect();
    return undefined;
  },
};

process.on("message", async ({ id, command, ...values }) => {
  try {
    const answer = await commands[command](values);
    if (answer !== undefined) process.send({ id, answer });
  } catch (error) {
    process.send({ id, error: String(error?.stack ?? error) });
  }
});
