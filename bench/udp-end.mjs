// One end of a UDP path, in a process of its own: the benchmark (ends.mjs) tells it by messages what to do, and it uses
// the SDK as any application would. Payload is checked outside the timed part.
import { createHash, randomFillSync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import {
  Context,
  MemoryRegion,
  parseLink,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../dist/sdk/index.js";

const POISON = 0xa5;

let context;
let region;
let sha256;
let collected = false;
const queuePairs = new Map();

/** Of every thread of this process. */
function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** A line of Linux's /proc/self/status, in bytes; undefined where there is none. */
function statusBytes(name) {
  try {
    const kib = new RegExp(`^${name}:\\s*(\\d+) kB$`, "m").exec(
      readFileSync("/proc/self/status", "utf8"),
    );
    return kib === null ? undefined : Number(kib[1]) * 1024;
  } catch {
    return undefined;
  }
}

/**
 * Begins to measure what a transfer uses; the function that it returns tells. `peakBytes`: how far resident memory
 * rose, at its highest, above where it was at the beginning, when the user's buffer was resident already. Undefined
 * where the system does not forget its high-water mark when asked.
 */
function meter() {
  // Once, so that memory is told from garbage: a full collection also throws away compiled code, as none that comes by
  // itself in the middle of the work does.
  if (!collected) globalThis.gc();
  collected = true;
  const residentBytes = forgetPeak() ? statusBytes("VmRSS") : undefined;
  const seconds = cpuSeconds();
  return () => {
    const used = cpuSeconds() - seconds;
    const highest = residentBytes === undefined ? undefined : statusBytes("VmHWM");
    const peakBytes = highest === undefined ? undefined : Math.max(0, highest - residentBytes);
    return { cpuSeconds: used, peakBytes };
  };
}

function forgetPeak() {
  try {
    writeFileSync("/proc/self/clear_refs", "5"); // proc(5): sets VmHWM to VmRSS
    return true;
  } catch {
    return false;
  }
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
let measured;

const commands = {
  /** The buffer is filled with randomness by the sender, so that every byte is checked. */
  open({ bytes, link, seed, role }) {
    context = Context.udp({ link: parseLink(link), seed });
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
    measured = meter();
    pending = transfers(qp, policy, messages, reliableReceive);
    return {};
  },
  async received({ name }) {
    const reports = await pending;
    const used = measured();
    const counters = counted(queuePairs.get(name), before);
    return { reports, ...used, counters, sha256: digest() };
  },
  async send({ name, policy, messages }) {
    const qp = queuePairs.get(name);
    before = qp.counters();
    measured = meter();
    const reports = await transfers(qp, policy, messages, reliableWrite);
    return { reports, ...measured(), counters: counted(qp, before) };
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
