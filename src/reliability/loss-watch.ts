/**
 * Which of a message's chunks were lost the first time they were sent, as its receiver finds out: counts for a
 * LossEstimate, and how its sender takes them up. Both ends count from the message's start, so that a report that is
 * lost costs nothing once the next one comes.
 */
import type { LossEstimate, LossSample } from "./policy.ts";

/** The receiver's record. Chunks are marked by whoever finds them missing, in any order and as often as they like. */
export class LossWatch {
  private readonly lostBits: Uint32Array;
  private readonly chunkCount: number;
  private looked = 0;
  private lost = 0;
  /** Runs of neighbouring lost chunks. */
  private runs = 0;

  constructor(chunkCount: number) {
    this.chunkCount = chunkCount;
    this.lostBits = new Uint32Array((chunkCount + 31) >>> 5);
  }

  private has(chunk: number): boolean {
    if (chunk < 0 || chunk >= this.chunkCount) return false;
    return ((this.lostBits[chunk >>> 5] as number) & (1 << (chunk & 31))) !== 0;
  }

  /** Chunk of the message: it is found to be lost. */
  mark(chunk: number): void {
    if (!this.has(chunk)) this.change(chunk, 1);
  }

  /** It was only late. */
  unmark(chunk: number): void {
    if (this.has(chunk)) this.change(chunk, -1);
  }

  private change(chunk: number, by: 1 | -1): void {
    const neighbours = Number(this.has(chunk - 1)) + Number(this.has(chunk + 1));
    this.lostBits[chunk >>> 5] = (this.lostBits[chunk >>> 5] as number) ^ (1 << (chunk & 31));
    this.lost += by;
    // Alone it is a run; between two runs it makes one of them.
    this.runs += by * (1 - neighbours);
  }

  /** Whatever is lost of the first `chunks` chunks is marked, or will be: never fewer again. */
  lookedAt(chunks: number): void {
    this.looked = Math.max(this.looked, Math.min(chunks, this.chunkCount));
  }

  /** All that the message showed so far. More may be marked than looked at. */
  get total(): LossSample {
    const chunks = Math.max(this.looked, this.lost);
    return { chunks, lost: this.lost, runs: this.runs };
  }
}

/** The sender's end: totals as they come in, of which the estimate is told what is new. */
export class LossReports {
  private readonly chunkCount: number;
  private readonly estimate: LossEstimate;
  private known: LossSample = { chunks: 0, lost: 0, runs: 0 };

  constructor(chunkCount: number, estimate: LossEstimate) {
    this.chunkCount = chunkCount;
    this.estimate = estimate;
  }

  /**
   * A total from the peer, untrusted; one that makes no sense, or is older than what is known, is ignored. Losses that
   * the peer took back, as chunks were only late, are made up for by later ones.
   */
  take(total: LossSample): void {
    const { known } = this;
    const chunks = total.chunks - known.chunks;
    const lost = Math.max(0, total.lost - known.lost);
    if (total.chunks > this.chunkCount || chunks <= 0 || lost > chunks) return;
    // A run that goes on from the last report is one in both.
    const runs = Math.min(lost, Math.max(total.runs - known.runs, Math.min(lost, 1)));
    this.estimate.sample({ chunks, lost, runs });
    this.known = {
      chunks: total.chunks,
      lost: Math.max(total.lost, known.lost),
      runs: Math.max(total.runs, known.runs),
    };
  }
}
