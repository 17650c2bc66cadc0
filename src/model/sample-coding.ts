/**
 * Erasure coding with its fallback, one message at a time, drawn at random: as src/reliability/erasure-coding.ts does
 * it. The order on the wire is D0 D1 P0 D2 P1 ... D(L-1) P(L-2) P(L-1). When a block is made matters of the last two
 * only; of those before them, where losses are independent, just the short ones are drawn.
 *
 * A block that is short of chunks is asked for, all its missing data, when the sender has said that it is injected
 * (once an RTT during the injection, and at its end) and neither another such word nor a repair of other blocks has
 * come for beta RTT. Repairs go before what is new, and are asked for again an RTT and beta RTT later, until the block
 * can be made.
 *
 * Times at the receiver are told by when what it sees then was sent: it asks at such a time, and repairs go out an RTT
 * after that.
 */
import type { Random } from "../base/random.ts";
import { chunkLoss } from "./loss.ts";
import { BlockLosses } from "./sample-blocks.ts";
import { IndependentLosses, type LossWalk, lossWalk } from "./sample-loss.ts";
import type { Sample, Sampler } from "./sample-repeat.ts";
import { ShortBlocks } from "./sample-short.ts";
import { fallbackNs, type MessageShape, messageShape } from "./timing.ts";
import type { Scheme, Setting } from "./types.ts";

type Coding = Extract<Scheme, { kind: "ec-mds" | "ec-xor" }>;

/** A block that has lost something and may still lose more. */
class OpenBlock {
  /** -1: none. */
  block = -1;
  /** The slot behind its parity; Infinity for none. */
  end = Infinity;
  /** Missing data chunks: offset in the block and fate. */
  count = 0;
  readonly offsets: Uint16Array;
  readonly fates: Float64Array;
  /** 1 for parity that is lost, by its place in the order in which the block's parity is sent. */
  readonly parityLost: Uint8Array;

  constructor(k: number, m: number) {
    this.offsets = new Uint16Array(k);
    this.fates = new Float64Array(k);
    this.parityLost = new Uint8Array(m);
  }

  open(block: number, end: number): void {
    this.block = block;
    this.end = end;
    this.count = 0;
    this.parityLost.fill(0);
  }

  add(offset: number, fate: number): void {
    this.offsets[this.count] = offset;
    this.fates[this.count++] = fate;
  }
}

export class CodingSampler implements Sampler {
  private readonly k: number;
  private readonly m: number;
  private readonly isMds: boolean;
  private readonly shape: MessageShape;
  private readonly rttNs: number;
  private readonly walk: LossWalk;
  /** The receiver's patience, and the time from asking to asking again. */
  private readonly waitNs: number;
  private readonly roundNs: number;
  /** Between two SENTs of a long injection. */
  private readonly sayNs: number;
  private readonly blocks: number;
  /** Parity chunks of the last block, and chunks of all kinds in the message. */
  private readonly lastParity: number;
  private readonly slots: number;
  /** Of two blocks that may be open at a time, the even and the odd one. */
  private readonly open: readonly [OpenBlock, OpenBlock];
  /** By group of the code: a block's missing data, and its parity that has come. Reed-Solomon has one group. */
  private readonly missing: Uint8Array;
  private readonly arrived: Uint8Array;
  private readonly short: ShortBlocks;
  /** Blocks before this one are drawn as a whole. */
  private readonly walkedFrom: number;
  private readonly losses: BlockLosses | undefined;
  /** Short blocks of which only the end of the injection tells. */
  private readonly atEnd: number[] = [];
  private nowNs = 0;
  private slot = 0;
  private doneNs = 0;
  /** When the last repair that arrived was sent. */
  private newsNs = -Infinity;
  private readonly sample: Sample = { completionNs: 0, sentChunks: 0, fellBack: false };

  constructor({ beta, k, kind, m }: Coding, setting: Setting) {
    this.k = k;
    this.m = m;
    this.isMds = kind === "ec-mds";
    this.shape = messageShape(setting);
    this.rttNs = setting.rttNs;
    this.walk = lossWalk(setting);
    this.open = [new OpenBlock(k, m), new OpenBlock(k, m)];
    const groups = this.isMds ? 1 : m;
    this.missing = new Uint8Array(groups);
    this.arrived = new Uint8Array(groups);
    this.short = new ShortBlocks(groups);
    this.roundNs = fallbackNs(beta, setting.rttNs);
    this.waitNs = this.roundNs - setting.rttNs;
    const { chunks, chunkNs } = this.shape;
    this.blocks = Math.ceil(chunks / k);
    const lastData = chunks - (this.blocks - 1) * k;
    this.lastParity = this.isMds ? m : Math.min(m, lastData);
    this.slots = chunks + (this.blocks - 1) * m + this.lastParity;
    const isWhole = this.walk instanceof IndependentLosses && this.blocks > 2;
    this.walkedFrom = isWhole ? this.blocks - 2 : 0;
    if (isWhole) this.losses = new BlockLosses(chunkLoss(setting), this.groupShapes());
    // Said with a block's parity, so after a whole number of blocks.
    const blockNs = (k + m) * chunkNs;
    this.sayNs = blockNs > 0 ? Math.ceil(setting.rttNs / blockNs) * blockNs : Infinity;
  }

  private groupShapes(): { data: number; parity: number }[] {
    const { isMds, k, m } = this;
    if (isMds) return [{ data: k, parity: m }];
    return Array.from({ length: m }, (_, group) => ({
      data: Math.ceil((k - group) / m),
      parity: 1,
    }));
  }

  draw(random: Random): Sample {
    const { atEnd, sample, shape, short } = this;
    this.walk.begin(random);
    this.slot = 0;
    this.nowNs = 0;
    this.doneNs = 0;
    this.newsNs = -Infinity;
    atEnd.length = 0;
    short.clear();
    sample.fellBack = false;
    sample.sentChunks = shape.chunks === 0 ? 0 : this.slots;
    for (const block of this.open) block.open(-1, Infinity);
    if (this.losses !== undefined) this.injectWhole(random, this.losses);
    if (shape.chunks > 0) this.inject();
    for (const block of atEnd) short.asks.add(this.nowNs + this.waitNs, block);
    while (short.nextNs < Infinity) this.act();
    sample.completionNs = this.doneNs + this.rttNs;
    return sample;
  }

  /** From short block to short block, up to the data of the first one that is walked through. */
  private injectWhole(random: Random, losses: BlockLosses): void {
    const { arrived, missing, short, walkedFrom, walk } = this;
    for (let block = 0; ; block++) {
      block += losses.beforeNext(random, walkedFrom - block);
      if (block >= walkedFrom) break;
      this.advance(this.dataSlot(block));
      let lacks = 0;
      losses.drawShort(random, (group, lost, came) => {
        missing[group] = lost;
        arrived[group] = came;
        lacks += Math.max(0, lost - came);
      });
      const added = short.add(lacks, missing, arrived);
      for (let group = 0; group < missing.length; group++)
        for (let i = 0; i < missing[group]!; i++) short.addChunk(group, walk.lose());
      this.sample.fellBack = true;
      this.askFor(added, block);
    }
    this.advance(this.dataSlot(walkedFrom));
  }

  /** The slot of a block's first data chunk. */
  private dataSlot(block: number): number {
    return block * this.k + Math.max(0, block - 1) * this.m;
  }

  /** Up to this slot there is nothing to see but repairs. */
  private advance(slot: number): void {
    const { chunkNs } = this.shape;
    while (this.slot < slot) {
      if (this.short.nextNs <= this.nowNs) this.act();
      const untilDue = Math.max(1, Math.ceil((this.short.nextNs - this.nowNs) / chunkNs));
      const count = Math.min(slot - this.slot, untilDue);
      this.slot += count;
      this.nowNs += count * chunkNs;
    }
  }

  /** From loss to loss, to the end of a block that has lost something, and to repairs that are due. */
  private inject(): void {
    const { shape, slots, walk } = this;
    const [even, odd] = this.open;
    const { chunks, chunkNs } = shape;
    // The last data chunk may be short; all others, parity too, are taken as whole.
    const last = chunks - 1 + Math.max(0, this.blocks - 2) * this.m;
    while (this.slot < slots) {
      if (this.short.nextNs <= this.nowNs) this.act();
      if (this.slot === last) this.passLast();
      else {
        const untilDue = Math.max(1, Math.ceil((this.short.nextNs - this.nowNs) / chunkNs));
        const end = Math.min(this.slot < last ? last : slots, even.end, odd.end);
        const most = Math.min(end - this.slot, untilDue);
        const passed = walk.clean(most);
        const count = passed < most ? passed + 1 : passed;
        this.slot += count;
        this.nowNs += count * chunkNs;
        if (passed < most) this.note(this.slot - 1);
      }
      if (this.slot >= even.end) this.close(even);
      if (this.slot >= odd.end) this.close(odd);
    }
  }

  private passLast(): void {
    const { shape, walk } = this;
    const block = this.blocks - 1;
    const fate = walk.send(shape.lastPackets);
    if (fate > 0) this.opened(block).add(shape.chunks - 1 - block * this.k, fate);
    this.slot++;
    this.nowNs += shape.lastNs;
    this.doneNs = this.nowNs;
  }

  /** The chunk in this slot was lost. */
  private note(slot: number): void {
    const { k, m, walk } = this;
    // Data of block g and parity of block g - 1 follow each other from slot k + (g - 1)(k + m) on.
    const turn = slot < k ? 0 : 1 + Math.floor((slot - k) / (k + m));
    const g = Math.min(turn, this.blocks - 1);
    const at = g === 0 ? slot : slot - k - (g - 1) * (k + m);
    const data = Math.min(k, this.shape.chunks - g * k);
    if (at < data) this.opened(g).add(at, walk.lose());
    else if (g > 0 && at < data + m) {
      if (g > this.walkedFrom) this.opened(g - 1).parityLost[at - data] = 1;
    } else this.opened(g).parityLost[at - data - (g > 0 ? m : 0)] = 1;
  }

  private opened(block: number): OpenBlock {
    const open = this.open[block & 1] as OpenBlock;
    if (open.block !== block) open.open(block, this.endSlot(block));
    return open;
  }

  /** The slot behind a block's parity. */
  private endSlot(block: number): number {
    if (block >= this.blocks - 1) return this.slots;
    return Math.min((block + 2) * this.k, this.shape.chunks) + (block + 1) * this.m;
  }

  /** All of a block has been sent: it can be made, from so much parity, or must be repaired. */
  private close(open: OpenBlock): void {
    const { block, count, fates, offsets, parityLost } = open;
    open.block = -1;
    open.end = Infinity;
    if (count === 0) return;
    const { arrived, isMds, m, missing, short } = this;
    const isLast = block === this.blocks - 1;
    const parity = isLast ? this.lastParity : m;
    const data = isLast ? this.shape.chunks - block * this.k : this.k;
    arrived.fill(0);
    missing.fill(0);
    // Parity of modulo groups goes out from the group behind that of the last data chunk on.
    for (let place = 0; place < parity; place++)
      if (parityLost[place] === 0) arrived[isMds ? 0 : (data + place) % parity]!++;
    for (let i = 0; i < count; i++) missing[isMds ? 0 : offsets[i]! % m]!++;
    let lacks = 0;
    for (let group = 0; group < missing.length; group++)
      lacks += Math.max(0, missing[group]! - arrived[group]!);
    if (lacks === 0) {
      if (block >= this.blocks - 2) this.made(open, count, parity, data);
      return;
    }
    this.sample.fellBack = true;
    const added = short.add(lacks, missing, arrived);
    for (let i = 0; i < count; i++) short.addChunk(isMds ? 0 : offsets[i]! % m, fates[i]!);
    this.askFor(added, block);
  }

  /** A block near the message's end is made when the last parity that it needs has come. Uses up `missing`. */
  private made(open: OpenBlock, count: number, parity: number, data: number): void {
    let needed = count;
    let place = 0;
    for (; place < parity && needed > 0; place++) {
      const group = this.isMds ? 0 : (data + place) % parity;
      if (this.missing[group] === 0 || open.parityLost[place] === 1) continue;
      this.missing[group]!--;
      needed--;
    }
    this.doneNs = Math.max(this.doneNs, this.nowNs - (parity - place) * this.shape.chunkNs);
  }

  /** When the sender next says that this block is injected, a block later at the earliest, or that all is. */
  private askFor(added: number, block: number): void {
    const { chunkNs } = this.shape;
    const slots = this.endSlot(block) - this.slot + this.k + this.m;
    const injectedNs = this.nowNs + slots * chunkNs;
    const saidNs = Math.ceil(injectedNs / this.sayNs) * this.sayNs;
    const endNs = this.nowNs + (this.slots - this.slot) * chunkNs;
    // A word that comes before the receiver has lost patience with the one before takes its place.
    if (block < this.blocks - 1 && saidNs + this.waitNs < endNs)
      this.short.asks.add(saidNs + this.waitNs, added);
    else this.atEnd.push(added);
  }

  private act(): void {
    const { asks, repairs } = this.short;
    if (repairs.nextNs <= asks.nextNs) this.repair();
    else this.ask();
  }

  /** For the blocks that are due, unless others are still coming in. */
  private ask(): void {
    const { asks, repairs } = this.short;
    const { nextNs } = asks;
    const atNs = this.newsNs + this.waitNs;
    for (const block of asks.take()) {
      if (atNs > nextNs) asks.add(atNs, block);
      else repairs.add(nextNs + this.rttNs, block);
    }
  }

  /** Sends again what the blocks that are due next are missing. */
  private repair(): void {
    const { chunks, chunkNs, lastNs } = this.shape;
    const repairNs = chunks > 1 ? chunkNs : lastNs;
    const { roundNs, sample, short, walk } = this;
    const dueNs = short.repairs.nextNs;
    this.nowNs = Math.max(this.nowNs, dueNs);
    for (const block of short.repairs.take()) {
      const end = short.chunkEnd(block);
      for (let chunk = short.chunkFirst(block); chunk < end; chunk++) {
        const fate = short.fateOf(chunk);
        if (fate === 0) continue;
        this.nowNs += repairNs;
        sample.sentChunks++;
        const left = walk.resend(fate);
        if (left === 0) this.newsNs = this.nowNs;
        if (short.sent(block, chunk, left)) this.doneNs = Math.max(this.doneNs, this.nowNs);
      }
      if (short.isMade(block)) continue;
      // Asked again in rounds; one that is asked for before its repair should have come does not count.
      const rounds = Math.ceil((this.nowNs + this.rttNs - dueNs) / roundNs - 1e-9);
      short.repairs.add(dueNs + Math.max(1, rounds) * roundNs, block);
    }
  }
}
