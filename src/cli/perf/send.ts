/** The sending end of a run: so many messages in flight on each queue pair, until all are sent or the time is up. */
import type { Context } from "../../sdk/context.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import { reliableWrite } from "../../sdk/reliable.ts";
import type { Clock } from "./clock.ts";
import type { Pattern } from "./pattern.ts";
import type { SendDrops, SendReport } from "./protocol.ts";
import { policyOf, type RunShape, ringOf } from "./shape.ts";
import { WorkerUsage } from "./workers.ts";

export interface StreamOptions {
  readonly context: Context;
  readonly qps: readonly QueuePair[];
  readonly shape: RunShape;
  readonly pattern: Pattern;
  readonly clock: Clock;
}

/** Errors: those of the queue pairs. */
export async function sendStream(options: StreamOptions): Promise<SendReport> {
  const { context, qps, shape, clock } = options;
  const usage = new WorkerUsage(context, clock);
  const startNs = clock.nowNs();
  const endNs = startNs + (shape.durationNs ?? Number.POSITIVE_INFINITY);
  const completions = new Completions(startNs, shape);
  const counts = qps.map(() => 0);
  const post = poster(options);
  const sendAll = async (qp: QueuePair, index: number): Promise<void> => {
    const most = shape.iterations ?? Number.POSITIVE_INFINITY;
    const window = new Window(shape.depth, ringOf(shape));
    for (let message = 0; message < most; message++) {
      await window.room(message);
      if (clock.nowNs() >= endNs) break;
      counts[index]!++;
      const done = post(qp, message).then(() => {
        completions.add(clock.nowNs());
        usage.mark();
      });
      window.add(message, done);
    }
    await window.empty();
  };
  await Promise.all(qps.map(sendAll));
  usage.mark(true);
  return {
    counts,
    bytes: completions.count * shape.bytes,
    durationNs: completions.lastNs - startNs,
    peakBps: completions.peakBps(),
    workers: usage.shares(),
    drops: sendDrops(qps),
  };
}

/** Sends the queue pair's next message; resolves when it is injected or, with a policy, acknowledged. */
function poster({ shape, pattern }: StreamOptions) {
  const policy = policyOf(shape);
  const { bytes } = shape;
  const { region } = pattern;
  return (qp: QueuePair, message: number): Promise<unknown> => {
    const source = { offset: pattern.offset(message), bytes };
    if (policy === undefined) return qp.send(region, source).injected;
    return reliableWrite(qp, region, policy, source);
  };
}

/** Messages in flight on one queue pair: at most `depth`, and none `slots` ahead of one that is not done. */
class Window {
  private readonly depth: number;
  private readonly slots: Promise<void>[];
  private readonly inFlight = new Set<Promise<void>>();

  constructor(depth: number, slots: number) {
    this.depth = depth;
    this.slots = Array.from({ length: slots }, () => Promise.resolve());
  }

  /** Until `message` may be sent. Errors: those of messages before it. */
  async room(message: number): Promise<void> {
    await this.slots[message % this.slots.length];
    while (this.inFlight.size >= this.depth) await Promise.race(this.inFlight);
  }

  add(message: number, done: Promise<void>): void {
    this.slots[message % this.slots.length] = done;
    this.inFlight.add(done);
    done.then(
      () => this.inFlight.delete(done),
      () => {}, // stays, and so ends whoever waits for room
    );
  }

  async empty(): Promise<void> {
    await Promise.all(this.inFlight);
  }
}

function sendDrops(qps: readonly QueuePair[]): SendDrops {
  const all = qps.map((qp) => qp.counters());
  const sum = (of: (counters: (typeof all)[number]) => number) =>
    all.reduce((total, counters) => total + of(counters), 0);
  return {
    sendErrors: sum(({ sendErrors }) => sendErrors),
    linkDropped: sum(({ link }) => link.dropped),
    linkQueueDropped: sum(({ link }) => link.queueDropped),
    linkCorrupted: sum(({ link }) => link.corrupted),
  };
}

/** Beyond so many completions only every second one is kept, then every fourth ... */
const KEPT_MAX = 1 << 16;
/** The peak is that of the fastest such part of the run. */
const PEAK_SHARE = 1 / 10;

/** When messages were completed. */
export class Completions {
  count = 0;
  lastNs: number;
  private readonly startNs: number;
  private readonly bytes: number;
  private readonly window: number;
  private kept: number[];
  private every = 1;

  constructor(startNs: number, { bytes, depth, queuePairs }: RunShape) {
    this.startNs = this.lastNs = startNs;
    this.bytes = bytes;
    this.window = depth * queuePairs; // those in flight may be completed together
    this.kept = [startNs];
  }

  add(nowNs: number): void {
    this.count++;
    this.lastNs = nowNs;
    if (this.count % this.every !== 0) return;
    this.kept.push(nowNs);
    if (this.kept.length <= KEPT_MAX) return;
    this.kept = this.kept.filter((_, index) => index % 2 === 0);
    this.every *= 2;
  }

  /** Of the fastest tenth, at least as many as are in flight; of all of them where the run is shorter. */
  peakBps(): number {
    const { kept, every, window, bytes, count } = this;
    const steps = Math.max(Math.ceil(window / every), Math.ceil((count * PEAK_SHARE) / every));
    const ns = this.lastNs - this.startNs;
    // No peak is below the average: windows may miss the fastest stretch.
    let most = ns > 0 ? (count * bytes * 8e9) / ns : 0;
    for (let i = steps; i < kept.length; i++) {
      const windowNs = (kept[i] as number) - (kept[i - steps] as number);
      if (windowNs > 0) most = Math.max(most, (steps * every * bytes * 8e9) / windowNs);
    }
    return most;
  }
}
