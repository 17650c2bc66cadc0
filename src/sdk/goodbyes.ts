/**
 * Messages given up at this end, until the peer confirms that it knows: their CLOSE is repeated, as any control frame
 * may be lost. Bounded: at most `most` messages, each a limited number of times.
 */
import type { SdrError } from "../base/errors.ts";
import type { CloseFrame } from "../reliability/frames.ts";
import { closeFrame, type End, remember } from "./end.ts";

const REPEATS_MAX = 24;
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
    const goodbye = { error, repeats: 0, atNs: this.end.nowNs() };
    remember(this.waiting, message, goodbye, this.end.attributes.maxMessages);
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
      if (goodbye.repeats === REPEATS_MAX) this.waiting.delete(message);
      const { rtoFloorNs } = this.end.attributes;
      const rttNs = Math.max(rtoFloorNs, 1.5 * this.end.path.rttNs);
      const waitNs = Math.min(rttNs * 2 ** goodbye.repeats++, Math.max(rttNs, INTERVAL_NS_MAX));
      goodbye.atNs = nowNs + Math.ceil(waitNs);
    }
  }
}
