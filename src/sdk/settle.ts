/** Small helpers between callbacks and user-facing promises. */
import { check } from "../base/errors.ts";

/** A promise settled from outside. `onSettle` tells the transport that user code has something to do. */
export class Deferred<T> {
  readonly promise: Promise<T>;
  private readonly onSettle: () => void;
  private take!: (value: T) => void;
  private refuse!: (error: unknown) => void;
  settled = false;

  constructor(onSettle: () => void) {
    this.onSettle = onSettle;
    this.promise = new Promise<T>((resolve, reject) => {
      this.take = resolve;
      this.refuse = reject;
    });
    this.promise.catch(() => {}); // nobody need listen: the handle carries the error too
  }

  resolve(value: T): void {
    if (this.settled) return;
    this.settled = true;
    this.take(value);
    this.onSettle();
  }

  reject(error: unknown): void {
    if (this.settled) return;
    this.settled = true;
    this.refuse(error);
    this.onSettle();
  }
}

/** Wakes async iterators when there is news; many notifications before the reader looks are one. */
export class News {
  private readonly onSettle: () => void;
  private waiting: Deferred<void> | undefined;
  private version = 0;
  private closed = false;

  constructor(onSettle: () => void) {
    this.onSettle = onSettle;
  }

  notify(): void {
    this.version++;
    this.waiting?.resolve();
    this.waiting = undefined;
  }

  /** Ends all iterators after one last look. */
  close(): void {
    this.closed = true;
    this.notify();
  }

  /** Yields `read()` now, after each piece of news, and once at the end. */
  async *watch<T>(read: () => T): AsyncGenerator<T, void, void> {
    for (;;) {
      const { version, closed } = this;
      yield read();
      if (closed) return;
      while (this.version === version) {
        this.waiting ??= new Deferred<void>(this.onSettle);
        await this.waiting.promise;
      }
    }
  }
}

/** Before anything is posted: once it is, nothing may throw. */
export function checkSignal(signal: AbortSignal | undefined): void {
  check(
    signal === undefined || typeof signal?.addEventListener === "function",
    "the signal is not an AbortSignal",
    "pass the signal of an AbortController",
  );
}

/** Calls `onAbort` when `signal` is aborted, soon if it already is. The result stops the watching. */
export function watchAbort(signal: AbortSignal | undefined, onAbort: () => void): () => void {
  if (signal === undefined) return () => {};
  if (signal.aborted) queueMicrotask(onAbort);
  else signal.addEventListener("abort", onAbort, { once: true });
  return () => signal.removeEventListener("abort", onAbort);
}
