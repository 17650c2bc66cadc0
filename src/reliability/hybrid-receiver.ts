/** The receiver of the hybrid scheme, which hybrid.ts describes. */
import { hybridParityChunks } from "../model/parity.ts";
import { ACK_RTT_FRACTION, BitmapReceiver, copySpacingNs, FINAL_COPIES } from "./acknowledger.ts";
import type { ChunkBitmap } from "./bitmap.ts";
import { BlockDecoder } from "./block-decoder.ts";
import { BlockLayout } from "./block-layout.ts";
import type { ControlFrame } from "./frames.ts";
import { lossFrame, needFrame, type PlanFrame, readPlan } from "./hybrid-frames.ts";
import { HybridRepairs } from "./hybrid-repairs.ts";
import { LossWatch } from "./loss-watch.ts";
import type {
  CodingTask,
  ReceiveCounters,
  ReceiveSession,
  SessionParams,
  SessionState,
} from "./policy.ts";
import { FrameRepeats } from "./repeats.ts";

const NO_COUNTS: ReceiveCounters = {
  chunksRecovered: 0,
  parityUsed: 0,
  parityWasted: 0,
  fallbacks: 0,
};
/** What is asked for is asked for again at once only where the copies come well before the repair. */
const REPEATS_RTT_FRACTION = 1 / 8;

export class HybridReceiver implements ReceiveSession {
  private readonly params: SessionParams;
  private readonly losses: LossWatch;
  private readonly repairs: HybridRepairs;
  private readonly repeats: FrameRepeats;
  private readonly inner: BitmapReceiver;
  /** How the sender protects the message; undefined until its first word. */
  private plan: PlanFrame | undefined;
  private layout: BlockLayout | undefined;
  private blocks: BlockDecoder | undefined;
  /** The live bitmaps, until the message is complete. */
  private bitmap: ChunkBitmap | undefined;
  private parity: ChunkBitmap | undefined;
  /** An ACK that goes out behind what was said of losses, and when that was said last. */
  private heldAck: ControlFrame | undefined;
  private lossSaidNs: number;

  constructor(params: SessionParams) {
    this.params = params;
    this.losses = new LossWatch(params.chunkCount);
    this.repairs = new HybridRepairs(params, this.losses);
    this.repeats = new FrameRepeats(params);
    const ack = { selective: true, rttFraction: ACK_RTT_FRACTION };
    this.inner = new BitmapReceiver(params, ack, this.repairs);
    this.lossSaidNs = params.startNs;
  }

  get counters(): Readonly<ReceiveCounters> {
    return this.blocks?.counters ?? NO_COUNTS;
  }

  get complete(): boolean {
    return this.inner.complete;
  }

  get state(): SessionState {
    return this.inner.state;
  }

  handleProgress(bitmap: ChunkBitmap, nowNs: number, parity?: ChunkBitmap): void {
    if (this.complete || this.state !== "active") return;
    this.bitmap = bitmap;
    this.parity = parity;
    if (this.usesParity) this.blocks?.handleProgress(bitmap, nowNs, parity);
    this.inner.handleProgress(bitmap, nowNs);
    this.finishOnceComplete();
  }

  /** Before there is any parity there is nothing to decode, and blocks are not worth looking at. */
  private get usesParity(): boolean {
    const { chunkCount } = this.params;
    const { tailFirst = chunkCount, sentChunks = 0 } = this.plan ?? {};
    return tailFirst < chunkCount || sentChunks > 0;
  }

  private finishOnceComplete(): void {
    if (!this.complete || this.bitmap === undefined) return;
    this.losses.lookedAt(this.params.chunkCount);
    this.blocks?.finish();
    this.bitmap = undefined;
    this.parity = undefined;
  }

  /** What is missing when a block is made is what was lost of it. */
  pollTask(_nowNs: number): CodingTask | undefined {
    const { blocks, layout } = this;
    if (this.complete || this.state !== "active" || !blocks || !layout) return undefined;
    const task = blocks.pollTask();
    if (task === undefined) return undefined;
    for (const chunk of layout.chunksOf(layout.blockOf(task.first)))
      if (blocks.isMissing(chunk)) this.losses.mark(chunk);
    return task;
  }

  handleTaskDone(task: CodingTask, nowNs: number, recovered: number, parityUsed: number): void {
    this.blocks?.handleTaskDone(task, recovered, parityUsed);
    this.repairs.handleTaskDone(nowNs);
  }

  handleControl(frame: ControlFrame, nowNs: number): void {
    if (!this.complete) this.handlePlan(frame, nowNs);
    this.inner.handleControl(frame, nowNs);
  }

  /** The first one settles how the message falls into blocks; one that says otherwise later is ignored. */
  private handlePlan(frame: ControlFrame, nowNs: number): void {
    const { chunkCount } = this.params;
    const told = readPlan(frame, chunkCount, hybridParityChunks(chunkCount));
    if (told === undefined) return;
    const { plan } = this;
    if (plan === undefined) this.beginBlocks(told);
    else if (told.k !== plan.k || told.rows !== plan.rows || told.interleave !== plan.interleave)
      return;
    const before = this.usesParity;
    const tailFirst = plan?.tailFirst ?? told.tailFirst;
    const sentChunks = Math.max(plan?.sentChunks ?? 0, told.sentChunks);
    this.plan = { ...told, tailFirst, sentChunks };
    if (tailFirst !== undefined) this.repairs.beginTail(tailFirst);
    this.repairs.handleSent(told.sentChunks, nowNs);
    if (before || !this.usesParity || this.bitmap === undefined) return;
    this.blocks?.handleProgress(this.bitmap, nowNs, this.parity);
    this.blocks?.look(nowNs);
  }

  private beginBlocks({ k, rows, interleave }: PlanFrame): void {
    const code = { kind: "mds", k, m: rows } as const;
    this.layout = new BlockLayout(code, this.params.chunkCount, interleave);
    this.blocks = new BlockDecoder(this.layout);
    this.repairs.begin(this.layout, this.blocks);
  }

  handleDone(nowNs: number): void {
    this.inner.handleDone(nowNs);
  }

  handleTimeout(nowNs: number): void {
    this.inner.handleTimeout(nowNs);
    if (!this.complete) this.repeats.handleTimeout(nowNs);
  }

  pollControl(nowNs: number): ControlFrame | undefined {
    if (this.state !== "active") return undefined;
    const { heldAck } = this;
    this.heldAck = undefined;
    if (heldAck !== undefined) return heldAck;
    const frame = this.inner.pollControl(nowNs);
    this.finishOnceComplete();
    if (frame?.kind === "ack") return this.withLosses(frame, nowNs);
    if (this.complete) return undefined;
    const asked = frame ?? needFrame(this.repairs.needs, this.params.frameBytesMax);
    if (asked === undefined) return this.repeats.poll();
    const spanNs = FINAL_COPIES * copySpacingNs(this.params);
    if (spanNs <= this.params.path.rttMinNs * REPEATS_RTT_FRACTION) this.repeats.add(asked, nowNs);
    return asked;
  }

  /** Once an RTT, and at the end: before the ACK, which ends the sender's session. */
  private withLosses(ack: ControlFrame, nowNs: number): ControlFrame {
    const { losses, params } = this;
    const { total } = losses;
    if (total.chunks === 0) return ack;
    const isTime = this.repairs.watchesHead && nowNs >= this.lossSaidNs + params.path.rttNs;
    if (!this.complete && !isTime) return ack;
    this.lossSaidNs = nowNs;
    this.heldAck = ack;
    return lossFrame(total);
  }

  nextTimeoutNs(): number {
    if (this.state !== "active") return Infinity;
    const repeatNs = this.complete ? Infinity : this.repeats.nextTimeoutNs();
    return Math.min(this.inner.nextTimeoutNs(), repeatNs);
  }
}
