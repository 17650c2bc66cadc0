/**
 * Which chunks of a stream are lost, drawn at random: from one lost chunk straight to the next, so that the work is
 * that of the losses and not of the chunks. What a lost chunk lacks is its `fate`, a number above 0; sending it again
 * gives another, and 0 when it is whole. Packets that arrived are kept.
 */
import type { Random } from "../base/random.ts";
import { incompleteAfter, packetsPerChunk, spellsOf } from "./loss.ts";
import type { LossSpells, PacketLoss, Setting } from "./types.ts";

/** Losses of one message at a time, in the order of the wire. */
export interface LossWalk {
  /** Begins a message. */
  begin(random: Random): void;
  /** Passes the whole chunks that arrive at once, up to `most`; returns how many. If fewer, one that is lost, too. */
  clean(most: number): number;
  /** The fate of the lost chunk that `clean` has passed, to be asked for at once; need not be. */
  lose(): number;
  /** Passes a chunk of so many packets; returns its fate, 0 when it arrived. */
  send(packets: number): number;
  /** Sends a chunk again; returns what is its fate then. */
  resend(fate: number): number;
  /** How many times a chunk must be sent again, were that done far from all else. Passes nothing. */
  repeats(fate: number): number;
}

/** Sends of which the chances are kept. Later ones are computed. */
const SENDS_KEPT = 64;

/** Uniform over (0, 1]. */
function positive(random: Random): number {
  return 1 - random.float();
}

/** Packets, each lost by itself: a chunk's fate is how many more sends it needs. */
export class IndependentLosses implements LossWalk {
  private random!: Random;
  private readonly loss: number;
  private readonly packets: number;
  /** S(y), the probability that a chunk is incomplete after y sends, and 1 / ln(1 - S(y)). */
  private readonly incomplete = new Float64Array(SENDS_KEPT);
  private readonly jump = new Float64Array(SENDS_KEPT);
  /** Chunks to pass before the next one that is lost; -1 when that is not drawn yet. */
  private ahead = -1;

  constructor(loss: PacketLoss, packets: number) {
    this.loss = loss.probability;
    this.packets = packets;
    for (let sends = 0; sends < SENDS_KEPT; sends++) {
      const share = sends === 0 ? 1 : incompleteAfter({ probability: this.loss }, packets, sends);
      this.incomplete[sends] = share;
      this.jump[sends] = 1 / Math.log1p(-share);
    }
  }

  begin(random: Random): void {
    this.random = random;
    this.ahead = -1;
  }

  /** What is left of a jump is kept: it is dear, and as good for the next chunks. */
  clean(most: number): number {
    const ahead = this.ahead >= 0 ? this.ahead : this.beforeNext(1, Infinity);
    this.ahead = ahead < most ? -1 : ahead - most;
    return ahead < most ? ahead : most;
  }

  /** Chunks in a row that are complete after `sends` sends, before one that is not; `most` when there are so many. */
  beforeNext(sends: number, most: number): number {
    if (this.loss === 0) return most;
    const jump =
      sends < SENDS_KEPT ? this.jump[sends]! : 1 / Math.log1p(-this.incompleteAfter(sends));
    const count = Math.floor(Math.log(positive(this.random)) * jump);
    return count < most ? count : most;
  }

  private incompleteAfter(sends: number): number {
    return sends < SENDS_KEPT
      ? this.incomplete[sends]!
      : incompleteAfter({ probability: this.loss }, this.packets, sends);
  }

  /** Of a chunk that is incomplete after `sends` sends: with how many more it is complete. */
  moreThan(sends: number): number {
    const drawn = this.random.float() * this.incompleteAfter(sends);
    let after = sends + 1;
    while (after < SENDS_KEPT && this.incomplete[after]! > drawn) after++;
    if (after === SENDS_KEPT) after = Math.max(after, this.sendsFor(drawn));
    return after - sends;
  }

  /** The least y with S(y) <= drawn, S(y) = 1 - (1 - p^y)^N. */
  private sendsFor(drawn: number): number {
    const each = -Math.expm1(Math.log1p(-drawn) / this.packets);
    return each > 0 ? Math.ceil(Math.log(each) / Math.log(this.loss)) : SENDS_KEPT;
  }

  lose(): number {
    return this.moreThan(1);
  }

  send(packets: number): number {
    const { loss, random } = this;
    if (packets === this.packets) return this.clean(1) === 1 ? 0 : this.lose();
    // Of all its packets the one that needs the most sends: the inverse of (1 - p^y)^packets.
    if (loss === 0) return 0;
    const each = -Math.expm1(Math.log(positive(random)) / packets);
    if (each === 0) return 0;
    return Math.max(0, Math.ceil(Math.log(each) / Math.log(loss)) - 1);
  }

  resend(fate: number): number {
    return fate - 1;
  }

  repeats(fate: number): number {
    return fate;
  }
}

/** The packets [first, end) of a chunk that are missing, pair after pair. */
interface Missing {
  readonly packets: number;
  readonly pairs: number[];
}

/**
 * Packets on a chain of two states (Gilbert, Elliott), which steps once a packet, whatever that carries, as tc-netem's
 * does: what is sent again soon after a loss may meet the same bad spell.
 */
export class SpellLosses implements LossWalk {
  private random!: Random;
  private readonly spells: LossSpells;
  private readonly packets: number;
  private isBad = false;
  /** Packets left of this spell, and those before the next lost one in it. */
  private left = 0;
  private untilLoss = 0;
  private readonly missing: Missing[] = [];

  constructor(spells: LossSpells, packets: number) {
    this.spells = spells;
    this.packets = packets;
  }

  begin(random: Random): void {
    this.random = random;
    this.missing.length = 0;
    this.startAnywhere();
  }

  private startAnywhere(): void {
    const { enter, leave } = this.spells;
    this.startSpell(this.random.float() * (enter + leave) < enter);
  }

  /** Of a spell that is under way, what is left has the same distribution as the whole of it. */
  private startSpell(isBad: boolean): void {
    const { enter, leave, lossBad, lossGood } = this.spells;
    this.isBad = isBad;
    this.left = 1 + this.before(isBad ? leave : enter);
    this.untilLoss = this.before(isBad ? lossBad : lossGood);
  }

  /** Packets before the one that an event of this probability falls on. */
  private before(probability: number): number {
    if (probability === 0) return Infinity;
    if (probability === 1) return 0;
    return Math.floor(Math.log(positive(this.random)) / Math.log1p(-probability));
  }

  clean(most: number): number {
    const { packets } = this;
    let chunks = 0;
    while (chunks < most) {
      const whole = Math.min(
        most - chunks,
        Math.floor(Math.min(this.left, this.untilLoss) / packets),
      );
      if (whole > 0) {
        this.left -= whole * packets;
        this.untilLoss -= whole * packets;
        chunks += whole;
        if (this.left === 0) this.startSpell(!this.isBad);
        continue;
      }
      const pairs = this.pass(packets);
      if (pairs.length > 0) {
        this.missing.push({ packets, pairs });
        return chunks;
      }
      chunks++;
    }
    return chunks;
  }

  lose(): number {
    return this.missing.length;
  }

  send(packets: number): number {
    const pairs = this.pass(packets);
    return pairs.length === 0 ? 0 : this.missing.push({ packets, pairs });
  }

  resend(fate: number): number {
    const { packets, pairs } = this.missing[fate - 1]!;
    const left = both(pairs, this.pass(packets));
    return left.length === 0 ? 0 : this.missing.push({ packets, pairs: left });
  }

  repeats(fate: number): number {
    const { isBad, left, untilLoss } = this;
    let count = 0;
    for (let now = fate; now > 0; count++) {
      this.startAnywhere();
      now = this.resend(now);
    }
    Object.assign(this, { isBad, left, untilLoss });
    return count;
  }

  /** Steps through `packets` packets; returns which are lost. */
  private pass(packets: number): number[] {
    const pairs: number[] = [];
    for (let at = 0; at < packets; ) {
      const step = Math.min(this.left, this.untilLoss, packets - at);
      at += step;
      this.left -= step;
      this.untilLoss -= step;
      if (this.left > 0 && this.untilLoss === 0 && at < packets) {
        if (pairs[pairs.length - 1] === at) pairs[pairs.length - 1] = at + 1;
        else pairs.push(at, at + 1);
        at++;
        this.left--;
        this.untilLoss = this.before(this.isBad ? this.spells.lossBad : this.spells.lossGood);
      }
      if (this.left === 0) this.startSpell(!this.isBad);
    }
    return pairs;
  }
}

/** What two lists of pairs have in common. */
function both(a: readonly number[], b: readonly number[]): number[] {
  const common: number[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    const first = Math.max(a[i]!, b[j]!);
    const end = Math.min(a[i + 1]!, b[j + 1]!);
    if (first < end) common.push(first, end);
    if (a[i + 1]! < b[j + 1]!) i += 2;
    else j += 2;
  }
  return common;
}

/** The losses of a setting's packets, in whole chunks. */
export function lossWalk(setting: Setting): IndependentLosses | SpellLosses {
  const spells = spellsOf(setting.loss);
  const packets = packetsPerChunk(setting);
  return spells === undefined
    ? new IndependentLosses(setting.loss, packets)
    : new SpellLosses(spells, packets);
}
