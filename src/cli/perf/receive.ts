/**
 * The receiving end of a run. Receives are posted again as soon as their message is over. Without a policy a message
 * may never be complete; it is given up when the sender is surely done with it and its last packets had time to come:
 *
 *   - a message comes that the sender can only have begun when this one was injected. Where it is complete, every
 *     channel has delivered what was sent before; where it only begins, a channel may lag behind;
 *   - the sender says that all is sent, and no packet has come for a while.
 *
 * So a run always ends, whatever was lost.
 */
import { SdrError } from "../../base/errors.ts";
import type { Policy } from "../../reliability/policy.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import type { ReceiveHandle } from "../../sdk/receive-handle.ts";
import { MemoryRegion } from "../../sdk/region.ts";
import { reliableReceive } from "../../sdk/reliable.ts";
import { RECEIVE_DROPS, type ReceiveDrops, type ReceiveReport } from "./protocol.ts";
import type { StreamOptions } from "./send.ts";
import { policyOf, ringOf } from "./shape.ts";
import { WorkerUsage } from "./workers.ts";

/** What was overtaken may still arrive for so long, and for an RTT: by a message's beginning, or by all of it. */
const BEGUN_NS_MIN = 100e6;
const COMPLETE_NS_MIN = 10e6;
/** Nothing more comes after so long without a packet, and after so many RTTs. */
const QUIET_NS_MIN = 100e6;
const QUIET_RTTS = 4;
/** A message that was not even announced: the asking for it is repeated more slowly than that. */
const UNANNOUNCED_FACTOR = 10;
/** The run is over so long after the sender's last word in any case. */
const FINAL_NS_MAX = 60e9;
const LOOK_NS = 5e6;
/** In virtual time no thread is late: RTTs are enough, and looks are cheap. */
const VIRTUAL_SHARE = 1e-3;

interface Place {
  readonly offset: number;
  readonly bytes: number;
}

interface Queue {
  readonly qp: QueuePair;
  readonly region: MemoryRegion;
  /** Raw receives under way, and when they are given up. */
  readonly open: Map<number, { readonly handle: ReceiveHandle; giveUpNs: number }>;
  /** Messages that are posted and not over, and the next one to be posted. */
  readonly active: Set<number>;
  next: number;
  /** Messages that are over, complete or not. */
  settled: number;
  expected: number;
  packets: number;
  packetNs: number;
}

export class ReceiveStream {
  private readonly options: StreamOptions;
  private readonly queues: Queue[];
  private readonly policy: Policy | undefined;
  private readonly usage: WorkerUsage;
  private readonly failed: Promise<never>;
  private fail: (error: unknown) => void = () => {};
  private stopped = false;
  private deadlineNs = Number.POSITIVE_INFINITY;
  private wake: (() => void) | undefined;
  private firstNs = Number.POSITIVE_INFINITY;
  private lastNs = 0;
  private messages = 0;
  private incomplete = 0;
  private missingChunks = 0;
  private verified = 0;
  private corrupt = 0;

  /** Posts all receives. */
  constructor(options: StreamOptions) {
    const { qps, shape, context, clock } = options;
    this.options = options;
    this.policy = policyOf(shape);
    const ring = ringOf(shape);
    this.failed = new Promise((_, reject) => {
      this.fail = reject;
    });
    this.failed.catch(() => {});
    this.usage = new WorkerUsage(context, clock);
    this.queues = qps.map((qp) => ({
      qp,
      region: MemoryRegion.allocate(ring * shape.bytes),
      open: new Map(),
      active: new Set(),
      next: 0,
      settled: 0,
      expected: Number.POSITIVE_INFINITY,
      packets: 0,
      packetNs: clock.nowNs(),
    }));
    for (const queue of this.queues) this.post(queue);
    if (this.policy === undefined) this.watch().catch(this.fail);
  }

  /** Rejects with what ended a queue pair before the run was over. */
  get failure(): Promise<never> {
    return this.failed;
  }

  /** Waits, bounded, for what the sender has sent on each queue pair. Errors: those of the queue pairs. */
  async finish(counts: readonly number[]): Promise<ReceiveReport> {
    const { clock } = this.options;
    this.deadlineNs = clock.nowNs() + FINAL_NS_MAX;
    for (const [index, queue] of this.queues.entries()) {
      queue.expected = counts[index] as number;
      queue.packetNs = clock.nowNs();
    }
    while (this.left() > 0) {
      const news = new Promise<void>((resolve) => {
        this.wake = resolve;
      });
      await Promise.race([news, this.failed]);
    }
    return this.conclude();
  }

  /** Nobody waits any more; what is posted ends with its queue pair. */
  stop(): void {
    this.stopped = true;
  }

  private left(): number {
    return this.queues.reduce((sum, { expected, settled }) => sum + expected - settled, 0);
  }

  /** Posts the next receives, in order, each into the slot of one that is over. */
  private post(queue: Queue): void {
    const { shape } = this.options;
    const ring = ringOf(shape);
    const receive = this.policy === undefined ? this.receiveRaw : this.receiveReliably;
    while (!this.stopped && !queue.active.has(queue.next - ring)) {
      const message = queue.next++;
      queue.active.add(message);
      const where = { offset: (message % ring) * shape.bytes, bytes: shape.bytes };
      receive.call(this, queue, message, where).catch((error: unknown) => {
        if (!this.stopped) this.fail(error); // a receive left over ends with its queue pair
      });
    }
  }

  private async receiveReliably(queue: Queue, message: number, where: Place): Promise<void> {
    const policy = this.policy as Policy;
    const { durationNs } = await reliableReceive(queue.qp, queue.region, policy, where);
    this.firstNs = Math.min(this.firstNs, this.options.clock.nowNs() - durationNs);
    this.complete(queue, message, where);
    this.settle(queue, message);
  }

  private async receiveRaw(queue: Queue, message: number, where: Place): Promise<void> {
    const { qp, region, open } = queue;
    const handle = qp.postReceive({ region, offset: where.offset, maxBytes: where.bytes });
    open.set(message, { handle, giveUpNs: Number.POSITIVE_INFINITY });
    handle.started.then(
      () => this.begun(queue, message),
      () => {},
    );
    try {
      await handle.arrived;
    } catch (error) {
      if (open.has(message)) throw error; // not given up here
      return;
    }
    open.delete(message);
    this.overtake(queue, message, COMPLETE_NS_MIN);
    this.complete(queue, message, where);
    handle.complete();
    this.settle(queue, message);
  }

  private begun(queue: Queue, message: number): void {
    const nowNs = this.options.clock.nowNs();
    if (this.firstNs === Number.POSITIVE_INFINITY) this.usage.begin();
    this.firstNs = Math.min(this.firstNs, nowNs);
    this.overtake(queue, message, BEGUN_NS_MIN);
  }

  /** A wait for the sake of real machines. */
  private real(ns: number): number {
    return this.options.context.capabilities.virtualTime ? ns * VIRTUAL_SHARE : ns;
  }

  /** The sender has so many in flight at most: what lies further back was injected. */
  private overtake(queue: Queue, message: number, waitNs: number): void {
    const atNs = this.options.clock.nowNs() + Math.max(this.real(waitNs), queue.qp.path.rttNs);
    for (const [earlier, entry] of queue.open)
      if (earlier <= message - this.options.shape.depth)
        entry.giveUpNs = Math.min(entry.giveUpNs, atNs);
  }

  private complete(queue: Queue, message: number, { offset, bytes }: Place): void {
    const { shape, pattern, clock } = this.options;
    this.messages++;
    this.lastNs = clock.nowNs();
    if (shape.verifyEvery > 0 && message % shape.verifyEvery === 0) {
      this.verified++;
      const data = queue.region.data.subarray(offset, offset + bytes);
      if (!pattern.isIntact(message, data)) this.corrupt++;
    }
    this.usage.mark();
  }

  private settle(queue: Queue, message: number): void {
    queue.settled++;
    queue.active.delete(message);
    this.post(queue);
    this.wake?.();
  }

  /** Gives up what will not be complete. */
  private async watch(): Promise<void> {
    const { clock } = this.options;
    while (!this.stopped) {
      await clock.sleep(this.real(LOOK_NS));
      if (this.stopped) return;
      const nowNs = clock.nowNs();
      for (const queue of this.queues) this.look(queue, nowNs);
    }
  }

  private look(queue: Queue, nowNs: number): void {
    const { packets } = tally(queue.qp);
    if (packets !== queue.packets) queue.packetNs = nowNs;
    queue.packets = packets;
    const quietNs = Math.max(this.real(QUIET_NS_MIN), QUIET_RTTS * queue.qp.path.rttNs);
    for (const [message, { handle, giveUpNs }] of queue.open) {
      if (message >= queue.expected) continue; // nobody sent it
      const factor = handle.state === "posted" ? UNANNOUNCED_FACTOR : 1;
      const isQuiet = nowNs > queue.packetNs + quietNs * factor;
      const isSent = Number.isFinite(queue.expected);
      const isOver = nowNs > this.deadlineNs || (isSent && isQuiet) || nowNs > giveUpNs;
      if (isOver) this.giveUp(queue, handle);
    }
    if (nowNs > this.deadlineNs && queue.settled < queue.expected) {
      this.incomplete += queue.expected - queue.settled;
      queue.settled = queue.expected;
      this.wake?.();
    }
  }

  private giveUp(queue: Queue, handle: ReceiveHandle): void {
    queue.open.delete(handle.message);
    const { chunkCount, chunksDone } = handle.progress;
    this.incomplete++;
    this.missingChunks += chunkCount - chunksDone;
    handle.complete();
    this.settle(queue, handle.message);
  }

  private conclude(): ReceiveReport {
    this.stopped = true;
    this.usage.mark(true);
    const all = this.queues.map(({ qp }) => tally(qp));
    const names = RECEIVE_DROPS.map((name): [string, number] => [
      name,
      all.reduce((sum, { drops }) => sum + drops[name], 0),
    ]);
    return {
      messages: this.messages,
      incomplete: this.incomplete,
      missingChunks: this.missingChunks,
      bytes: this.messages * this.options.shape.bytes,
      durationNs: Math.max(0, Math.round(this.lastNs - this.firstNs)) || 0,
      packets: all.reduce((sum, { packets }) => sum + packets, 0),
      verified: this.verified,
      corrupt: this.corrupt,
      workers: this.usage.shares(),
      drops: Object.fromEntries(names) as Record<(typeof RECEIVE_DROPS)[number], number>,
    };
  }
}

function tally(qp: QueuePair): { packets: number; drops: ReceiveDrops } {
  const counters = qp.counters();
  const { packets, chunks, messages, duplicates } = counters;
  return { packets: packets + chunks + messages + duplicates, drops: counters };
}

/** What to say of a run whose bytes were not those that were sent. */
export function integrityError(corrupt: number, verified: number): SdrError {
  return new SdrError(
    "INTEGRITY",
    `${corrupt} of ${verified} messages that were compared differ from what was sent`,
    "check memory; if it happens again, the transport is at fault",
  );
}
