/**
 * Frames that say what their peer can learn from nothing else in time: each goes out again, a little later each time,
 * so that losing one costs no more than that. Their receiver must not mind.
 */
import { copySpacingNs, FINAL_COPIES } from "./acknowledger.ts";
import type { ControlFrame } from "./frames.ts";
import type { SessionParams } from "./policy.ts";

/** Frames kept to be repeated; beyond it the oldest are not. */
const REPEATS_MAX = 4096;

interface Repeat {
  readonly frame: ControlFrame;
  readonly atNs: number;
  readonly left: number;
}

export class FrameRepeats {
  private readonly params: SessionParams;
  /** In the order of their times; those below `head` are over. */
  private waiting: Repeat[] = [];
  private head = 0;
  private due: ControlFrame[] = [];

  constructor(params: SessionParams) {
    this.params = params;
  }

  /** The frame goes out now, and is to go out `left` times again. */
  add(frame: ControlFrame, nowNs: number, left = FINAL_COPIES - 1): void {
    if (left === 0) return;
    if (this.waiting.length - this.head >= REPEATS_MAX) this.head++;
    this.waiting.push({ frame, left, atNs: nowNs + copySpacingNs(this.params) });
  }

  handleTimeout(nowNs: number): void {
    for (let next = this.waiting[this.head]; next !== undefined && next.atNs <= nowNs; ) {
      this.head++;
      this.due.push(next.frame);
      this.add(next.frame, nowNs, next.left - 1);
      next = this.waiting[this.head];
    }
    if (2 * this.head <= this.waiting.length) return;
    this.waiting = this.waiting.slice(this.head);
    this.head = 0;
  }

  /** The next one due. */
  poll(): ControlFrame | undefined {
    return this.due.shift();
  }

  nextTimeoutNs(): number {
    return this.waiting[this.head]?.atNs ?? Infinity;
  }
}
