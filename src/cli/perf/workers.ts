/** How busy a context's worker threads were between two moments. */
import type { Context } from "../../sdk/context.ts";
import type { Clock } from "./clock.ts";

/** Marks closer together than this are one. */
const MARK_NS = 1e6;

export class WorkerUsage {
  private readonly context: Context;
  private readonly clock: Clock;
  private from: readonly number[] = [];
  private to: readonly number[] = [];
  private fromNs = 0;
  private toNs = 0;

  constructor(context: Context, clock: Clock) {
    this.context = context;
    this.clock = clock;
    this.begin();
  }

  begin(): void {
    this.from = this.to = this.context.workerCpuNs();
    this.fromNs = this.toNs = this.clock.nowNs();
  }

  /** The work has come to here; called for every message, it reads the threads' clocks now and then. */
  mark(isLast = false): void {
    const nowNs = this.clock.nowNs();
    if (!isLast && nowNs < this.toNs + MARK_NS) return;
    this.to = this.context.workerCpuNs();
    this.toNs = nowNs;
  }

  /** Share of the time until the last mark, a thread; empty: not known. */
  shares(): number[] {
    const ns = this.toNs - this.fromNs;
    if (ns <= 0 || this.to.every((used) => used === 0)) return [];
    return this.to.map((used, i) => Math.max(0, used - (this.from[i] ?? used)) / ns);
  }
}
