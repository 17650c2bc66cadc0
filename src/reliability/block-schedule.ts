/**
 * The sender's order of parity: which block to encode next, which parity chunks to hand out when, and how many blocks
 * have left wholly. Knows the blocks, not the data chunks' fate, which its caller tells.
 *
 * The order of injection is D0 D1 P0 D2 P1 ... D(L-1) P(L-2) P(L-1): a block's parity follows the data of the next
 * one. So a burst of up to m chunks never reaches a block's data and that block's parity: the next block's data, or at
 * the end m chunks of other parity, lie between. It takes at most m in a row of the one or of the other, which mds
 * bears as it bears any m, and xor because m in a row are of m different groups. Where a message is one block, its
 * parity goes on with the group behind that of the last data chunk, so that there too m in a row are of m groups. The
 * order also gives the encoder the time of a block.
 */
import type { BlockLayout } from "./block-layout.ts";
import type { ChunkRange, CodingTask } from "./policy.ts";

/**
 * Blocks are encoded so many ahead of the one being handed out: enough to keep several threads at work, few enough that
 * parity is still in a cache when it is sent.
 */
export const ENCODE_AHEAD_BLOCKS = 4;

export class ParitySchedule {
  /** The first block whose parity is not wholly handed out. Those below have left, or were not needed any more. */
  block = 0;
  /** Parity chunks handed out, and those of them not yet reported injected. */
  handedOut = 0;
  out = 0;
  private readonly layout: BlockLayout;
  private taskBlock = 0;
  private readonly encoded: Uint8Array;
  /** Parity chunks of `block` handed out so far. */
  private position = 0;
  /** A bit for each parity chunk that is handed out and not reported injected. */
  private readonly outBits: Uint32Array;

  constructor(layout: BlockLayout) {
    this.layout = layout;
    this.encoded = new Uint8Array(layout.blockCount);
    this.outBits = new Uint32Array(Math.ceil((layout.blockCount * layout.code.m) / 32));
  }

  /** Parity of blocks whose data has all arrived is of no use. All chunks below `cumulative` are acknowledged. */
  skipUseless(cumulative: number): void {
    while (this.block < this.layout.blockCount && this.layout.dataEnd(this.block) <= cumulative)
      this.advance();
    this.taskBlock = Math.max(this.taskBlock, this.block);
  }

  private advance(): void {
    this.block++;
    this.position = 0;
  }

  /** The next block to encode, where data chunks below `fresh` are handed out. */
  pollTask(fresh: number): CodingTask | undefined {
    const block = this.taskBlock;
    if (block >= this.layout.blockCount) return undefined;
    if (block > this.layout.blockOf(fresh) + ENCODE_AHEAD_BLOCKS) return undefined;
    this.taskBlock++;
    return this.layout.task(block);
  }

  handleTaskDone(task: CodingTask): void {
    const block = this.layout.blockOf(task.first);
    if (block < this.taskBlock) this.encoded[block] = 1;
  }

  /** Whether there is parity whose data is all handed out: it may go now, or as soon as it is encoded. */
  isPending(fresh: number): boolean {
    return this.block < this.layout.blockCount && this.layout.dataEnd(this.block) <= fresh;
  }

  /**
   * The next parity chunks, of one block, that are due and encoded. `isDataHeld`: no data may go now, because there is
   * none left or the window is full; then parity need not wait for the next block's.
   */
  handOut(maxChunks: number, fresh: number, isDataHeld: boolean): ChunkRange | undefined {
    const { block, layout, position } = this;
    if (!(maxChunks >= 1) || !this.isPending(fresh) || this.encoded[block] !== 1) return undefined;
    if (!isDataHeld && layout.dataEnd(block + 1) > fresh) return undefined;
    const total = layout.parityCount(block);
    // Goes on from the group of the block's last data chunk.
    const start = (layout.dataCount(block) + position) % total;
    const count = Math.min(Math.floor(maxChunks), total - position, total - start);
    const first = block * layout.code.m + start;
    for (let chunk = first; chunk < first + count; chunk++)
      (this.outBits[chunk >>> 5] as number) |= 1 << (chunk & 31);
    this.out += count;
    this.handedOut += count;
    this.position += count;
    if (this.position === total) this.advance();
    return { first, count, parity: true };
  }

  /** What was not handed out is ignored. */
  injected(first: number, count: number): void {
    const end = Math.min(first + count, this.outBits.length * 32);
    for (let chunk = Math.max(0, first); chunk < end; chunk++) {
      const bit = 1 << (chunk & 31);
      const word = this.outBits[chunk >>> 5] as number;
      if ((word & bit) === 0) continue;
      this.outBits[chunk >>> 5] = word & ~bit;
      this.out--;
    }
  }
}
