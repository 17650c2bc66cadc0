/**
 * One trial of `sdr emulate`: messages of no memory, one after the other, usually just one, between two new queue pairs
 * in a new emulated world. A trial's seed comes from the run's seed and the trial's number, so that results do not
 * depend on who ran it when; every policy meets the same links.
 */
import { ERROR_NUMBERS, type ErrorCode, SdrError } from "../../base/errors.ts";
import { Random } from "../../base/random.ts";
import { type LinkProfile, parseLink, rttNs } from "../../link/profile.ts";
import type { Policy } from "../../reliability/policy.ts";
import { parsePolicy } from "../../reliability/registry.ts";
import type { QueuePairAttributes } from "../../sdk/attributes.ts";
import { Context } from "../../sdk/context.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import { MemoryRegion } from "../../sdk/region.ts";
import { reliableReceive, reliableWrite } from "../../sdk/reliable.ts";
import { EmulatedWorld } from "../../transport/emulated.ts";

/** Messages over the same links. */
export interface Phase {
  readonly messages: number;
  readonly forward: LinkProfile;
  readonly reverse: LinkProfile;
}

/** What all trials of a run share: plain data, for worker threads. */
export interface TrialSetting {
  readonly bytes: number;
  readonly packetBytes: number;
  readonly chunkBytes: number;
  readonly seed: number;
  readonly forward: LinkProfile;
  readonly reverse: LinkProfile;
  /** Messages sent before those that count, in the same connection. Default 0. */
  readonly warmup?: number;
  /** Messages that count. Default 1. */
  readonly messages?: number;
  /** Instead of `messages`: the links change from phase to phase, within the connection. */
  readonly phases?: readonly Phase[];
}

/** The messages that count, by the links that they go over. */
export function phasesOf({
  phases,
  messages = 1,
  forward,
  reverse,
}: TrialSetting): readonly Phase[] {
  return phases ?? [{ messages, forward, reverse }];
}

/** Messages of a trial that count: as many rows of results. */
export function messagesOf(setting: TrialSetting): number {
  return phasesOf(setting).reduce((sum, { messages }) => sum + messages, 0);
}

/** Columns of a message's row of results. */
export const COLUMN = {
  completionNs: 0,
  wireBytes: 1,
  chunksRetransmitted: 2,
  controlFrames: 3,
  /** 0: delivered; else the error's number. */
  failure: 4,
  parityChunks: 5,
  chunksRecovered: 6,
  parityWasted: 7,
  fallbacks: 8,
} as const;
export const COLUMNS = 9;

/** Virtual time after which a silent peer is given up: the longer of these two. */
const PEER_TIMEOUT_NS = 5e9;
const PEER_TIMEOUT_RTTS = 100;
const PEER_TIMEOUT_NS_MAX = 3600e9;

/** Where several messages follow each other: packets of one may still be under way when the next begins. */
const SLOTS_SEVERAL = 4;
const GENERATIONS_SEVERAL = 4;

/** Room for just these messages and their parity. */
export function attributes(setting: TrialSetting, policy: Policy): QueuePairAttributes {
  const { bytes, packetBytes, chunkBytes, warmup = 0 } = setting;
  const chunks = Math.ceil(bytes / chunkBytes);
  const maxParityBytes = (policy.parityChunks?.(chunks) ?? 0) * chunkBytes;
  const rtts = [setting, ...phasesOf(setting)].map(({ forward, reverse }) =>
    rttNs(forward, reverse),
  );
  const peerTimeoutNs = Math.max(PEER_TIMEOUT_NS, PEER_TIMEOUT_RTTS * Math.max(...rtts));
  const isAlone = warmup + messagesOf(setting) === 1;
  return {
    packetBytes,
    chunkBytes,
    maxMessageBytes: bytes,
    maxParityBytes,
    maxMessages: isAlone ? 1 : SLOTS_SEVERAL,
    generations: isAlone ? 1 : GENERATIONS_SEVERAL,
    peerTimeoutNs: Math.min(PEER_TIMEOUT_NS_MAX, peerTimeoutNs),
  };
}

/** The seed of a trial's world, 53 bits. */
export function trialSeed(seed: number, trial: number): number {
  const random = new Random(seed, `trial ${trial}`);
  return random.uint32() * 2 ** 21 + (random.uint32() >>> 11);
}

/** Trials [first, first + count) under one policy; COLUMNS numbers for each of their messages. */
export async function runTrials(
  setting: TrialSetting,
  policyText: string,
  first: number,
  count: number,
): Promise<Float64Array> {
  const policy = parsePolicy(policyText);
  const shape = attributes(setting, policy);
  const size = messagesOf(setting) * COLUMNS;
  const rows = new Float64Array(count * size);
  for (let i = 0; i < count; i++) {
    const mine = rows.subarray(i * size, (i + 1) * size);
    await runTrial(setting, shape, policy, first + i, mine);
  }
  return rows;
}

async function runTrial(
  setting: TrialSetting,
  shape: QueuePairAttributes,
  policy: Policy,
  trial: number,
  rows: Float64Array,
): Promise<void> {
  const world = new EmulatedWorld({ seed: trialSeed(setting.seed, trial) });
  const done = { messages: 0 };
  try {
    await deliver(world, setting, shape, policy, rows, done);
  } catch (error) {
    if (!(error instanceof SdrError)) throw error;
    // What follows a message that failed was not sent.
    for (let at = done.messages * COLUMNS; at < rows.length; at += COLUMNS) {
      rows[at + COLUMN.completionNs] = Number.NaN;
      rows[at + COLUMN.failure] = error.number;
    }
  } finally {
    world.close();
  }
}

/** Two ends that are connected, and what they had counted when the last message began. */
interface Ends {
  readonly setting: TrialSetting;
  readonly policy: Policy;
  readonly sender: QueuePair;
  readonly receiver: QueuePair;
  readonly source: MemoryRegion;
  readonly target: MemoryRegion;
  before: Counts;
}

/** Of both directions. */
interface Counts {
  readonly wireBytes: number;
  readonly frames: number;
  readonly completed: number;
}

function countsOf(sender: QueuePair, receiver: QueuePair): Counts {
  const here = sender.counters();
  const there = receiver.counters();
  return {
    wireBytes: here.wireBytesSent + there.wireBytesSent,
    frames: here.framesSent + there.framesSent,
    // The engine's own count beside what the sessions say: each chunk of the bitmap was completed once, by its packets
    // or from parity, whose chunks have bits too.
    completed: there.chunks + there.messages,
  };
}

async function deliver(
  world: EmulatedWorld,
  setting: TrialSetting,
  shape: QueuePairAttributes,
  policy: Policy,
  rows: Float64Array,
  done: { messages: number },
): Promise<void> {
  const { bytes, forward, reverse, warmup = 0 } = setting;
  const from = Context.emulated(world, forward);
  const to = Context.emulated(world, reverse);
  try {
    const sender = from.createQueuePair(shape);
    const receiver = to.createQueuePair(shape);
    await world.run(
      Promise.all([sender.connect(receiver.info()), receiver.connect(sender.info())]),
    );
    const source = MemoryRegion.phantom(bytes);
    const target = MemoryRegion.phantom(bytes);
    // Connecting takes padded PINGs, which are not the message's.
    const before = countsOf(sender, receiver);
    const ends: Ends = { setting, policy, sender, receiver, source, target, before };
    for (let i = 0; i < warmup; i++) await deliverOne(world, ends);
    for (const phase of phasesOf(setting)) {
      if (setting.phases !== undefined) {
        world.setLink(from.transport, phase.forward);
        world.setLink(to.transport, phase.reverse);
      }
      for (let i = 0; i < phase.messages; i++) {
        rows.set(await deliverOne(world, ends), done.messages * COLUMNS);
        done.messages++;
      }
    }
  } finally {
    from.close();
    to.close();
  }
}

async function deliverOne(world: EmulatedWorld, ends: Ends): Promise<number[]> {
  const { setting, policy, sender, receiver, source, target, before } = ends;
  const work = [
    reliableReceive(receiver, target, policy),
    reliableWrite(sender, source, policy),
  ] as const;
  const [got, sent] = await world.run(Promise.all(work));
  ends.before = countsOf(sender, receiver);
  const chunks = Math.ceil(setting.bytes / setting.chunkBytes);
  const completed = ends.before.completed - before.completed + got.chunksRecovered;
  const parity = completed - chunks;
  const isWhole = parity >= got.parityUsed && parity <= sent.parityChunks;
  if (got.bytes !== setting.bytes || sent.chunks !== chunks || !isWhole) {
    throw new SdrError(
      "INTEGRITY",
      `${completed} of ${chunks} chunks were completed`,
      "report this",
    );
  }
  const wireBytes = ends.before.wireBytes - before.wireBytes;
  const frames = ends.before.frames - before.frames;
  const { completionNs, chunksRetransmitted, parityChunks, fallbacks } = sent;
  const counts = [parityChunks, got.chunksRecovered, got.parityWasted, fallbacks];
  return [completionNs, wireBytes, chunksRetransmitted, frames, 0, ...counts];
}

/** The code of a failure's number. */
export function failureCode(number: number): ErrorCode {
  const known = Object.entries(ERROR_NUMBERS).find(([, value]) => value === number);
  return (known?.[0] ?? "ENVIRONMENT") as ErrorCode;
}

/** Checks a setting on the thread that read it, so that no worker need complain. */
export function checkSetting(setting: TrialSetting, policies: readonly Policy[]): void {
  const world = new EmulatedWorld({ seed: 0 });
  const context = Context.emulated(world, parseLink("none"));
  try {
    for (const policy of policies) context.createQueuePair(attributes(setting, policy));
  } finally {
    context.close();
    world.close();
  }
}
