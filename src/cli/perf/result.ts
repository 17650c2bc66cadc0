/** What a run came to: its figures, in the units of sdr perf --json. */
import type { Context } from "../../sdk/context.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import type { ReceiveDrops, SendDrops } from "./protocol.ts";
import type { Direction } from "./session.ts";
import type { RunShape } from "./shape.ts";

export interface RunResult {
  readonly bytes: number;
  /** Messages sent, all queue pairs and both directions. */
  readonly iterations: number;
  readonly queuePairs: number;
  readonly depth: number;
  readonly channels: number;
  readonly packetBytes: number;
  readonly chunkBytes: number;
  readonly policy: string;
  readonly bidirectional: boolean;
  readonly transport: string;
  readonly virtualTime: boolean;
  readonly rttNs: number;
  /** By the sender's posts and completions, both directions added. */
  readonly peakBps: number;
  readonly averageBps: number;
  readonly messagesPerSecond: number;
  /** By what was complete at the receiver, both directions added; null: too short to tell. */
  readonly goodputBps: number | null;
  readonly packetsPerSecond: number | null;
  readonly incomplete: number;
  readonly missingChunks: number;
  readonly verified: number;
  readonly corrupt: number;
  /** Mean share of the time that worker threads were running; null: not known. */
  readonly senderBusy: number | null;
  readonly receiverBusy: number | null;
  /** Packets lost on purpose, ignored or refused, by reason: both ends, both directions. */
  readonly drops: SendDrops & ReceiveDrops;
  readonly directions: readonly Direction[];
}

export interface RunParts {
  readonly shape: RunShape;
  readonly context: Context;
  readonly qps: readonly QueuePair[];
  readonly directions: readonly Direction[];
}

function perSecond(amount: number, ns: number): number | null {
  return ns > 0 ? (amount * 1e9) / ns : null;
}

/** Null where one of them is. */
function addAll(values: readonly (number | null)[]): number | null {
  return values.reduce((sum, value) => (sum === null || value === null ? null : sum + value), 0);
}

function meanOf(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, one) => sum + one, 0) / values.length;
}

function addFields<T extends object>(all: readonly T[]): T {
  const sum: Record<string, number> = {};
  for (const one of all)
    for (const [name, value] of Object.entries(one)) sum[name] = (sum[name] ?? 0) + Number(value);
  return sum as T;
}

export function resultOf({ shape, context, qps, directions }: RunParts): RunResult {
  const { capabilities } = context;
  const first = qps[0] as QueuePair;
  const { packetBytes, chunkBytes } = first.attributes;
  const sents = directions.map(({ sent }) => sent);
  const receiveds = directions.map(({ received }) => received);
  const sum = <T>(all: readonly T[], of: (one: T) => number) =>
    all.reduce((total, one) => total + of(one), 0);
  const messages = ({ counts }: { counts: readonly number[] }) => sum(counts, (count) => count);
  return {
    bytes: shape.bytes,
    iterations: sum(sents, messages),
    queuePairs: shape.queuePairs,
    depth: shape.depth,
    channels: shape.channels,
    packetBytes,
    chunkBytes,
    policy: shape.policy,
    bidirectional: shape.both,
    transport: capabilities.name,
    virtualTime: capabilities.virtualTime,
    rttNs: Math.round(first.path.rttNs),
    peakBps: sum(sents, ({ peakBps }) => peakBps),
    averageBps: sum(sents, ({ bytes, durationNs }) => perSecond(bytes * 8, durationNs) ?? 0),
    messagesPerSecond: sum(sents, (sent) => perSecond(messages(sent), sent.durationNs) ?? 0),
    goodputBps: addAll(receiveds.map((one) => perSecond(one.bytes * 8, one.durationNs))),
    packetsPerSecond: addAll(receiveds.map((one) => perSecond(one.packets, one.durationNs))),
    incomplete: sum(receiveds, ({ incomplete }) => incomplete),
    missingChunks: sum(receiveds, ({ missingChunks }) => missingChunks),
    verified: sum(receiveds, ({ verified }) => verified),
    corrupt: sum(receiveds, ({ corrupt }) => corrupt),
    senderBusy: meanOf(sents.flatMap(({ workers }) => workers)),
    receiverBusy: meanOf(receiveds.flatMap(({ workers }) => workers)),
    drops: addFields<SendDrops & ReceiveDrops>(
      directions.map(({ sent, received }) => ({ ...sent.drops, ...received.drops })),
    ),
    directions,
  };
}
