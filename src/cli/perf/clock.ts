/** Time as a run sees it: the transport's own, real or virtual. */
import { setTimeout as delay } from "node:timers/promises";
import { SdrError } from "../../base/errors.ts";
import type { Context } from "../../sdk/context.ts";
import type { EmulatedWorld } from "../../transport/emulated.ts";

export interface Clock {
  nowNs(): number;
  /** Resolves after about that time. */
  sleep(ns: number): Promise<void>;
}

export function realClock(context: Context): Clock {
  return {
    nowNs: () => context.nowNs(),
    sleep: async (ns) => {
      await delay(Math.ceil(ns / 1e6));
    },
  };
}

/** Virtual time passes in steps of at most this, so that whoever waits is looked after. */
const STEP_NS = 1e6;
/** A run that takes longer than this is stuck. */
const VIRTUAL_NS_MAX = 24 * 3600e9;

/** The time of an emulated world, which passes while `drive` waits. */
export class VirtualClock implements Clock {
  private readonly world: EmulatedWorld;
  private readonly sleepers = new Set<{ readonly atNs: number; readonly wake: () => void }>();

  constructor(world: EmulatedWorld) {
    this.world = world;
  }

  nowNs(): number {
    return this.world.nowNs();
  }

  sleep(ns: number): Promise<void> {
    return new Promise((wake) => this.sleepers.add({ atNs: this.nowNs() + ns, wake }));
  }

  /** Lets virtual time pass until `work` settles, and settles as it does. Errors: the signal's, DEADLINE_EXCEEDED. */
  async drive<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
    let settled = false;
    const mark = () => {
      settled = true;
    };
    work.then(mark, mark);
    const endNs = this.nowNs() + VIRTUAL_NS_MAX;
    while (!settled) {
      signal.throwIfAborted();
      const nowNs = this.nowNs();
      if (nowNs > endNs)
        throw new SdrError("DEADLINE_EXCEEDED", "a virtual day is over, the run is not", "");
      const next = Math.min(nowNs + STEP_NS, ...[...this.sleepers].map(({ atNs }) => atNs));
      await this.world.advance(Math.max(0, Math.ceil(next) - nowNs));
      this.wakeDue();
      await new Promise((resume) => setImmediate(resume)); // what they do comes before time passes
    }
    return work;
  }

  private wakeDue(): void {
    const nowNs = this.nowNs();
    for (const sleeper of this.sleepers) {
      if (sleeper.atNs > nowNs) continue;
      this.sleepers.delete(sleeper);
      sleeper.wake();
    }
  }
}
