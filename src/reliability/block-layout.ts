/**
 * How a message's chunks fall into the blocks of an erasure code (paper section 4.1), and which parity is a block's.
 * Block b has the data chunks [b k, b k + k), the last one what is left, and the parity chunks [b m, b m + m). Chunks
 * that a short block does not have count as zeros. Of modulo groups only those that have a data chunk have a parity
 * chunk worth sending.
 *
 * With `interleave` D above 1, the D blocks of a group, the last one perhaps of fewer, take turns: of the group's
 * chunks, which are contiguous, the i-th is one of its (i mod D)-th block. So a run of lost chunks falls on as many.
 */
import { check } from "../base/errors.ts";
import type { CodeShape, CodingTask } from "./policy.ts";

/** Most chunks a block, data and parity together: the code's field has so many elements. */
export const BLOCK_CHUNKS_MAX = 256;

/** Errors: INVALID_ARGUMENT for a shape that no code has. */
export function checkCodeShape({ kind, k, m }: CodeShape): void {
  const remedy = `give whole numbers with k >= 1, m >= 1, k + m <= ${BLOCK_CHUNKS_MAX}`;
  check(Number.isInteger(k) && k >= 1, `k ${k} is out of range`, remedy);
  check(Number.isInteger(m) && m >= 1, `m ${m} is out of range`, remedy);
  check(k + m <= BLOCK_CHUNKS_MAX, `k ${k} and m ${m} are too many chunks for a block`, remedy);
  check(
    kind === "mds" || m <= k,
    `m ${m} is more than k ${k}`,
    "a group needs a data chunk: give m <= k",
  );
}

/** Parity chunks that a message of `chunkCount` chunks brings. */
export function parityChunks({ k, m }: CodeShape, chunkCount: number): number {
  return Math.ceil(chunkCount / k) * m;
}

export class BlockLayout {
  readonly code: CodeShape;
  readonly chunkCount: number;
  readonly blockCount: number;
  readonly interleave: number;
  private readonly groupChunks: number;

  constructor(code: CodeShape, chunkCount: number, interleave = 1) {
    this.code = code;
    this.chunkCount = chunkCount;
    this.blockCount = Math.ceil(chunkCount / code.k);
    this.interleave = interleave;
    this.groupChunks = interleave * code.k;
  }

  /** The block of a data chunk. */
  blockOf(chunk: number): number {
    if (this.interleave === 1) return Math.floor(chunk / this.code.k);
    const group = Math.floor(chunk / this.groupChunks);
    const block = group * this.interleave;
    return block + ((chunk - group * this.groupChunks) % this.stride(block));
  }

  /** From a data chunk of the block to its next: the blocks of its group. */
  stride(block: number): number {
    return Math.min(this.interleave, this.blockCount - (block - (block % this.interleave)));
  }

  private groupFirst(block: number): number {
    return Math.floor(block / this.interleave) * this.groupChunks;
  }

  /** The block's first data chunk; the message's end for blocks beyond it. */
  dataFirst(block: number): number {
    const first = this.groupFirst(block) + (block % this.interleave);
    return block >= this.blockCount ? this.chunkCount : first;
  }

  /** The end of its group: all the block's data chunks are below. Without interleaving they end there. */
  dataEnd(block: number): number {
    return Math.min(this.groupFirst(block) + this.groupChunks, this.chunkCount);
  }

  dataCount(block: number): number {
    return this.dataCountFrom(block, 0);
  }

  /** The block's data chunks that are not below chunk `from`. */
  dataCountFrom(block: number, from: number): number {
    const first = this.dataFirst(block);
    const end = this.dataEnd(block);
    const stride = this.stride(block);
    const all = Math.max(0, Math.ceil((end - first) / stride));
    return Math.max(0, all - Math.max(0, Math.ceil((from - first) / stride)));
  }

  /** Its data chunks, ascending. */
  *chunksOf(block: number): Generator<number> {
    const end = this.dataEnd(block);
    const stride = this.stride(block);
    for (let chunk = this.dataFirst(block); chunk < end; chunk += stride) yield chunk;
  }

  /** Parity chunks of a block that are worth sending: the first so many of its m. */
  parityCount(block: number): number {
    const { kind, m } = this.code;
    return kind === "mds" ? m : Math.min(m, this.dataCount(block));
  }

  task(block: number, rows?: CodingTask["rows"]): CodingTask {
    const { code } = this;
    const stride = this.stride(block);
    return {
      code,
      first: this.dataFirst(block),
      count: this.dataCount(block),
      parityFirst: block * code.m,
      ...(stride === 1 ? {} : { stride }),
      ...(rows === undefined ? {} : { rows }),
    };
  }
}
