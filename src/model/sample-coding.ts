/**
 * Erasure coding with its fallback, one message at a time, drawn at random: as src/reliability/erasure-coding.ts does
 * it. The order on the wire is D0 D1 P0 D2 P1 ... D(L-1) P(L-2) P(L-1). Only blocks that lose something are looked at.
 *
 * A block that is short of chunks is asked for, all its missing data, when the sender has said that it is injected: once
 * an RTT during the injection, and at its end. Repairs go before what is new, and are asked for again by the same
 * clock until the block can be made.
 */
import type { Random } from "../base/random.ts";
import { type LossWalk, lossWalk } from "./sample-loss.ts";
import type { Sample, Sampler } from "./sample-repeat.ts";
import { fallbackNs, type MessageShape, messageShape } from "./timing.ts";
import type { Scheme, Setting } from "./types.ts";

type Coding = Extract<Scheme, { kind: "ec-mds" | "ec-xor" }>;

/** A block that has lost something and may still lose more. */
class OpenBlock {
  block = -1;
  /** Missing data chunks: offset in the block and fate. */
  readonly offsets: number[] = [];
  readonly fates: number[] = [];
  /** Lost parity, by its place in the order in which the block's parity is sent. */
  readonly parityLost: number[] = [];

  open(block: number): void {
    this.block = block;
    this.offsets.length = 0;
    this.fates.length = 0;
    this.parityLost.length = 0;
  }
}

/** A block that its parity did not save. */
interface ShortBlock {
  /** Missing data by group of the code, and parity that has come; Reed-Solomon has one group. */
  readonly missing: Uint8Array;
  readonly arrived: Uint8Array;
  readonly groups: number[];
  readonly fates: number[];
}

export class CodingSampler implements Sampler {
  private readonly scheme: Coding;
  private readonly shape: MessageShape;
  private readonly rttNs: number;
  private readonly walk: LossWalk;
  /** From what a SENT covers to its repairs, and from repairs to their own. */
  private readonly roundNs: number;
  /** Between two SENTs of a long injection. */
  private readonly sayNs: number;
  private readonly blocks: number;
  /** Parity chunks of the last block, and chunks of all kinds in the message. */
  private readonly lastParity: number;
  private readonly slots: number;
  /** Of two blocks that may be open at a time, the even and the odd one. */
  private readonly open = [new OpenBlock(), new OpenBlock()] as const;
  /** Blocks to repair, by when. */
  private readonly due = new Map<number, ShortBlock[]>();
  private dueNs = Infinity;
  /** Blocks of which only the end of the injection tells. */
  private readonly atEnd: ShortBlock[] = [];
  /** By group of the code: a block's missing data, and its parity that has come. */
  private readonly missing: Uint8Array;
  private readonly arrived: Uint8Array;
  private nowNs = 0;
  private slot = 0;
  private doneNs = 0;
  private readonly sample: Sample = { completionNs: 0, sentChunks: 0, fellBack: false };

  constructor(scheme: Coding, setting: Setting) {
    const { k, m, kind } = scheme;
    this.scheme = scheme;
    this.shape = messageShape(setting);
    this.rttNs = setting.rttNs;
    this.walk = lossWalk(setting);
    this.missing = new Uint8Array(kind === "ec-mds" ? 1 : m);
    this.arrived = new Uint8Array(kind === "ec-mds" ? 1 : m);
    this.roundNs = fallbackNs(scheme.beta, setting.rttNs);
    const { chunks, chunkNs } = this.shape;
    this.blocks = Math.ceil(chunks / k);
    const lastData = chunks - (this.blocks - 1) * k;
    this.lastParity = kind === "ec-mds" ? m : Math.min(m, lastData);
    this.slots = chunks + (this.blocks - 1) * m + this.lastParity;
    // Said with a block's parity, so after a whole number of blocks.
    const blockNs = (k + m) * chunkNs;
    this.sayNs = blockNs > 0 ? Math.ceil(setting.rttNs / blockNs) * blockNs : Infinity;
  }

  draw(random: Random): Sample {
    const { sample, shape, walk } = this;
    walk.begin(random);
    sample.fellBack = false;
    if (shape.chunks === 0) {
      sample.completionNs = this.rttNs;
      sample.sentChunks = 0;
      return sample;
    }
    this.slot = 0;
    this.nowNs = 0;
    this.doneNs = 0;
    sample.sentChunks = this.slots;
    for (const block of this.open) block.open(-1);
    this.due.clear();
    this.dueNs = Infinity;
    this.inject();
    for (const block of this.open) this.close(block);
    for (const short of this.atEnd) this.repairAt(this.nowNs + this.roundNs, short);
    this.atEnd.length = 0;
    while (this.due.size > 0) this.repair();
    sample.completionNs = this.doneNs + this.rttNs;
    return sample;
  }

  /** From loss to loss, to the end of a block that has lost something, and to repairs that are due. */
  private inject(): void {
    const { open, shape, slots, walk } = this;
    const { chunks, chunkNs } = shape;
    // The last data chunk may be short; all others, parity too, are taken as whole.
    const lastData = chunks - 1 + Math.max(0, this.blocks - 2) * this.scheme.m;
    while (this.slot < slots) {
      for (const block of open) if (this.slot >= this.endSlot(block.block)) this.close(block);
      if (this.dueNs <= this.nowNs) {
        this.repair();
        continue;
      }
      const isShort = this.slot === lastData;
      const end = Math.min(this.slot < lastData ? lastData : slots, this.nextEnd());
      const untilDue = Math.max(1, Math.ceil((this.dueNs - this.nowNs) / chunkNs));
      const most = Math.min(end - this.slot, untilDue);
      const fate = isShort ? walk.send(shape.lastPackets) : this.passClean(most);
      if (fate >= 0) {
        if (fate > 0) this.note(this.slot, fate);
        this.slot++;
        this.nowNs += isShort ? shape.lastNs : chunkNs;
        if (isShort) this.doneNs = Math.max(this.doneNs, this.nowNs);
      }
    }
  }

  /** -1 when all of them arrived. */
  private passClean(most: number): number {
    const passed = this.walk.clean(most);
    this.slot += passed;
    this.nowNs += passed * this.shape.chunkNs;
    return passed < most ? this.walk.lose() : -1;
  }

  private nextEnd(): number {
    const [a, b] = this.open;
    return Math.min(this.endSlot(a.block), this.endSlot(b.block));
  }

  /** The slot behind a block's parity; Infinity for no block. */
  private endSlot(block: number): number {
    if (block < 0) return Infinity;
    const { k, m } = this.scheme;
    if (block >= this.blocks - 1) return this.slots;
    return Math.min((block + 2) * k, this.shape.chunks) + (block + 1) * m;
  }

  private note(slot: number, fate: number): void {
    const { k, m } = this.scheme;
    // Data of block g and parity of block g - 1 follow each other from slot k + (g - 1)(k + m) on.
    const turn = slot < k ? 0 : 1 + Math.floor((slot - k) / (k + m));
    const g = Math.min(turn, this.blocks - 1);
    const at = g === 0 ? slot : slot - k - (g - 1) * (k + m);
    const data = Math.min(k, this.shape.chunks - g * k);
    if (at < data) {
      const block = this.opened(g);
      block.offsets.push(at);
      block.fates.push(fate);
    } else if (g > 0 && at < data + m) this.opened(g - 1).parityLost.push(at - data);
    else this.opened(this.blocks - 1).parityLost.push(at - data - (g > 0 ? m : 0));
  }

  private opened(block: number): OpenBlock {
    const open = this.open[block & 1] as OpenBlock;
    if (open.block !== block) {
      this.close(open);
      open.open(block);
    }
    return open;
  }

  /** All of a block has been sent: it can be made, from so much parity, or must be repaired. */
  private close(open: OpenBlock): void {
    const { block, fates, offsets, parityLost } = open;
    open.block = -1;
    if (block < 0 || offsets.length === 0) return;
    const { arrived, missing } = this;
    const { k, kind, m } = this.scheme;
    const isLast = block === this.blocks - 1;
    const parity = isLast ? this.lastParity : m;
    const data = isLast ? this.shape.chunks - block * k : k;
    const isMds = kind === "ec-mds";
    // Parity of modulo groups goes out from the group behind that of the last data chunk on.
    const groupAt = (place: number) => (isMds ? 0 : (data + place) % parity);
    const groupOf = (offset: number) => (isMds ? 0 : offset % m);
    arrived.fill(0);
    missing.fill(0);
    for (let place = 0; place < parity; place++) arrived[groupAt(place)]!++;
    for (const place of parityLost) arrived[groupAt(place)]!--;
    for (const offset of offsets) missing[groupOf(offset)]!++;
    if (!isMade(missing, arrived)) {
      this.sample.fellBack = true;
      const short = { missing: missing.slice(), arrived: arrived.slice() };
      this.askFor({ ...short, groups: offsets.map(groupOf), fates: [...fates] }, block);
    } else if (block >= this.blocks - 2) {
      this.made(offsets.length, parity, groupAt, parityLost);
    }
  }

  /** A block near the message's end is made when the last parity that it needs has come. Uses up `missing`. */
  private made(
    count: number,
    parity: number,
    groupAt: (place: number) => number,
    parityLost: readonly number[],
  ): void {
    let needed = count;
    let place = 0;
    for (; place < parity && needed > 0; place++) {
      const group = groupAt(place);
      if (this.missing[group] === 0 || parityLost.includes(place)) continue;
      this.missing[group]!--;
      needed--;
    }
    this.doneNs = Math.max(this.doneNs, this.nowNs - (parity - place) * this.shape.chunkNs);
  }

  /** When the sender next says that this block is injected, a block later at the earliest, or that all is. */
  private askFor(short: ShortBlock, block: number): void {
    const { k, m } = this.scheme;
    const { chunkNs } = this.shape;
    const injectedNs = this.nowNs + (k + m) * chunkNs;
    const saidNs = Math.ceil(injectedNs / this.sayNs) * this.sayNs;
    const endNs = this.nowNs + (this.slots - this.slot) * chunkNs;
    if (block < this.blocks - 1 && saidNs < endNs) this.repairAt(saidNs + this.roundNs, short);
    else this.atEnd.push(short);
  }

  private repairAt(ns: number, short: ShortBlock): void {
    const others = this.due.get(ns);
    if (others === undefined) this.due.set(ns, [short]);
    else others.push(short);
    this.dueNs = Math.min(this.dueNs, ns);
  }

  /** Sends again what the blocks that are due next are missing. */
  private repair(): void {
    const { chunks, chunkNs, lastNs } = this.shape;
    const repairNs = chunks > 1 ? chunkNs : lastNs;
    const { dueNs, roundNs, walk } = this;
    const blocks = this.due.get(dueNs) ?? [];
    this.due.delete(dueNs);
    this.dueNs = Math.min(...this.due.keys());
    this.nowNs = Math.max(this.nowNs, dueNs);
    for (const block of blocks) {
      const { arrived, fates, groups, missing } = block;
      let isShort = true;
      for (let i = 0; i < fates.length; i++) {
        if (fates[i] === 0) continue;
        fates[i] = walk.resend(fates[i]!);
        this.nowNs += repairNs;
        this.sample.sentChunks++;
        if (fates[i]! > 0) continue;
        missing[groups[i]!]!--;
        if (isShort && isMade(missing, arrived)) {
          isShort = false;
          this.doneNs = Math.max(this.doneNs, this.nowNs);
        }
      }
      // Asked again in rounds; one that is asked for before its repair should have come does not count.
      const rounds = Math.ceil((this.nowNs + this.rttNs - dueNs) / roundNs - 1e-9);
      if (isShort) this.repairAt(dueNs + Math.max(1, rounds) * roundNs, block);
    }
  }
}

function isMade(missing: Uint8Array, arrived: Uint8Array): boolean {
  for (let group = 0; group < missing.length; group++)
    if (missing[group]! > arrived[group]!) return false;
  return true;
}
