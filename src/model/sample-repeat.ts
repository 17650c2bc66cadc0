/** Selective Repeat and Go-Back-N, one message at a time, drawn at random. The timing is that of timing.ts. */
import type { Random } from "../base/random.ts";
import { logComplete, packetsPerChunk } from "./loss.ts";
import { IndependentLosses, type LossWalk, lossWalk } from "./sample-loss.ts";
import { type MessageShape, messageShape } from "./timing.ts";
import type { Setting } from "./types.ts";

/** What became of a message. */
export interface Sample {
  completionNs: number;
  /** Chunks sent, parity too. */
  sentChunks: number;
  /** Whether parity did not save all. */
  fellBack: boolean;
}

/** Draws messages of one scheme in one setting. */
export interface Sampler {
  /** The next one, in an object that the call after it uses again. */
  draw(random: Random): Readonly<Sample>;
}

/**
 * Chunks waiting for their repair, in order of its time but for the difference between first and later waits. Grows to
 * the chunks that a message may have lost at a time.
 */
export class Repairs {
  count = 0;
  private head = 0;
  private dueNs = new Float64Array(64);
  private fates = new Float64Array(64);

  clear(): void {
    this.count = 0;
    this.head = 0;
  }

  /** Infinity when none waits. */
  get nextNs(): number {
    return this.count === 0 ? Infinity : this.dueNs[this.head]!;
  }

  push(dueNs: number, fate: number): void {
    if (this.count === this.dueNs.length) this.grow();
    const at = (this.head + this.count++) & (this.dueNs.length - 1);
    this.dueNs[at] = dueNs;
    this.fates[at] = fate;
  }

  shift(): number {
    const fate = this.fates[this.head]!;
    this.head = (this.head + 1) & (this.dueNs.length - 1);
    this.count--;
    return fate;
  }

  /** Twice the room; the lengths are powers of two. */
  private grow(): void {
    const turned = (from: Float64Array<ArrayBuffer>) => {
      const to = new Float64Array(2 * from.length);
      to.set(from.subarray(this.head));
      to.set(from.subarray(0, this.head), from.length - this.head);
      return to;
    };
    this.dueNs = turned(this.dueNs);
    this.fates = turned(this.fates);
    this.head = 0;
  }
}

/** Chunks sent per chunk of the message: the sum of S(y), a chunk being sent a y+1-th time with probability S(y). */
export function expectedSends(setting: Setting): number {
  const packets = packetsPerChunk(setting);
  let sum = 1;
  for (let sends = 1; ; sends++) {
    const more = -Math.expm1(logComplete(setting.loss, packets, sends));
    sum += more;
    if (more < sum * 1e-12) return sum;
  }
}

/** What a scheme's repairs cost. */
export interface RepairTiming {
  /** From the end of a chunk's injection to that of its first repair, and from each to the next. */
  readonly first: number;
  readonly later: number;
  /** Share of the repairs that are not asked for in time, because the asking is lost. */
  readonly askLoss: number;
}

/** Selective Repeat. Repairs go before new chunks. */
export class RepeatSampler implements Sampler {
  private readonly shape: MessageShape;
  private readonly rttNs: number;
  private readonly repair: RepairTiming;
  private readonly walk: LossWalk;
  private random!: Random;
  /** Where repairs cannot meet new chunks on the wire, nor each other: only the latest of each round matters. */
  private readonly apart: IndependentLosses | undefined;
  private readonly repairs = new Repairs();
  private readonly sample: Sample = { completionNs: 0, sentChunks: 0, fellBack: false };
  private readonly expectedChunks: number;

  constructor(setting: Setting, repair: RepairTiming) {
    this.shape = messageShape(setting);
    this.rttNs = setting.rttNs;
    this.repair = repair;
    this.walk = lossWalk(setting);
    const isApart = repair.askLoss === 0 && this.shape.injectionNs <= repair.later;
    this.apart = isApart && this.walk instanceof IndependentLosses ? this.walk : undefined;
    this.expectedChunks = this.shape.chunks * expectedSends(setting);
  }

  draw(random: Random): Sample {
    const { apart, sample, shape, walk } = this;
    this.random = random;
    walk.begin(random);
    if (shape.chunks === 0) sample.completionNs = this.rttNs;
    else if (apart === undefined) this.follow();
    else this.drawLatest(apart);
    return sample;
  }

  /**
   * From the last chunk back: the last one that needs a repeat, before it the last one that needs more repeats than
   * that, and so on. No other chunk can be the last to be delivered. Repeats are not counted: their mean is known.
   */
  private drawLatest(losses: IndependentLosses): void {
    const { chunks, chunkNs, injectionNs, lastPackets } = this.shape;
    const { first, later } = this.repair;
    const afterNs = (repeats: number) => (repeats === 0 ? 0 : first + (repeats - 1) * later);
    let repeats = losses.send(lastPackets);
    let latestNs = injectionNs + afterNs(repeats);
    for (let at = chunks - 1; at > 0; ) {
      const passed = losses.beforeNext(repeats + 1, at);
      if (passed >= at) break;
      at -= passed + 1;
      repeats += losses.moreThan(repeats + 1);
      latestNs = Math.max(latestNs, (at + 1) * chunkNs + afterNs(repeats));
    }
    this.sample.completionNs = latestNs + this.rttNs;
    this.sample.sentChunks = this.expectedChunks;
  }

  /** From loss to loss and repair to repair. The wire is in order, so what is sent last is delivered last. */
  private follow(): void {
    const { repair, repairs, walk } = this;
    const { chunks, chunkNs, lastNs, lastPackets } = this.shape;
    const repairNs = chunks > 1 ? chunkNs : lastNs;
    const firstNs = repair.first - repairNs;
    const laterNs = repair.later - repairNs;
    let left = chunks - 1;
    let isLastLeft = true;
    let nowNs = 0;
    let sent = 0;
    repairs.clear();
    while (repairs.count > 0 || isLastLeft) {
      const dueNs = repairs.nextNs;
      let fate = 0;
      if (dueNs <= nowNs || !isLastLeft) {
        const asked = repairs.shift();
        if (this.isAskLost()) {
          repairs.push(Math.max(nowNs, dueNs) + repair.later, asked);
          continue;
        }
        fate = walk.resend(asked);
        nowNs = Math.max(nowNs, dueNs) + repairNs;
        if (fate > 0) repairs.push(nowNs + laterNs, fate);
        sent++;
        continue;
      }
      if (left > 0) {
        const most = Math.min(left, Math.max(1, Math.ceil((dueNs - nowNs) / chunkNs)));
        const passed = walk.clean(most);
        if (passed < most) fate = walk.lose();
        const count = passed < most ? passed + 1 : passed;
        nowNs += count * chunkNs;
        left -= count;
        sent += count;
      } else {
        fate = walk.send(lastPackets);
        nowNs += lastNs;
        isLastLeft = false;
        sent++;
      }
      if (fate > 0) repairs.push(nowNs + firstNs, fate);
    }
    this.sample.completionNs = nowNs + this.rttNs;
    this.sample.sentChunks = sent;
  }

  private isAskLost(): boolean {
    const { askLoss } = this.repair;
    return askLoss > 0 && this.random.chance(askLoss);
  }
}

/**
 * Go-Back-N: from the first chunk that is missing everything is sent again, one RTT after the next chunk has shown it
 * missing, or a timeout after it where nothing arrives behind it. The receiver keeps what came out of order, as our
 * bitmap does. So a chunk that lacks r repeats when pass k first reaches it is there from pass k + r on, and the chunk
 * from which the next pass starts only ever moves forward. Repeats of a chunk meet independent losses.
 */
export class GoBackSampler implements Sampler {
  private readonly shape: MessageShape;
  private readonly rttNs: number;
  private readonly timeoutNs: number;
  private readonly walk: LossWalk;
  /** Lost chunks and the pass that delivers each, ascending; `first` and `end` bound those still of interest. */
  private lost = new Float64Array(64);
  private delivered = new Float64Array(64);
  private first = 0;
  private end = 0;
  /** Chunks below have been sent at least once. */
  private reached = 0;
  private readonly sample: Sample = { completionNs: 0, sentChunks: 0, fellBack: false };

  constructor(setting: Setting, timeoutNs: number) {
    this.shape = messageShape(setting);
    this.rttNs = setting.rttNs;
    this.timeoutNs = timeoutNs;
    this.walk = lossWalk(setting);
  }

  draw(random: Random): Sample {
    const { chunks, chunkNs, injectionNs } = this.shape;
    const { rttNs, sample, walk } = this;
    walk.begin(random);
    this.first = 0;
    this.end = 0;
    this.reached = 0;
    let nowNs = 0;
    let sent = 0;
    let from = 0;
    for (let pass = 0; from < chunks; pass++) {
      const missing = this.firstMissing(from, pass);
      if (missing >= chunks) break;
      const seen = this.firstSeenBehind(missing, pass);
      const waitNs = seen < chunks ? (seen - missing) * chunkNs + rttNs : this.timeoutNs;
      const injected = missing - from + 1;
      const more = chunkNs > 0 ? Math.ceil(waitNs / chunkNs) : Infinity;
      const until = Math.min(chunks, missing + 1 + more);
      this.reach(until, pass);
      nowNs += injected * chunkNs + waitNs;
      sent += until - from;
      from = missing;
    }
    const restNs = chunks === 0 ? 0 : injectionNs - from * chunkNs;
    sample.completionNs = nowNs + restNs + rttNs;
    sample.sentChunks = sent + chunks - from;
    return sample;
  }

  /** The first chunk from `from` on that is not there after this pass; the message's chunks when there is none. */
  private firstMissing(from: number, pass: number): number {
    for (;;) {
      while (this.first < this.end && this.isOver(this.first, from, pass)) this.first++;
      if (this.first < this.end) return this.lost[this.first]!;
      if (this.reached >= this.shape.chunks) return this.shape.chunks;
      this.findLoss(this.shape.chunks, pass);
    }
  }

  private isOver(index: number, from: number, pass: number): boolean {
    return this.lost[index]! < from || this.delivered[index]! <= pass;
  }

  /** The first chunk behind a missing one that arrives in this pass. */
  private firstSeenBehind(missing: number, pass: number): number {
    let at = this.first;
    for (let chunk = missing + 1; chunk < this.shape.chunks; chunk++) {
      while (chunk >= this.reached) this.findLoss(chunk + 1, pass);
      while (at < this.end && this.lost[at]! < chunk) at++;
      if (at >= this.end || this.lost[at]! > chunk || this.delivered[at]! <= pass) return chunk;
    }
    return this.shape.chunks;
  }

  private reach(until: number, pass: number): void {
    while (this.reached < until) this.findLoss(until, pass);
  }

  /** Goes on to the next loss below `until`, or to there. */
  private findLoss(until: number, pass: number): void {
    const { walk } = this;
    const whole = Math.min(until, this.shape.chunks - 1) - this.reached;
    let fate = 0;
    if (whole > 0) {
      const passed = walk.clean(whole);
      this.reached += passed;
      if (passed === whole) return;
      fate = walk.lose();
    } else fate = walk.send(this.shape.lastPackets);
    const chunk = this.reached++;
    if (fate === 0) return;
    this.keep(chunk, pass + walk.repeats(fate));
  }

  private keep(chunk: number, pass: number): void {
    if (this.end === this.lost.length) {
      const rest = this.lost.subarray(this.first, this.end);
      const room = Math.max(64, 2 * rest.length);
      const moved = (values: Float64Array) => {
        const to = new Float64Array(room);
        to.set(values.subarray(this.first, this.end));
        return to;
      };
      this.delivered = moved(this.delivered);
      this.lost = moved(this.lost);
      this.end -= this.first;
      this.first = 0;
    }
    this.lost[this.end] = chunk;
    this.delivered[this.end++] = pass;
  }
}
