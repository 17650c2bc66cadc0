/**
 * Messages given up at this end, until the peer confirms that it knows: their CLOSE is repeated, as any control frame
 * may be lost. A peer that has gone silent meanwhile is noticed as for any other answer it owes.
 */
import type { SdrError } from "../base/errors.ts";
import type { CloseFrame } from "../reliability/frames.ts";
import { closeFrame, type End } from "./end.ts";

/** Messages whose end the peer has not confirmed; with so many, nothing new is posted. */
const GOODBYES_MAX = 1024;
/** Doublings of the interval; it has reached its most long before. */
const DOUBLINGS_MAX = 24;
const INTERVAL_NS_MAX = 250e6;

interface Goodbye {
  readonly error: SdrError;
  repeats: number;
  atNs: number;
}

export class Goodbyes {
  private readonly end: End;
  private readonly scope: CloseFrame["scope"];
  private readonly waiting = new Map<number, Goodbye>();

  constructor(end: End, scope: "send" | "receive") {
    this.end = end;
    this.scope = scope;
  }

  /** Tells the peer now, and again until confirmed. */
  add(message: number, error: SdrError): void {
    this.waiting.set(message, { error, repeats: 0, atNs: this.end.nowNs() });
  }

  get isEmpty(): boolean {
    return this.waiting.size === 0;
  }

  get isFull(): boolean {
    return this.waiting.size >= GOODBYES_MAX;
  }

  confirm(message: number): void {
    this.waiting.delete(message);
  }

  clear(): void {
    this.waiting.clear();
  }

  nextNs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { atNs } of this.waiting.values()) next = Math.min(next, atNs);
    return next;
  }

  flush(nowNs: number): void {
    for (const [message, goodbye] of this.waiting) {
      if (goodbye.atNs > nowNs) continue;
      this.end.writer.write(closeFrame(message, this.scope, goodbye.error));
      const { rtoFloorNs } = this.end.attributes;
      const rttNs = Math.max(rtoFloorNs, 1.5 * this.end.path.rttNs);
      const doublings = Math.min(goodbye.repeats++, DOUBLINGS_MAX);
      const waitNs = Math.min(rttNs * 2 ** doublings, Math.max(rttNs, INTERVAL_NS_MAX));
      goodbye.atNs = nowNs + Math.ceil(waitNs);
    }
  }
}
