/**
 * From the loss of packets to that of chunks: how likely a chunk is still incomplete after so many sends. Packets that
 * arrived are kept, so a chunk of N packets is complete when each of them has come through in any of its sends. Losses
 * in a row come from a chain of two states (Gilbert, Elliott); different sends of a chunk are far enough apart to meet
 * independent ones. Probabilities are carried as logarithms of success, so that 1e-12 and 1e12 chunks go together.
 */
import { check } from "../base/errors.ts";
import { binomials } from "./binomial.ts";
import type { LossSpells, PacketLoss, Setting } from "./types.ts";

/** So many sends of a chunk in bursts are computed; from there on each send helps as much as the last of them did. */
const BURST_SENDS_MAX = 12;
/** So many packets in a row are stepped through; by then the chain has long settled, and each adds the same. */
const BURST_PACKETS_MAX = 512;

/** Errors: INVALID_ARGUMENT for a probability that is none, or 1, and for bursts that cannot be. */
export function checkLoss({ probability, burstPackets, spells }: PacketLoss): void {
  check(
    probability >= 0 && probability < 1,
    `packet loss ${probability} is out of range`,
    "give 0 or more and less than 1: what loses every packet delivers nothing",
  );
  check(
    burstPackets === undefined || (burstPackets >= 1 && burstPackets < Infinity),
    `bursts of ${burstPackets} packets are out of range`,
    "give 1 or more",
  );
  if (spells === undefined) return;
  const { enter, leave, lossBad, lossGood } = spells;
  const isShare = (value: number) => value >= 0 && value <= 1;
  check(
    [enter, leave, lossBad, lossGood].every(isShare) && enter + leave > 0,
    "the loss spells make no sense",
    "give four probabilities from 0 to 1, one of the first two above 0",
  );
}

/** The chain of two states behind a loss, undefined where packets are lost independently. */
export function spellsOf({
  probability,
  burstPackets,
  spells,
}: PacketLoss): LossSpells | undefined {
  if (probability === 0) return undefined;
  if (spells !== undefined) return spells;
  if (burstPackets === undefined) return undefined;
  const leave = 1 / burstPackets;
  const enter = (leave * probability) / (1 - probability);
  // A chain that cannot lose so much in runs so short loses every packet outside them too.
  return enter <= 1 ? { enter, leave, lossBad: 1, lossGood: 0 } : undefined;
}

/** Packets of a chunk that is whole. */
export function packetsPerChunk({ packetBytes, chunkBytes }: Setting): number {
  return Math.max(1, Math.ceil(chunkBytes / packetBytes));
}

/**
 * ln of the probability that `packets` packets in a row have each come through in at least one of `sends` sends.
 * 0 sends: -Infinity. Precise however near to 0.
 */
export function logComplete(loss: PacketLoss, packets: number, sends: number): number {
  if (packets <= 0) return 0;
  if (sends <= 0) return -Infinity;
  if (loss.probability === 0) return 0;
  const spells = spellsOf(loss);
  if (spells === undefined) return packets * Math.log1p(-(loss.probability ** sends));
  if (sends <= BURST_SENDS_MAX) return logCompleteInSpells(spells, packets, sends);
  const last = -Math.expm1(logCompleteInSpells(spells, packets, BURST_SENDS_MAX));
  const before = -Math.expm1(logCompleteInSpells(spells, packets, BURST_SENDS_MAX - 1));
  const ratio = before > 0 ? Math.min(1, last / before) : 0;
  return Math.log1p(-(last * ratio ** (sends - BURST_SENDS_MAX)));
}

/** The same as the probability that something is missing. */
export function incompleteAfter(loss: PacketLoss, packets: number, sends: number): number {
  return -Math.expm1(logComplete(loss, packets, sends));
}

/** Share of whole chunks of which a packet is lost, P. */
export function chunkLoss(setting: Setting): number {
  return incompleteAfter(setting.loss, packetsPerChunk(setting), 1);
}

/**
 * What one chunk of many contributes to ln of the probability that all are complete: of chunk after chunk given the one
 * before, so that runs of losses that reach several chunks count about once. That of the chunk alone where packets are
 * lost independently.
 */
export function logCompleteEach(loss: PacketLoss, packets: number, sends: number): number {
  const spells = spellsOf(loss);
  if (spells === undefined || sends <= 0) return logComplete(loss, packets, sends);
  if (sends <= BURST_SENDS_MAX && 2 * packets <= BURST_PACKETS_MAX) {
    const [one = 0, two = 0] = missingInSpells(spells, sends, [packets, 2 * packets]);
    // (1 - two) / (1 - one), from their difference, which keeps its digits.
    return one < 1 ? Math.log1p(-Math.min(1, (two - one) / (1 - one))) : 0;
  }
  return logComplete(loss, 2 * packets, sends) - logComplete(loss, packets, sends);
}

/**
 * The sends go through copies of the chain side by side; their state is how many copies are in a bad spell. A packet
 * comes through unless all copies lose it. Works with what is missing, 1 - product, to keep its digits: the vector
 * holds the weights of states after packets that came through, `missing` what was taken off them.
 */
function logCompleteInSpells(spells: LossSpells, packets: number, sends: number): number {
  if (packets > BURST_PACKETS_MAX) {
    const all = logCompleteInSpells(spells, BURST_PACKETS_MAX, sends);
    const half = logCompleteInSpells(spells, BURST_PACKETS_MAX / 2, sends);
    const each = (all - half) / (BURST_PACKETS_MAX / 2);
    return all + each * (packets - BURST_PACKETS_MAX);
  }
  const [one = 0] = missingInSpells(spells, sends, [packets]);
  return Math.log1p(-Math.min(1, one));
}

/** The probability that something is missing of the first so many packets, for each of `counts`, ascending. */
function missingInSpells(spells: LossSpells, sends: number, counts: readonly number[]): number[] {
  const { enter, leave, lossBad, lossGood } = spells;
  const states = sends + 1;
  const lost = Array.from(
    { length: states },
    (_, bad) => lossBad ** bad * lossGood ** (sends - bad),
  );
  const step = stepMatrix(enter, leave, sends);
  let weights = binomials(sends, enter / (enter + leave));
  let missing = 0;
  let packet = 0;
  return counts.map((count) => {
    for (; packet < count; packet++) {
      if (packet > 0) weights = times(weights, step);
      for (let copies = 0; copies < states; copies++) {
        const taken = (weights[copies] as number) * (lost[copies] as number);
        missing += taken;
        (weights[copies] as number) -= taken;
      }
    }
    return missing;
  });
}

/** From how many copies in a bad spell to how many: those that stay, and those that come in. */
function stepMatrix(enter: number, leave: number, copies: number): Float64Array[] {
  return Array.from({ length: copies + 1 }, (_, from) => {
    const stay = binomials(from, 1 - leave);
    const come = binomials(copies - from, enter);
    const row = new Float64Array(copies + 1);
    for (const [a, share] of stay.entries())
      for (const [b, other] of come.entries()) row[a + b]! += share * other;
    return row;
  });
}

function times(row: Float64Array, matrix: readonly Float64Array[]): Float64Array {
  const result = new Float64Array(row.length);
  for (let from = 0; from < row.length; from++) {
    const weight = row[from] as number;
    const shares = matrix[from] as Float64Array;
    for (let to = 0; to < row.length; to++)
      (result[to] as number) += weight * (shares[to] as number);
  }
  return result;
}
