/**
 * What transports with native threads and a real clock share: the impairments of what they send, and the wake-ups and
 * timers that bring events to queue pairs on the JavaScript thread. The one place in the SDK's stack with a real clock.
 */
import { randomBytes } from "node:crypto";
import { SdrError } from "../base/errors.ts";
import { checkLink, type LinkProfile } from "../link/profile.ts";
import type { NativeEvents, NativeQp, NativeQpConfig } from "./native.ts";
import {
  type Capabilities,
  checkSeed,
  Pump,
  type QpListener,
  type Transport,
  type TransportQp,
} from "./transport.ts";

const TIMER_NS_MAX = 1e9; // longest sleep of the timer; it simply re-arms

/** What every native context with threads has. */
export interface NativeContext {
  nowNs(): number;
  /** Drains events into `events`, returns how many; call until 0. */
  drain(): number;
  readonly events: NativeEvents;
  close(): void;
}

/** What outgoing packets go through, before the operating system or a device has them. */
export interface Impairments {
  /** Impairs what this end sends. Default: nothing. */
  readonly link?: LinkProfile;
  /** Seed of the impairments. Default: drawn from the operating system. */
  readonly seed?: number;
}

export abstract class RealTimeTransport implements Transport {
  abstract readonly capabilities: Capabilities;
  readonly link: LinkProfile;
  protected abstract readonly native: NativeContext;
  protected readonly pump = new Pump();
  protected closed = false;
  private timer: NodeJS.Timeout | undefined;
  private timerAtNs = Number.POSITIVE_INFINITY;
  private readonly seed: number;
  private qpsConnected = 0;

  constructor({ link = {}, seed = randomBytes(6).readUIntBE(0, 6) }: Impairments) {
    checkLink(link);
    checkSeed(seed);
    this.link = link;
    this.seed = seed;
  }

  /** Of the impairments of the queue pair that connects next. */
  protected nextSeed(): number {
    return (this.seed + this.qpsConnected++ * 0x9e3779b1) % Number.MAX_SAFE_INTEGER;
  }

  /** Ends a queue pair that `pump` knows. */
  protected closeQp(native: NativeQp): void {
    this.pump.remove(native.id);
    if (!this.closed) native.close();
    this.rearm();
  }

  abstract createQp(config: NativeQpConfig, listener: QpListener): TransportQp;

  /** Errors: CLOSED. */
  protected get open(): NativeContext {
    if (!this.closed) return this.native;
    throw new SdrError("CLOSED", "the context is closed", "make a new one");
  }

  /** Errors: CLOSED. */
  nowNs(): number {
    return this.open.nowNs();
  }

  protected wake(): void {
    if (this.closed) return;
    for (let count = this.native.drain(); count > 0; count = this.native.drain()) {
      this.pump.dispatch(this.native.events, count, this.nowNs());
      if (this.closed) return;
    }
    this.pump.expire(this.nowNs());
    this.rearm();
  }

  rearm(): void {
    if (this.closed) return;
    const next = this.pump.nextTimeoutNs();
    if (next === this.timerAtNs) return;
    clearTimeout(this.timer);
    this.timerAtNs = next;
    this.timer = undefined;
    if (next === Number.POSITIVE_INFINITY) return;
    const waitNs = Math.min(Math.max(next - this.nowNs(), 0), TIMER_NS_MAX);
    this.timer = setTimeout(
      () => {
        this.timerAtNs = Number.POSITIVE_INFINITY;
        this.wake();
      },
      Math.ceil(waitNs / 1e6),
    );
  }

  userWoken(): void {}

  awaitWork<T>(begin: () => Promise<T>, then: (result: T) => void): void {
    begin().then(then);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    this.native.close();
  }
}
