/**
 * How a message's chunks fall into the blocks of an erasure code (paper section 4.1): block b has the data chunks
 * [b k, b k + k), the last one what is left, and the parity chunks [b m, b m + m). Chunks that a short block does not
 * have count as zeros. Of modulo groups only those that have a data chunk have a parity chunk worth sending.
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

  constructor(code: CodeShape, chunkCount: number) {
    this.code = code;
    this.chunkCount = chunkCount;
    this.blockCount = Math.ceil(chunkCount / code.k);
  }

  /** The block of a data chunk. */
  blockOf(chunk: number): number {
    return Math.floor(chunk / this.code.k);
  }

  /** The first data chunk of a block, and of the block behind it; the message's end for blocks beyond it. */
  dataFirst(block: number): number {
    return Math.min(block * this.code.k, this.chunkCount);
  }

  dataEnd(block: number): number {
    return this.dataFirst(block + 1);
  }

  dataCount(block: number): number {
    return this.dataEnd(block) - this.dataFirst(block);
  }

  /** Parity chunks of a block that are worth sending: the first so many of its m. */
  parityCount(block: number): number {
    const { kind, m } = this.code;
    return kind === "mds" ? m : Math.min(m, this.dataCount(block));
  }

  task(block: number): CodingTask {
    const { code } = this;
    const first = this.dataFirst(block);
    return { code, first, count: this.dataCount(block), parityFirst: block * code.m };
  }
}
