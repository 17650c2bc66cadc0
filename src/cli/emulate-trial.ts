/**
 * One trial of `sdr emulate`: one message of no memory, alone in a new emulated world, between two new queue pairs.
 * A trial's seed comes from the run's seed and the trial's number, so that results do not depend on who ran it when;
 * every policy meets the same links.
 */
import { ERROR_NUMBERS, type ErrorCode, SdrError } from "../base/errors.ts";
import { Random } from "../base/random.ts";
import { type LinkProfile, parseLink, rttNs } from "../link/profile.ts";
import type { Policy } from "../reliability/policy.ts";
import { parsePolicy } from "../reliability/registry.ts";
import type { QueuePairAttributes } from "../sdk/attributes.ts";
import { Context } from "../sdk/context.ts";
import { MemoryRegion } from "../sdk/region.ts";
import { reliableReceive, reliableWrite } from "../sdk/reliable.ts";
import { EmulatedWorld } from "../transport/emulated.ts";

/** What all trials of a run share: plain data, for worker threads. */
export interface TrialSetting {
  readonly bytes: number;
  readonly packetBytes: number;
  readonly chunkBytes: number;
  readonly seed: number;
  readonly forward: LinkProfile;
  readonly reverse: LinkProfile;
}

/** Columns of a trial's row of results. */
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

/** Room for just this message and its parity. */
function attributes(setting: TrialSetting, policy: Policy): QueuePairAttributes {
  const { bytes, packetBytes, chunkBytes, forward, reverse } = setting;
  const chunks = Math.ceil(bytes / chunkBytes);
  const maxParityBytes = (policy.parityChunks?.(chunks) ?? 0) * chunkBytes;
  const peerTimeoutNs = Math.max(PEER_TIMEOUT_NS, PEER_TIMEOUT_RTTS * rttNs(forward, reverse));
  return {
    packetBytes,
    chunkBytes,
    maxMessageBytes: bytes,
    maxParityBytes,
    maxMessages: 1,
    generations: 1,
    peerTimeoutNs: Math.min(PEER_TIMEOUT_NS_MAX, peerTimeoutNs),
  };
}

/** The seed of a trial's world, 53 bits. */
export function trialSeed(seed: number, trial: number): number {
  const random = new Random(seed, `trial ${trial}`);
  return random.uint32() * 2 ** 21 + (random.uint32() >>> 11);
}

/** Trials [first, first + count) under one policy; COLUMNS numbers each. */
export async function runTrials(
  setting: TrialSetting,
  policyText: string,
  first: number,
  count: number,
): Promise<Float64Array> {
  const policy = parsePolicy(policyText);
  const shape = attributes(setting, policy);
  const rows = new Float64Array(count * COLUMNS);
  for (let i = 0; i < count; i++) {
    rows.set(await runTrial(setting, shape, policy, first + i), i * COLUMNS);
  }
  return rows;
}

async function runTrial(
  setting: TrialSetting,
  shape: QueuePairAttributes,
  policy: Policy,
  trial: number,
): Promise<number[]> {
  const world = new EmulatedWorld({ seed: trialSeed(setting.seed, trial) });
  try {
    return await deliver(world, setting, shape, policy);
  } catch (error) {
    if (!(error instanceof SdrError)) throw error;
    const row = new Array<number>(COLUMNS).fill(0);
    row[COLUMN.completionNs] = Number.NaN;
    row[COLUMN.failure] = error.number;
    return row;
  } finally {
    world.close();
  }
}

async function deliver(
  world: EmulatedWorld,
  setting: TrialSetting,
  shape: QueuePairAttributes,
  policy: Policy,
): Promise<number[]> {
  const { bytes, chunkBytes, forward, reverse } = setting;
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
    const work = [
      reliableReceive(receiver, target, policy),
      reliableWrite(sender, source, policy),
    ] as const;
    const [got, sent] = await world.run(Promise.all(work));
    const here = sender.counters();
    const there = receiver.counters();
    // The engine's own count beside what the sessions say: each chunk of the bitmap was completed once, by its packets
    // or from parity, whose chunks have bits too.
    const chunks = Math.ceil(bytes / chunkBytes);
    const completed = there.chunks + there.messages + got.chunksRecovered;
    const parity = completed - chunks;
    const isWhole = parity >= got.parityUsed && parity <= sent.parityChunks;
    if (got.bytes !== bytes || sent.chunks !== chunks || !isWhole) {
      throw new SdrError(
        "INTEGRITY",
        `${completed} of ${chunks} chunks were completed`,
        "report this",
      );
    }
    const wireBytes = here.wireBytesSent + there.wireBytesSent;
    const frames = here.framesSent + there.framesSent;
    const { completionNs, chunksRetransmitted, parityChunks, fallbacks } = sent;
    const counts = [parityChunks, got.chunksRecovered, got.parityWasted, fallbacks];
    return [completionNs, wireBytes, chunksRetransmitted, frames, 0, ...counts];
  } finally {
    from.close();
    to.close();
  }
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
