/**
 * What one direction of a path does to packets: plain data, its limits, and what follows from it.
 * Knows no transport and no clock. The same fields drive the emulated wire and the UDP injector.
 * Vocabulary: tc-netem(8).
 */
import { SdrError } from "../base/errors.ts";

/** What a packet carries, by number; `drop` rules and counters use these. */
export const PACKET_KINDS = [
  "data",
  "cts",
  "start",
  "ack",
  "nack",
  "done",
  "ping",
  "pong",
  "close",
  "other",
] as const;
export type PacketKindName = (typeof PACKET_KINDS)[number];

export type DelayDistribution = "uniform" | "normal" | "pareto" | "paretonormal";
export type LossModel = "none" | "bernoulli" | "gilbert_elliott" | "by_size" | "trace";

/** Drops the first .. last-th packets (counted from 1) of a kind offered to the link. */
export interface DropRule {
  /** Index into PACKET_KINDS. */
  readonly kind: number;
  readonly first: number;
  readonly last: number;
}

/**
 * One direction: a delay is one-way, a round trip is the forward delay plus the reverse one.
 * Absent fields are zero or none. Probabilities and correlations are 0..1.
 */
export interface LinkProfile {
  /** The shipped profile's name, when this is one unchanged. */
  readonly name?: string;
  /** Bits a second; 0 or absent: no limit. */
  readonly rateBps?: number;
  /** Added to every packet's bytes for serialisation only; may be negative, as in netem. */
  readonly packetOverheadBytes?: number;
  readonly delayNs?: number;
  readonly jitterNs?: number;
  readonly delayCorrelation?: number;
  readonly distribution?: DelayDistribution;
  readonly loss?: LossModel;
  /** Bernoulli. */
  readonly lossProbability?: number;
  readonly lossCorrelation?: number;
  /** Gilbert-Elliott: good to bad, bad to good, loss in the bad and in the good state. */
  readonly geP?: number;
  readonly geR?: number;
  readonly geLossBad?: number;
  readonly geLossGood?: number;
  /** (payload bytes, probability), ascending; between two log-linear, outside the nearest. */
  readonly lossBySize?: readonly (readonly [bytes: number, probability: number])[];
  /** One byte a data packet (control frames pass), non-zero is lost; repeats. */
  readonly lossTrace?: Uint8Array;
  readonly duplicateProbability?: number;
  readonly duplicateCorrelation?: number;
  readonly corruptProbability?: number;
  readonly corruptCorrelation?: number;
  /** Such a packet skips the delay and so overtakes. */
  readonly reorderProbability?: number;
  readonly reorderCorrelation?: number;
  /** Only every gap-th packet is a candidate; 0 or absent: every one. */
  readonly reorderGap?: number;
  /** Packets that may wait for the serialiser; more are dropped at the tail. 0 or absent: any. */
  readonly limitPackets?: number;
  readonly drops?: readonly DropRule[];
}

export const LINK_LIMITS = {
  rateBpsMax: 1e15,
  /** Jumbo frames are shorter than this; a negative overhead may not exceed it either. */
  packetOverheadBytesMax: 65_535,
  /** One hour: more than the light time to Jupiter at its nearest. */
  delayNsMax: 3_600_000_000_000,
  lossSizesMax: 64,
  lossSizeBytesMax: 65_535,
  lossTracePacketsMax: 1 << 24,
  reorderGapMax: 1_000_000,
  limitPacketsMax: 0xffff_ffff,
  dropRulesMax: 64,
} as const;

function refuse(term: string, problem: string, remedy: string): never {
  throw new SdrError("INVALID_ARGUMENT", `link term "${term}": ${problem}`, remedy);
}

function checkNumber(term: string, value: number | undefined, least: number, most: number): void {
  if (value === undefined) return;
  if (typeof value !== "number" || !(value >= least && value <= most)) {
    refuse(term, `${value} is out of range`, `give a number from ${least} to ${most}`);
  }
}

function checkWhole(term: string, value: number | undefined, least: number, most: number): void {
  checkNumber(term, value, least, most);
  if (value !== undefined && !Number.isInteger(value)) {
    refuse(term, `${value} is not a whole number`, `give a whole number from ${least} to ${most}`);
  }
}

function checkProbabilities(link: LinkProfile): void {
  const named: [term: string, value: number | undefined][] = [
    ["delay CORRELATION", link.delayCorrelation],
    ["loss P", link.lossProbability],
    ["loss CORRELATION", link.lossCorrelation],
    ["loss gemodel P", link.geP],
    ["loss gemodel R", link.geR],
    ["loss gemodel 1-H", link.geLossBad],
    ["loss gemodel 1-K", link.geLossGood],
    ["duplicate P", link.duplicateProbability],
    ["duplicate CORRELATION", link.duplicateCorrelation],
    ["corrupt P", link.corruptProbability],
    ["corrupt CORRELATION", link.corruptCorrelation],
    ["reorder P", link.reorderProbability],
    ["reorder CORRELATION", link.reorderCorrelation],
  ];
  for (const [term, value] of named) checkNumber(term, value, 0, 1);
}

function checkLossBySize(points: LinkProfile["lossBySize"]): void {
  const form = "give BYTES:P pairs by ascending size, for example 1024:0.1%,8192:1%";
  const most = LINK_LIMITS.lossSizesMax;
  if (points === undefined || points.length === 0) refuse("loss size", "no sizes", form);
  if (points.length > most) refuse("loss size", `more than ${most} sizes`, form);
  let before = 0;
  for (const [bytes, probability] of points) {
    checkWhole("loss size BYTES", bytes, 1, LINK_LIMITS.lossSizeBytesMax);
    if (bytes <= before) refuse("loss size", `${bytes} follows ${before}`, form);
    checkNumber("loss size P", probability, 0, 1);
    before = bytes;
  }
}

function checkLoss(link: LinkProfile): void {
  switch (link.loss) {
    case undefined:
    case "none":
    case "bernoulli":
      return;
    case "gilbert_elliott":
      if ((link.geP ?? 0) + (link.geR ?? 0) === 0) {
        refuse("loss gemodel", "p and r are both 0: no state is ever left", "give one above 0");
      }
      return;
    case "by_size":
      checkLossBySize(link.lossBySize);
      return;
    case "trace": {
      const packets = link.lossTrace?.length ?? 0;
      const most = LINK_LIMITS.lossTracePacketsMax;
      if (packets === 0 || packets > most) {
        refuse("loss trace", `${packets} packets`, `give 1 to ${most} of 0 (arrives) and 1 (lost)`);
      }
      return;
    }
    default:
      refuse(
        "loss",
        `model "${String(link.loss)}" is unknown`,
        "give bernoulli, gilbert_elliott, by_size, trace or none",
      );
  }
}

function checkDrops(drops: readonly DropRule[]): void {
  const most = LINK_LIMITS.dropRulesMax;
  if (drops.length > most) {
    refuse("drop", `${drops.length} rules`, `give at most ${most}; a rule can be a range N-M`);
  }
  for (const { kind, first, last } of drops) {
    checkWhole("drop KIND", kind, 0, PACKET_KINDS.length - 1);
    checkWhole("drop N", first, 1, Number.MAX_SAFE_INTEGER);
    checkWhole("drop N-M", last, 1, Number.MAX_SAFE_INTEGER);
    if (last < first) refuse("drop", `${first}-${last} is empty`, "give N-M with N <= M");
  }
}

/**
 * Checks every number and every combination, whoever made the profile.
 * Errors: INVALID_ARGUMENT, naming the term, the value and what is allowed.
 */
export function checkLink(link: LinkProfile): void {
  const limits = LINK_LIMITS;
  const overhead = limits.packetOverheadBytesMax;
  // Slower than a bit a second, departure times would leave the range of 64-bit nanoseconds.
  if (link.rateBps !== 0) checkNumber("rate", link.rateBps, 1, limits.rateBpsMax);
  checkWhole("rate PACKETOVERHEAD", link.packetOverheadBytes, -overhead, overhead);
  checkWhole("delay", link.delayNs, 0, limits.delayNsMax);
  checkWhole("delay JITTER", link.jitterNs, 0, limits.delayNsMax);
  checkWhole("reorder GAP", link.reorderGap, 0, limits.reorderGapMax);
  checkWhole("limit", link.limitPackets, 0, limits.limitPacketsMax);
  checkProbabilities(link);
  const distributions = ["uniform", "normal", "pareto", "paretonormal"];
  if (link.distribution !== undefined && !distributions.includes(link.distribution)) {
    refuse("distribution", `"${link.distribution}" is unknown`, `give ${distributions.join(", ")}`);
  }
  checkLoss(link);
  checkDrops(link.drops ?? []);
  if ((link.reorderProbability ?? 0) > 0 && !((link.delayNs ?? 0) > 0)) {
    refuse(
      "reorder",
      "without a delay there is nothing to overtake",
      'add a delay, for example "delay 10ms"',
    );
  }
}

/** The fields that a loss model reads; those of the others say nothing and are dropped. */
function lossFields(link: LinkProfile): LinkProfile {
  switch (link.loss) {
    case "bernoulli": {
      const { lossProbability = 0, lossCorrelation } = link;
      if (lossProbability === 0) return {};
      return { loss: link.loss, lossProbability, ...given({ lossCorrelation }) };
    }
    case "gilbert_elliott": {
      const { geP = 0, geR = 0, geLossBad = 1, geLossGood = 0 } = link;
      return { loss: link.loss, geP, geR, geLossBad, geLossGood };
    }
    case "by_size":
      return { loss: link.loss, lossBySize: link.lossBySize ?? [] };
    case "trace":
      return { loss: link.loss, lossTrace: link.lossTrace ?? new Uint8Array() };
    default:
      return {};
  }
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** The fields that are neither absent nor zero. */
function given<T extends object>(fields: T): Given<T> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined && value !== 0),
  ) as Given<T>;
}

/** The same link with every field that changes nothing left out, so that equal links compare equal. */
export function normalizeLink(link: LinkProfile): LinkProfile {
  const { name, rateBps, packetOverheadBytes, delayNs, jitterNs, delayCorrelation } = link;
  const { duplicateProbability, duplicateCorrelation } = link;
  const { corruptProbability, corruptCorrelation, limitPackets } = link;
  const { reorderProbability, reorderCorrelation, reorderGap, drops = [] } = link;
  const { distribution = "uniform" } = link;
  return {
    ...given({ name, delayNs, limitPackets }),
    ...(rateBps ? given({ rateBps, packetOverheadBytes }) : {}),
    ...(jitterNs ? given({ jitterNs, delayCorrelation }) : {}),
    ...(jitterNs && distribution !== "uniform" ? { distribution } : {}),
    ...lossFields(link),
    ...(duplicateProbability ? given({ duplicateProbability, duplicateCorrelation }) : {}),
    ...(corruptProbability ? given({ corruptProbability, corruptCorrelation }) : {}),
    ...(reorderProbability ? given({ reorderProbability, reorderCorrelation }) : {}),
    ...(reorderProbability && (reorderGap ?? 0) > 1 ? given({ reorderGap }) : {}),
    ...(drops.length > 0 ? { drops } : {}),
  };
}

/** Round-trip time without serialisation, queues or jitter, ns. */
export function rttNs(forward: LinkProfile, reverse: LinkProfile): number {
  return (forward.delayNs ?? 0) + (reverse.delayNs ?? 0);
}

/** Between two points the probability's logarithm is linear in the bytes; towards a 0, the probability. */
function lossAtSize(points: readonly (readonly [number, number])[], payloadBytes: number): number {
  const above = points.findIndex(([bytes]) => bytes >= payloadBytes);
  if (above <= 0) return points[above === 0 ? 0 : points.length - 1]?.[1] ?? 0;
  const [bytesLow, low] = points[above - 1]!;
  const [bytesHigh, high] = points[above]!;
  const part = (payloadBytes - bytesLow) / (bytesHigh - bytesLow);
  return low > 0 && high > 0 ? low * (high / low) ** part : low + (high - low) * part;
}

/** Long-run share of packets with this payload that the loss model drops, 0..1; drop rules aside. */
export function meanLoss(link: LinkProfile, payloadBytes: number): number {
  switch (link.loss) {
    case "bernoulli":
      return link.lossProbability ?? 0;
    case "gilbert_elliott": {
      // Stationary share of the bad state of the two-state chain: p / (p + r).
      const { geP = 0, geR = 0, geLossBad = 1, geLossGood = 0 } = link;
      const bad = geP / (geP + geR);
      return bad * geLossBad + (1 - bad) * geLossGood;
    }
    case "by_size":
      return lossAtSize(link.lossBySize ?? [], payloadBytes);
    case "trace": {
      const trace = link.lossTrace ?? new Uint8Array();
      const lost = trace.reduce((count, byte) => count + (byte !== 0 ? 1 : 0), 0);
      return trace.length === 0 ? 0 : lost / trace.length;
    }
    default:
      return 0;
  }
}

/**
 * Mean length of a run of lost packets, in packets of this payload; 0 when the loss model loses none, Infinity when a
 * run never ends. As in meanLoss, a correlation of independent losses and drop rules are left aside.
 */
export function meanBurstPackets(link: LinkProfile, payloadBytes: number): number {
  const lost = meanLoss(link, payloadBytes);
  if (lost === 0) return 0;
  if (link.loss === "trace") {
    const trace = link.lossTrace ?? new Uint8Array();
    // It repeats: its last packet comes before its first.
    const begins = trace.reduce((count, bit, i) => {
      const before = trace[i === 0 ? trace.length - 1 : i - 1];
      return count + (bit !== 0 && before === 0 ? 1 : 0);
    }, 0);
    return (lost * trace.length) / begins;
  }
  if (link.loss !== "gilbert_elliott") return 1 / (1 - lost);
  // As many runs as there are packets that arrive before one that does not.
  const { geP = 0, geR = 0, geLossBad = 1, geLossGood = 0 } = link;
  const bad = geP / (geP + geR);
  const arrivesGood = (1 - bad) * (1 - geLossGood);
  const arrivesBad = bad * (1 - geLossBad);
  const thenGood = arrivesGood * (1 - geP) + arrivesBad * geR;
  const thenBad = arrivesGood * geP + arrivesBad * (1 - geR);
  return lost / (thenGood * geLossGood + thenBad * geLossBad);
}
