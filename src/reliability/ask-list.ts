/** Chunks that a receiver is about to ask for, and the NACK frames that say so. */
import type { NackFrame } from "./frames.ts";
import { FRAME_HEADER_BYTES } from "./frames.ts";
import type { ChunkRange } from "./policy.ts";

export class AskList {
  private readonly asks: ChunkRange[] = [];
  private readonly rangesMax: number;

  constructor(frameBytesMax: number) {
    this.rangesMax = Math.max(1, Math.floor((frameBytesMax - FRAME_HEADER_BYTES) / 8));
  }

  /** Adds [first, first + count), to the range before it where it goes on from there. */
  add(first: number, count: number): void {
    const { asks } = this;
    const last = asks[asks.length - 1];
    if (last !== undefined && last.first + last.count === first)
      asks[asks.length - 1] = { first: last.first, count: last.count + count };
    else asks.push({ first, count });
  }

  /** The next NACK: as many ranges as fit a frame, ascending; undefined when nothing is asked for. */
  poll(): NackFrame | undefined {
    const { asks, rangesMax } = this;
    if (asks.length === 0) return undefined;
    let end = 1;
    while (end < asks.length && end < rangesMax) {
      const last = asks[end - 1] as ChunkRange;
      if ((asks[end] as ChunkRange).first < last.first + last.count) break;
      end++;
    }
    return { kind: "nack", message: 0, ranges: asks.splice(0, end) };
  }
}
