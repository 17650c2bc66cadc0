/**
 * The receiver's account of blocks: what is present of each in the two live bitmaps, which can be decoded, and what
 * came of it. Work is proportional to what changed: words are compared with a saved copy, those with chunks missing or
 * of blocks with data missing, up to a little beyond the highest chunk seen.
 */
import { ChunkBitmap } from "./bitmap.ts";
import type { BlockLayout } from "./block-layout.ts";
import type { CodingTask, ReceiveCounters } from "./policy.ts";

/** How far beyond the highest word with a chunk a report looks; before anything is asked for, all are looked at. */
const LOOKAHEAD_WORDS = 32;

/** Recoverable: waits for a decode, or is in one. */
const OFFERED = 1;
/** Handed out to be decoded: chunks that complete from then on may have been made from others. */
const GIVEN = 2;
/** The decode is over: once a block, whatever came of it. */
const OVER = 4;

/**
 * A saved copy of a live bitmap. Each of its words is looked at for as long as something in it is open: so many of
 * whatever the owner counts, and releases.
 */
class Seen {
  private readonly chunkCount: number;
  private readonly words: Uint32Array;
  private readonly open: Uint8Array;
  /** For each word a later one, or itself: following them ends at the first word from there on that is open. */
  private readonly next: Uint32Array;
  private highestWord = -1;

  constructor(chunkCount: number, openIn: (firstChunk: number, lastChunk: number) => number) {
    const wordCount = (chunkCount + 31) >>> 5;
    this.chunkCount = chunkCount;
    this.words = new Uint32Array(wordCount);
    this.next = new Uint32Array(wordCount + 1).map((_, word) => word);
    this.open = new Uint8Array(wordCount).map((_, word) =>
      openIn(32 * word, Math.min(32 * word + 31, chunkCount - 1)),
    );
  }

  has(chunk: number): boolean {
    return ((this.words[chunk >>> 5] as number) & (1 << (chunk & 31))) !== 0;
  }

  /** One of what is open in the words of these chunks is over. */
  release(firstChunk: number, lastChunk: number): void {
    for (let word = firstChunk >>> 5; word <= lastChunk >>> 5; word++)
      if (--(this.open[word] as number) === 0) this.next[word] = word + 1;
  }

  /** The first open word at or after `word`, or the number of words. */
  private firstOpen(word: number): number {
    const { next } = this;
    let at = word;
    for (let to = next[at] as number; to !== at; to = next[at] as number) {
      next[at] = next[to] as number;
      at = to;
    }
    return at;
  }

  /**
   * Tells `onChunk` of each chunk of an open word that is in `live` and was not seen yet: looks a little beyond the
   * highest chunk seen, and as far as chunk `upTo`.
   */
  update(
    live: ChunkBitmap,
    upTo: number,
    lookaheadWords: number,
    onChunk: (chunk: number) => void,
  ): void {
    const { words, chunkCount } = this;
    const all = Math.min(words.length, live.words.length);
    let end = Math.min(all, Math.max((upTo + 31) >>> 5, this.highestWord + 1 + lookaheadWords));
    for (let index = this.firstOpen(0); index < end; index = this.firstOpen(index + 1)) {
      const word = live.words[index] as number;
      const known = words[index] as number;
      if (word === known) continue;
      words[index] = known | word;
      if (index > this.highestWord) {
        this.highestWord = index;
        end = Math.min(all, Math.max(end, index + 1 + lookaheadWords));
      }
      for (let fresh = word & ~known; fresh !== 0; fresh &= fresh - 1) {
        const chunk = (index << 5) + 31 - Math.clz32(fresh & -fresh);
        if (chunk < chunkCount) onChunk(chunk);
      }
    }
  }
}

export class BlockDecoder {
  readonly counters: ReceiveCounters = {
    chunksRecovered: 0,
    parityUsed: 0,
    parityWasted: 0,
    fallbacks: 0,
  };
  /** The first block with data missing. */
  firstOpen = 0;
  /** Chunks of blocks below this one are news; it came last at `newsNs`. */
  newsEndBlock = 0;
  newsNs = -Infinity;
  private readonly layout: BlockLayout;
  private readonly data: Seen;
  private readonly parity: Seen;
  private readonly flags: Uint8Array;
  /** Data chunks missing, and parity chunks present, of each block. */
  private readonly missing: Uint8Array;
  private readonly present: Uint8Array;
  /** Blocks of which data was seen are below this one; parity of those that take turns with it is below `parityEnd`. */
  private seenEndBlock = 0;
  private parityEnd = 0;
  /** Known when the message is over. */
  private parityArrived = 0;
  /** Blocks to decode, in the order in which they became recoverable; each at most once. */
  private readonly offered: number[] = [];
  private offeredHead = 0;
  private bitmap: ChunkBitmap | undefined;
  private parityBitmap: ChunkBitmap | undefined;
  private nowNs = 0;
  private readonly groupSeen: Uint8Array;
  private readonly onData = (chunk: number): void => this.handleData(chunk);
  private readonly onParity = (chunk: number): void => this.handleParity(chunk);

  constructor(layout: BlockLayout) {
    const { blockCount, chunkCount, code } = layout;
    this.layout = layout;
    this.data = new Seen(chunkCount, (first, last) => last - first + 1);
    const blockOf = (parity: number) => Math.floor(parity / code.m);
    const blocksIn = (first: number, last: number) => blockOf(last) - blockOf(first) + 1;
    this.parity = new Seen(blockCount * code.m, blocksIn);
    this.flags = new Uint8Array(blockCount);
    this.missing = new Uint8Array(blockCount).map((_, block) => layout.dataCount(block));
    this.present = new Uint8Array(blockCount);
    this.groupSeen = new Uint8Array(code.m);
  }

  handleProgress(bitmap: ChunkBitmap, nowNs: number, parity: ChunkBitmap | undefined): void {
    this.bitmap = bitmap;
    this.parityBitmap = parity;
    this.update(nowNs, LOOKAHEAD_WORDS);
  }

  /** Brings the account fully up to date with the bitmaps given last. */
  look(nowNs: number): void {
    this.update(nowNs, Infinity);
  }

  /** The message is over, and its bitmaps are another's from now on: counts what parity there was. */
  finish(): void {
    if (this.parityBitmap !== undefined) {
      const { words } = this.parityBitmap;
      const parityCount = this.layout.blockCount * this.layout.code.m;
      this.parityArrived = new ChunkBitmap(words, parityCount).count();
      this.countWasted();
    }
    this.bitmap = undefined;
    this.parityBitmap = undefined;
  }

  private update(nowNs: number, lookaheadWords: number): void {
    const { bitmap, parityBitmap, layout } = this;
    if (bitmap === undefined) return;
    this.nowNs = nowNs;
    this.data.update(bitmap, 0, lookaheadWords, this.onData);
    if (parityBitmap !== undefined)
      this.parity.update(parityBitmap, this.parityEnd, lookaheadWords, this.onParity);
    while (this.firstOpen < layout.blockCount && this.missing[this.firstOpen] === 0)
      this.firstOpen++;
  }

  private handleData(chunk: number): void {
    const { layout } = this;
    const block = layout.blockOf(chunk);
    if (block >= this.seenEndBlock) {
      this.seenEndBlock = block + 1;
      this.parityEnd = (block + layout.stride(block)) * layout.code.m;
    }
    this.data.release(chunk, chunk);
    if (--(this.missing[block] as number) === 0) {
      const { m } = layout.code;
      this.parity.release(block * m, block * m + m - 1);
    }
    this.note(block);
  }

  private handleParity(chunk: number): void {
    const block = Math.floor(chunk / this.layout.code.m);
    (this.present[block] as number)++;
    this.note(block);
  }

  private note(block: number): void {
    if (block < this.newsEndBlock) this.newsNs = this.nowNs;
    const missing = this.missing[block] as number;
    if (missing === 0 || missing > (this.present[block] as number)) return;
    if (((this.flags[block] as number) & OFFERED) !== 0 || !this.isRecoverable(block)) return;
    (this.flags[block] as number) |= OFFERED;
    this.offered.push(block);
  }

  /** Of a block that has at least as many parity chunks as it misses data chunks. */
  private isRecoverable(block: number): boolean {
    const { layout, data, parity, groupSeen } = this;
    const { kind, m } = layout.code;
    if (kind === "mds") return true;
    const { first, count, stride = 1 } = layout.task(block);
    groupSeen.fill(0);
    for (let i = 0; i < count; i++) {
      if (data.has(first + i * stride)) continue;
      const group = i % m;
      if (groupSeen[group] === 1 || !parity.has(block * m + group)) return false;
      groupSeen[group] = 1;
    }
    return true;
  }

  pollTask(): CodingTask | undefined {
    while (this.offeredHead < this.offered.length) {
      const block = this.offered[this.offeredHead++] as number;
      if (this.offeredHead === this.offered.length) {
        this.offered.length = 0;
        this.offeredHead = 0;
      }
      if (this.missing[block] === 0) continue;
      (this.flags[block] as number) |= GIVEN;
      return this.layout.task(block);
    }
    return undefined;
  }

  /** Nothing recovered is normal: late packets may have come first. */
  handleTaskDone(task: CodingTask, recovered: number, parityUsed: number): void {
    const block = this.layout.blockOf(task.first);
    if (((this.flags[block] ?? 0) & (GIVEN | OVER)) !== GIVEN) return;
    (this.flags[block] as number) |= OVER;
    this.counters.chunksRecovered += recovered;
    this.counters.parityUsed += parityUsed;
    this.countWasted();
  }

  private countWasted(): void {
    const { counters } = this;
    counters.parityWasted = Math.max(0, this.parityArrived - counters.parityUsed);
  }

  /** Whether the block misses data that no decode, waiting or under way, will bring. */
  isStuck(block: number): boolean {
    const flags = this.flags[block] as number;
    return this.missing[block] !== 0 && ((flags & OFFERED) === 0 || (flags & OVER) !== 0);
  }

  /** Chunks of any kind that a stuck block lacks until it can be decoded; 0 when a decode failed all the same. */
  lacking(block: number): number {
    if (((this.flags[block] as number) & OVER) !== 0) return 0;
    return (this.missing[block] as number) - (this.present[block] as number);
  }

  isMissing(chunk: number): boolean {
    return !this.data.has(chunk);
  }

  /** Whether a completed chunk may have been made from others. */
  isRecovered(chunk: number): boolean {
    return ((this.flags[this.layout.blockOf(chunk)] ?? 0) & GIVEN) !== 0;
  }
}
