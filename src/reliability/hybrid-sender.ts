/** The sender of the hybrid scheme, which hybrid.ts describes. */

import type { SdrError } from "../base/errors.ts";
import { REPAIR_FAILURE } from "../model/hybrid.ts";
import { repairRows } from "../model/parity.ts";
import type { HybridShape } from "../model/types.ts";
import { copySpacingNs, FINAL_COPIES, stallNs } from "./acknowledger.ts";
import { BlockLayout } from "./block-layout.ts";
import { ChunkTable, chunkExhausted } from "./chunk-table.ts";
import type { AckFrame, ControlFrame, NackFrame, PolicyFrame } from "./frames.ts";
import { REPAIR_RTT_FRACTION } from "./gap-detector.ts";
import { type Need, planFrame, readLoss, readNeeds } from "./hybrid-frames.ts";
import { RowSchedule } from "./hybrid-rows.ts";
import { headRoom, type MeasuredPace, noticeSlackNs, Pace, RowPlan } from "./hybrid-tail.ts";
import { LossReports } from "./loss-watch.ts";
import type {
  ChunkRange,
  CodingTask,
  SendCounters,
  SendSession,
  SessionParams,
  SessionState,
} from "./policy.ts";
import { ALPHA_DEFAULT, RetransmissionGuard } from "./retransmission-guard.ts";

export class HybridSender implements SendSession {
  state: SessionState = "active";
  error?: SdrError;
  readonly counters = {
    chunksRetransmitted: 0,
    timeouts: 0,
    nacksReceived: 0,
    parityChunks: 0,
    fallbacks: 0,
  } satisfies SendCounters;
  private readonly params: SessionParams;
  private readonly shape: HybridShape;
  private readonly target: number;
  private readonly layout: BlockLayout;
  private readonly table: ChunkTable;
  private readonly rows: RowSchedule;
  private readonly pace: Pace;
  private readonly guard: RetransmissionGuard;
  private readonly reports: LossReports;
  /** Data chunks of each block that are not acknowledged. */
  private readonly unacknowledged: Uint8Array;
  /** When anything of each block was injected last. */
  private readonly injectedNs: Float64Array;
  /** Of each block, repairs sent so late that nothing but parity can repair them in time, and when the first was. */
  private readonly lateRepairs: Uint8Array;
  private readonly lateSinceNs: Float64Array;
  private readonly neededOnce: Uint8Array;
  /** The tail's first chunk; undefined until it is handed out. Without parity there is no tail: the message's end. */
  private tailFirst: number | undefined;
  private plan: RowPlan | undefined;
  /** Chunks below were said to be injected. */
  private said = 0;
  /** A PLAN is to go out; further copies of it, and when. */
  private isPlanDue = false;
  private copiesLeft = 0;
  private copyAtNs = Infinity;
  /** When to say (again) what is sent; Infinity while there is something to send or to be injected. */
  private sayAtNs = Infinity;

  /** Errors: none; `shape` is checked by the caller. */
  constructor(params: SessionParams, shape: HybridShape, target: number, measured: MeasuredPace) {
    const { chunkCount, path, startNs } = params;
    const { k, rows, interleave } = shape;
    this.params = params;
    this.shape = shape;
    this.target = target;
    this.layout = new BlockLayout({ kind: "mds", k, m: rows }, chunkCount, interleave);
    const { blockCount } = this.layout;
    this.table = new ChunkTable(chunkCount, params.windowChunks, (chunk) => this.arrived(chunk));
    this.rows = new RowSchedule(this.layout);
    this.pace = new Pace(params, measured);
    this.guard = new RetransmissionGuard(params, ALPHA_DEFAULT);
    this.reports = new LossReports(chunkCount, path.loss);
    const { layout } = this;
    this.unacknowledged = new Uint8Array(blockCount).map((_, block) => layout.dataCount(block));
    this.injectedNs = new Float64Array(blockCount).fill(-Infinity);
    this.lateRepairs = new Uint8Array(blockCount);
    this.lateSinceNs = new Float64Array(blockCount).fill(-Infinity);
    this.neededOnce = new Uint8Array(blockCount);
    if (chunkCount === 0) return;
    if (this.headRoom === 0) this.beginTail();
    this.announce(startNs);
  }

  get chunksAcknowledged(): number {
    return this.table.acknowledged;
  }

  private get headRoom(): number {
    if (this.tailFirst !== undefined) return Infinity;
    const { params, pace, table } = this;
    return headRoom(params, pace, params.chunkCount - table.fresh, table.repairsWaiting);
  }

  /** What is handed out from now on is the tail: each block with some of it gets rows for as much. */
  private beginTail(): void {
    const { layout, params, rows, shape, table } = this;
    const { fresh } = table;
    this.tailFirst = shape.parity === 0 ? params.chunkCount : fresh;
    if (shape.parity === 0) return;
    const at = layout.blockOf(fresh);
    const first = at - (at % layout.interleave);
    const each = this.target / (layout.blockCount - first);
    this.plan = new RowPlan(shape, params.path.loss, each);
    rows.beginTail(first);
    for (let block = first; block < layout.blockCount; block++) {
      const exposed = layout.dataCountFrom(block, fresh);
      // The shape rests on what was known when the session began: on nothing older in a message that is all tail.
      const total = fresh === 0 ? shape.parity : this.plan.rowsFor(exposed);
      rows.want(block, total, this.plan.earlyFor(exposed), true);
    }
  }

  handleControl(frame: ControlFrame, nowNs: number): void {
    if (this.state !== "active") return;
    if (frame.kind === "ack") this.handleAck(frame, nowNs);
    else if (frame.kind === "nack") this.handleNack(frame, nowNs);
    else if (frame.kind === "policy") this.handlePolicyFrame(frame, nowNs);
    this.review(nowNs);
  }

  private handleAck(frame: AckFrame, nowNs: number): void {
    this.table.sampleRtt(frame, nowNs, this.params.path);
    if (!this.table.acknowledge(frame)) return;
    this.guard.handleHeard();
    if (this.table.done) this.state = "done";
  }

  private arrived(chunk: number): void {
    const block = this.layout.blockOf(chunk);
    if (--(this.unacknowledged[block] as number) === 0) this.rows.drop(block);
  }

  private handlePolicyFrame(frame: PolicyFrame, nowNs: number): void {
    const total = readLoss(frame);
    if (total !== undefined) this.reports.take(total);
    for (const need of readNeeds(frame) ?? []) this.handleNeed(need, nowNs);
  }

  private get repairAgeNs(): number {
    return this.params.path.rttMinNs * REPAIR_RTT_FRACTION;
  }

  /**
   * A chunk injected less than about an RTT ago is left alone: the report cannot be about that injection. One of the
   * tail, too, unless everything up to it was said to be sent: it is parity's. When the tail has begun, a repair can
   * itself be repaired by parity only.
   */
  private handleNack(frame: NackFrame, nowNs: number): void {
    this.counters.nacksReceived++;
    this.guard.handleHeard();
    const { repairAgeNs, table, tailFirst = Infinity } = this;
    const limit = Math.min(table.fresh, Math.max(tailFirst, this.said));
    for (const range of frame.ranges) {
      const end = Math.min(range.first + range.count, limit);
      for (let chunk = Math.max(range.first, table.cumulative); chunk < end; chunk++)
        if (table.repairRange(chunk, 1, repairAgeNs, nowNs) > 0 && chunk < tailFirst)
          this.noteRepair(chunk, nowNs);
    }
  }

  private noteRepair(chunk: number, nowNs: number): void {
    const { layout, plan, tailFirst } = this;
    if (plan === undefined || tailFirst === undefined) return;
    const block = layout.blockOf(chunk);
    const exposed = layout.dataCountFrom(block, tailFirst);
    const late = Math.min((this.lateRepairs[block] as number) + 1, layout.dataCount(block));
    this.lateRepairs[block] = late;
    if (late === 1) this.lateSinceNs[block] = nowNs;
    this.rows.want(block, plan.rowsFor(exposed + late), plan.earlyFor(exposed), false);
  }

  /**
   * The receiver cannot make a block from all that was sent: fresh rows, as long as there are enough, as any chunk of
   * the block is as good to it. Untrusted; a second asking before the answer can have been there is ignored.
   */
  private handleNeed({ block, chunks }: Need, nowNs: number): void {
    const { layout, rows } = this;
    if (!this.isEndSaid || block >= layout.blockCount || chunks < 1) return;
    this.guard.handleHeard();
    if (chunks > layout.dataCount(block) || this.unacknowledged[block] === 0) return;
    if (rows.isUnderWay(block) || nowNs < this.injectedAtNs(block) + this.repairAgeNs) return;
    if (this.neededOnce[block] === 0) this.counters.fallbacks++;
    this.neededOnce[block] = 1;
    const sent = rows.sentOf(block);
    if (chunks > layout.code.m - sent) return this.repairData(block, nowNs);
    const failure = Math.min(this.target, REPAIR_FAILURE);
    const total = sent + repairRows(chunks, this.params.path.loss, failure);
    rows.want(block, total, total, false);
  }

  private injectedAtNs(block: number): number {
    return this.injectedNs[block] as number;
  }

  private repairData(block: number, nowNs: number): void {
    for (const chunk of this.layout.chunksOf(block))
      this.table.repairRange(chunk, 1, this.repairAgeNs, nowNs);
  }

  handleInjected(first: number, count: number, nowNs: number, parity = false): void {
    const { injectedNs, layout, table } = this;
    if (parity) {
      this.rows.injected(first, count);
      const block = Math.floor(first / layout.code.m);
      if (block >= 0 && block < layout.blockCount) injectedNs[block] = nowNs;
    } else {
      table.injected(first, count, nowNs);
      const end = Math.min(first + count, table.fresh);
      for (let chunk = Math.max(0, first); chunk < end; chunk++)
        injectedNs[layout.blockOf(chunk)] = nowNs;
    }
    this.pace.injected(count, nowNs);
    this.review(nowNs);
  }

  pollTask(nowNs: number): CodingTask | undefined {
    if (this.state !== "active") return undefined;
    const { fresh } = this.table;
    const settledNs = nowNs - noticeSlackNs(this.params);
    const isSettled = (block: number) =>
      fresh === this.params.chunkCount || (this.lateSinceNs[block] as number) <= settledNs;
    return this.rows.pollTask(fresh, isSettled);
  }

  handleTaskDone(task: CodingTask, _nowNs: number): void {
    this.rows.handleTaskDone(task);
  }

  pollTransmit(maxChunks: number, nowNs: number): ChunkRange | undefined {
    if (this.state !== "active") return undefined;
    const range = this.table.handOutRepairs(maxChunks) ?? this.handOutNew(maxChunks, nowNs);
    this.counters.chunksRetransmitted = this.table.retransmitted;
    this.counters.parityChunks = this.rows.handedOut;
    if (this.table.exhausted >= 0) this.fail(this.table.exhausted);
    this.review(nowNs);
    return range;
  }

  /** Rows that are due, else data to the end of its group, or of the head. Rows take no part of the window. */
  private handOutNew(maxChunks: number, nowNs: number): ChunkRange | undefined {
    const { layout, rows, table } = this;
    if (table.fresh < this.params.chunkCount && this.headRoom === 0) {
      this.beginTail();
      this.announce(nowNs);
    }
    const { fresh } = table;
    const due = rows.handOut(maxChunks, fresh, table.freshRoom === 0);
    if (due !== undefined || table.freshRoom === 0) return due;
    const room = layout.dataEnd(layout.blockOf(fresh)) - fresh;
    return table.handOutFresh(Math.min(maxChunks, room, this.headRoom));
  }

  private fail(chunk: number): void {
    this.state = "failed";
    this.error = chunkExhausted(chunk);
  }

  /** Whether all that may be sent is injected. Rows that are being encoded will be sent. */
  private get isQuiet(): boolean {
    const { rows, table } = this;
    const isOut = table.out > 0 || rows.out > 0;
    if (isOut || table.hasRepairs || table.freshRoom > 0) return false;
    return table.fresh < this.params.chunkCount || rows.pending === 0;
  }

  /**
   * Sets the time of the next saying, after anything that may have begun or ended the quiet. The end, once said, is
   * said again whatever goes on: a receiver that never heard the plan goes on asking for single chunks.
   */
  private review(nowNs: number): void {
    if (this.params.chunkCount === 0 || this.state !== "active" || this.isEndSaid) return;
    if (!this.isQuiet) this.sayAtNs = Infinity;
    else if (this.table.fresh === this.params.chunkCount) this.say(nowNs);
    else if (this.sayAtNs === Infinity) this.sayAtNs = nowNs + stallNs(this.params);
  }

  private get isEndSaid(): boolean {
    return this.said === this.params.chunkCount;
  }

  private say(nowNs: number): void {
    this.said = Math.max(this.said, this.table.fresh);
    this.announce(nowNs);
    this.sayAtNs = nowNs + (FINAL_COPIES - 1) * copySpacingNs(this.params) + this.guard.rtoNs;
  }

  /** Says the plan now, and again soon: losing it would cost a round trip. */
  private announce(nowNs: number): void {
    this.isPlanDue = true;
    this.copiesLeft = FINAL_COPIES - 1;
    this.copyAtNs = nowNs + copySpacingNs(this.params);
  }

  handleTimeout(nowNs: number): void {
    if (this.state !== "active") return;
    if (nowNs >= this.sayAtNs) {
      if (this.isEndSaid) {
        this.counters.timeouts++;
        this.guard.handleExpired(nowNs);
      }
      this.say(nowNs);
    } else if (nowNs >= this.copyAtNs) {
      this.isPlanDue = true;
      this.copiesLeft--;
      this.copyAtNs = this.copiesLeft > 0 ? nowNs + copySpacingNs(this.params) : Infinity;
    }
  }

  pollControl(_nowNs: number): ControlFrame | undefined {
    if (!this.isPlanDue || this.state !== "active") return undefined;
    this.isPlanDue = false;
    const { said, shape, tailFirst } = this;
    return planFrame({ ...shape, sentChunks: said, tailFirst });
  }

  nextTimeoutNs(): number {
    return this.state === "active" ? Math.min(this.sayAtNs, this.copyAtNs) : Infinity;
  }
}
