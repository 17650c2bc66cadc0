/**
 * The hybrid scheme, one message at a time, drawn at random: as src/reliability/hybrid.ts does it, for a sender that
 * knows the loss. The head's chunks are repaired as in sr-nack. The tail's blocks go out in groups of those that take
 * turns, each group's data and then the rows that are usually needed; the other rows follow the last data, one of each
 * block at a time. Repairs of the head that are lost during the tail take a row behind the data too. What all rows do
 * not save waits for fresh ones.
 */
import type { Random } from "../base/random.ts";
import { pathViewOf, REPAIR_FAILURE } from "./hybrid.ts";
import { REPAIR_RTTS, repairRows, tailChunks, usualRows } from "./parity.ts";
import { type LossWalk, lossWalk } from "./sample-loss.ts";
import { Repairs, type Sample, type Sampler } from "./sample-repeat.ts";
import { SCHEME_DEFAULTS } from "./scheme.ts";
import { askedRepairNs, type MessageShape, messageShape } from "./timing.ts";
import type { HybridShape, Setting } from "./types.ts";

export class HybridSampler implements Sampler {
  private readonly hybrid: HybridShape;
  private readonly shape: MessageShape;
  private readonly rttNs: number;
  /** From a chunk's injection in the head to its repair, and from the end of everything to that of short blocks. */
  private readonly askedNs: number;
  private readonly neededNs: number;
  private readonly walk: LossWalk;
  private readonly view: ReturnType<typeof pathViewOf>;
  /** Chunks of the head, blocks of the tail, and their rows that go out early and late. */
  private readonly head: number;
  private readonly tail: number;
  private readonly early: number;
  private readonly late: number;
  private readonly repairs = new Repairs();
  private readonly rowsFor: number[] = [0];
  /** Of the tail, by block: data missing and early rows lost; 1 for each late row that is lost. */
  private readonly missing: Uint16Array;
  private readonly earlyLost: Uint16Array;
  private readonly lateLost: Uint8Array;
  private nowNs = 0;
  /** Repairs of the head that were lost during the tail. */
  private lostAgain = 0;
  private readonly sample: Sample = { completionNs: 0, sentChunks: 0, fellBack: false };

  constructor(hybrid: HybridShape, setting: Setting) {
    const { k, parity } = hybrid;
    this.hybrid = hybrid;
    this.shape = messageShape(setting);
    this.rttNs = setting.rttNs;
    this.askedNs = askedRepairNs(SCHEME_DEFAULTS.reorder, setting.rttNs) + this.shape.chunkNs;
    this.neededNs = REPAIR_RTTS * setting.rttNs;
    this.walk = lossWalk(setting);
    this.view = pathViewOf(setting);
    const { chunks } = this.shape;
    const blocks = Math.ceil(chunks / k);
    this.tail = Math.min(blocks, Math.max(1, Math.ceil(tailChunks(chunks, this.view) / k)));
    this.head = (blocks - this.tail) * k;
    this.early = Math.min(parity, usualRows(k, this.view));
    this.late = parity - this.early;
    this.missing = new Uint16Array(this.tail);
    this.earlyLost = new Uint16Array(this.tail);
    this.lateLost = new Uint8Array(this.tail * this.late);
  }

  draw(random: Random): Sample {
    const { missing, repairs, sample, shape } = this;
    this.walk.begin(random);
    this.nowNs = 0;
    this.lostAgain = 0;
    missing.fill(0);
    this.earlyLost.fill(0);
    repairs.clear();
    sample.fellBack = false;
    sample.sentChunks = shape.chunks;
    this.pass(this.head, () => repairs.push(this.nowNs + this.askedNs, this.walk.lose()));
    this.injectTail();
    // What the head still lacks is known before the tail ends: its rows go out behind the data.
    for (; repairs.count > 0; repairs.shift()) this.lostAgain++;
    sample.sentChunks += this.lostAgain;
    this.nowNs += this.lostAgain * shape.chunkNs;
    sample.completionNs = this.finish() + this.rttNs;
    return sample;
  }

  private injectTail(): void {
    const { early, earlyLost, hybrid, missing, shape, tail } = this;
    const { interleave, k } = hybrid;
    for (let first = 0; first < tail; first += interleave) {
      const blocks = Math.min(interleave, tail - first);
      const start = this.head + first * k;
      const data = Math.min(blocks * k, shape.chunks - start);
      const isLast = start + data === shape.chunks;
      this.pass(isLast ? data - 1 : data, (at) => missing[first + (at % blocks)]!++);
      if (isLast) this.passLast(first + ((data - 1) % blocks));
      this.pass(blocks * early, (at) => earlyLost[first + (at % blocks)]!++);
      this.sample.sentChunks += blocks * early;
    }
  }

  private passLast(block: number): void {
    if (this.walk.send(this.shape.lastPackets) > 0) this.missing[block]!++;
    this.nowNs += this.shape.lastNs;
  }

  /** The late rows, and repairs of what they do not save; returns when the last block has what it needs. */
  private finish(): number {
    const { early, earlyLost, late, lateLost, missing, sample, shape, tail } = this;
    const { chunkNs } = shape;
    const dataNs = this.nowNs;
    let doneNs = dataNs;
    lateLost.fill(0);
    this.pass(tail * late, (at) => {
      lateLost[at] = 1;
    });
    sample.sentChunks += tail * late;
    const short: number[] = [];
    for (let block = 0; block < tail; block++) {
      let lacks = Math.max(0, missing[block]! - (early - earlyLost[block]!));
      for (let row = 0; row < late && lacks > 0; row++) {
        const at = row * tail + block;
        if (lateLost[at] === 0 && --lacks === 0)
          doneNs = Math.max(doneNs, dataNs + (at + 1) * chunkNs);
      }
      if (lacks > 0) short.push(lacks);
    }
    sample.fellBack = short.length > 0 && this.hybrid.parity > 0;
    return this.repair(short, doneNs);
  }

  /** Fresh rows for the blocks that are short, round after round. */
  private repair(blocks: readonly number[], beforeNs: number): number {
    const { packets, chunkNs } = this.shape;
    let doneNs = beforeNs;
    let short = blocks;
    while (short.length > 0) {
      const left: number[] = [];
      this.nowNs += this.neededNs;
      for (const needed of short) {
        let lacks = needed;
        const rows = this.rowsToRepair(needed);
        for (let row = 0; row < rows; row++) {
          this.nowNs += chunkNs;
          if (this.walk.send(packets) === 0 && --lacks === 0) doneNs = Math.max(doneNs, this.nowNs);
        }
        this.sample.sentChunks += rows;
        if (lacks > 0) left.push(lacks);
      }
      short = left;
    }
    return doneNs;
  }

  /** Sends `count` whole chunks, before them the repairs that are due, and tells which are lost. */
  private pass(count: number, onLost: (at: number) => void): void {
    const { repairs, shape, walk } = this;
    for (let at = 0; at < count; ) {
      while (repairs.nextNs <= this.nowNs) this.repairHead();
      const untilDue = Math.max(1, Math.ceil((repairs.nextNs - this.nowNs) / shape.chunkNs));
      const most = Math.min(count - at, untilDue);
      const passed = walk.clean(most);
      at += passed;
      this.nowNs += passed * shape.chunkNs;
      if (passed === most) continue;
      this.nowNs += shape.chunkNs;
      onLost(at++);
    }
  }

  /** A repair that is lost is asked for again, if there is time for that. */
  private repairHead(): void {
    const { chunkNs, injectionNs } = this.shape;
    const fate = this.walk.resend(this.repairs.shift());
    this.nowNs += chunkNs;
    this.sample.sentChunks++;
    if (fate === 0) return;
    if (this.nowNs + this.askedNs < injectionNs) this.repairs.push(this.nowNs + this.askedNs, fate);
    else this.lostAgain++;
  }

  private rowsToRepair(missing: number): number {
    return (this.rowsFor[missing] ??= repairRows(missing, this.view, REPAIR_FAILURE));
  }
}
