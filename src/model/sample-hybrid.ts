/**
 * The hybrid scheme, one message at a time, drawn at random. Blocks go out in groups of those that take turns, each
 * group's data and then, in the tail, its parity. What a block lacks beyond its parity is known a round trip and the
 * time for reordering after its end; as many fresh rows go out then, before anything new, and when nothing new is left,
 * so many more that they hardly fail.
 */
import type { Random } from "../base/random.ts";
import { pathViewOf, REPAIR_FAILURE } from "./hybrid.ts";
import { repairRows, tailChunks } from "./parity.ts";
import { type LossWalk, lossWalk } from "./sample-loss.ts";
import type { Sample, Sampler } from "./sample-repeat.ts";
import { SCHEME_DEFAULTS } from "./scheme.ts";
import { askedRepairNs, type MessageShape, messageShape } from "./timing.ts";
import type { HybridShape, Setting } from "./types.ts";

/** A group's blocks that lack something, and when to send rows for them. */
interface Repair {
  readonly dueNs: number;
  /** Rows that each block still needs. */
  readonly short: number[];
}

export class HybridSampler implements Sampler {
  private readonly hybrid: HybridShape;
  private readonly shape: MessageShape;
  private readonly rttNs: number;
  /** From a group's end to its repair, and from that to the next. */
  private readonly knownNs: number;
  private readonly walk: LossWalk;
  private readonly view: ReturnType<typeof pathViewOf>;
  /** Groups, and the first of them that has parity. */
  private readonly groups: number;
  private readonly tailGroup: number;
  private readonly rowsFor: number[] = [0];
  /** Of the group at hand: data missing and parity lost by block. */
  private readonly missing: Uint16Array;
  private readonly parityLost: number[] = [];
  private readonly repairs: Repair[] = [];
  private nowNs = 0;
  private doneNs = 0;
  private readonly sample: Sample = { completionNs: 0, sentChunks: 0, fellBack: false };

  constructor(hybrid: HybridShape, setting: Setting) {
    const { interleave, k } = hybrid;
    this.hybrid = hybrid;
    this.shape = messageShape(setting);
    this.rttNs = setting.rttNs;
    this.knownNs = askedRepairNs(SCHEME_DEFAULTS.reorder, setting.rttNs);
    this.walk = lossWalk(setting);
    this.view = pathViewOf(setting);
    const blocks = Math.ceil(this.shape.chunks / k);
    const tail = Math.ceil(tailChunks(this.shape.chunks, this.view) / k);
    this.groups = Math.ceil(blocks / interleave);
    this.tailGroup = Math.floor((blocks - Math.max(1, tail)) / interleave);
    this.missing = new Uint16Array(interleave);
  }

  draw(random: Random): Sample {
    const { repairs, sample, walk } = this;
    walk.begin(random);
    this.nowNs = 0;
    this.doneNs = 0;
    repairs.length = 0;
    sample.fellBack = false;
    sample.sentChunks = 0;
    for (let group = 0; group < this.groups; group++) this.inject(group);
    while (repairs.length > 0) this.repair(true);
    sample.completionNs = this.doneNs + this.rttNs;
    return sample;
  }

  private chunksOf(group: number): number {
    const each = this.hybrid.k * this.hybrid.interleave;
    return Math.min(each, this.shape.chunks - group * each);
  }

  /** A group's data, its parity where it has some, and the repairs that fall due meanwhile. */
  private inject(group: number): void {
    const { hybrid, missing, parityLost } = this;
    const count = this.chunksOf(group);
    const blocks = Math.ceil(count / hybrid.k);
    missing.fill(0);
    parityLost.length = 0;
    this.pass(count, group === this.groups - 1, (at) => missing[at % blocks]!++);
    this.doneNs = Math.max(this.doneNs, this.nowNs);
    const parity = group >= this.tailGroup ? hybrid.parity : 0;
    this.pass(blocks * parity, false, (at) => parityLost.push(at));
    const short: number[] = [];
    for (let block = 0; block < blocks; block++) {
      if (missing[block] === 0) continue;
      const lacks = this.lacking(block, blocks, parity);
      if (lacks > 0) short.push(lacks);
    }
    if (short.length === 0) return;
    if (parity > 0) this.sample.fellBack = true;
    this.repairs.push({ dueNs: this.nowNs + this.knownNs, short });
  }

  /** Rows that a block needs beyond its parity; when it needs none, notes when it could be made. */
  private lacking(block: number, blocks: number, parity: number): number {
    let needed = this.missing[block]!;
    for (let row = 0; row < parity && needed > 0; row++) {
      const at = row * blocks + block;
      if (this.parityLost.includes(at)) continue;
      needed--;
      if (needed > 0) continue;
      const behind = blocks * parity - 1 - at;
      this.doneNs = Math.max(this.doneNs, this.nowNs - behind * this.shape.chunkNs);
    }
    return needed;
  }

  /** Sends `count` chunks, of which the last may be the message's, and tells which are lost. */
  private pass(count: number, isEnd: boolean, onLost: (at: number) => void): void {
    const { shape, walk } = this;
    const whole = isEnd ? count - 1 : count;
    for (let at = 0; at < whole; ) {
      while (this.repairs.length > 0 && this.repairs[0]!.dueNs <= this.nowNs) this.repair(false);
      const dueNs = this.repairs[0]?.dueNs ?? Infinity;
      const most = Math.min(
        whole - at,
        Math.max(1, Math.ceil((dueNs - this.nowNs) / shape.chunkNs)),
      );
      const passed = walk.clean(most);
      at += passed;
      this.nowNs += passed * shape.chunkNs;
      if (passed === most) continue;
      walk.lose();
      onLost(at++);
      this.nowNs += shape.chunkNs;
    }
    this.sample.sentChunks += count;
    if (!isEnd) return;
    if (walk.send(shape.lastPackets) > 0) onLost(whole);
    this.nowNs += shape.lastNs;
  }

  /** Sends fresh rows for the group that is due first. */
  private repair(isEnd: boolean): void {
    const { dueNs, short } = this.repairs.shift()!;
    const { chunkNs, packets } = this.shape;
    this.nowNs = Math.max(this.nowNs, dueNs);
    const left: number[] = [];
    for (const needed of short) {
      let lacks = needed;
      const rows = isEnd ? this.rowsToRepair(needed) : needed;
      for (let row = 0; row < rows; row++) {
        this.nowNs += chunkNs;
        if (this.walk.send(packets) === 0 && --lacks === 0)
          this.doneNs = Math.max(this.doneNs, this.nowNs);
      }
      this.sample.sentChunks += rows;
      if (lacks > 0) left.push(lacks);
    }
    if (left.length > 0) this.repairs.push({ dueNs: this.nowNs + this.knownNs, short: left });
  }

  private rowsToRepair(missing: number): number {
    return (this.rowsFor[missing] ??= repairRows(missing, this.view, REPAIR_FAILURE));
  }
}
