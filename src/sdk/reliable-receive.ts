/** The receiving half of a reliable transfer: a posted receive driven by a policy's session. */
import type { ControlFrame } from "../reliability/frames.ts";
import type { CodingTask, Policy, ReceiveSession } from "../reliability/policy.ts";
import { Driven, type DrivenOptions, type TransferProgress } from "./driven.ts";
import type { QueuePair } from "./queue-pair.ts";
import type { ReceiveDriver, ReceiveHandle } from "./receive-handle.ts";

/** How a reliable receive went. */
export interface ReceiveReport {
  readonly message: number;
  readonly bytes: number;
  readonly chunks: number;
  readonly policy: string;
  /** The sender's 32 bits; undefined: none. */
  readonly immediate: number | undefined;
  /** From the sender's START to the last chunk. */
  readonly durationNs: number;
  /** Chunks made from parity, parity chunks that it took, and those that came for nothing. */
  readonly chunksRecovered: number;
  readonly parityUsed: number;
  readonly parityWasted: number;
  /** Blocks that parity did not save. */
  readonly fallbacks: number;
}

export class ReliableReceive
  extends Driven<ReceiveReport, ReceiveSession>
  implements ReceiveDriver
{
  lingering = false;
  protected readonly handle: ReceiveHandle;
  private lingerUntilNs = Number.POSITIVE_INFINITY;
  /** A frame that was made when all had just come in. */
  private withheld: ControlFrame | undefined;

  constructor(qp: QueuePair, handle: ReceiveHandle, policy: Policy, options: DrivenOptions) {
    super(qp, policy, options);
    this.handle = handle;
  }

  progress(): TransferProgress {
    const { chunksDone, chunkCount } = this.handle.progress;
    return { chunksDone, chunkCount };
  }

  started(nowNs: number): void {
    this.begin(this.handle.bytes ?? 0, nowNs, (params) => this.policy.createReceiver(params));
  }

  handleProgress(nowNs: number): void {
    const { handle } = this;
    this.attempt((session) => session.handleProgress(handle.bitmap, nowNs, handle.parityBitmap));
    this.news.notify();
  }

  /**
   * The final ACK waits for work still under way on the message's bytes: until then the receive may fail. A session may
   * find that all is there only while it makes the frame.
   */
  override pollControl(nowNs: number): ControlFrame | undefined {
    if (this.isWorkedOn) return undefined;
    const frame = this.withheld ?? super.pollControl(nowNs);
    this.withheld = this.isWorkedOn ? frame : undefined;
    return this.withheld === undefined ? frame : undefined;
  }

  /** All is there, and threads are not done with it. What a policy throws here comes up where it can be told. */
  private get isWorkedOn(): boolean {
    if (!this.hasTasks) return false;
    try {
      return this.session?.complete === true;
    } catch {
      return false;
    }
  }

  /** Makes a block's missing chunks; the handle reports progress after it. */
  protected beginTask(task: CodingTask): void {
    this.handle.startRecovery(
      task,
      ({ chunks, parityUsed }) => {
        this.taskDone((session) =>
          session.handleTaskDone?.(task, this.qp.nowNs(), chunks, parityUsed),
        );
      },
      (error) => this.taskFailed(error),
    );
  }

  done(nowNs: number): void {
    this.attempt((session) => session.handleDone(nowNs));
    this.linger();
  }

  override timeout(nowNs: number): void {
    if (nowNs >= this.lingerUntilNs) this.done(nowNs);
    else super.timeout(nowNs);
  }

  override nextTimeoutNs(): number {
    if (this.result.settled && !this.lingering) return Number.POSITIVE_INFINITY;
    if (this.isWorkedOn) return this.deadlineNs; // repeats of what is withheld wait with it
    return Math.min(this.lingerUntilNs, super.nextTimeoutNs());
  }

  /** The final ACK is repeated after the slot is completed, for as long as the session is active. */
  private linger(): void {
    this.lingering = this.result.settled && this.attempt(({ state }) => state) === "active";
  }

  settle(nowNs: number): void {
    if (this.result.settled) this.linger();
    else this.attempt((session) => this.look(session, nowNs));
  }

  private look(session: ReceiveSession, nowNs: number): void {
    const { handle } = this;
    if (session.state === "failed") throw this.gaveUp();
    // Tasks that end now still count, and nothing is to wait for them in complete().
    if (!session.complete || this.hasTasks) return;
    const { counters } = session;
    const { immediate, message, bytes = 0 } = handle;
    this.deadlineNs = Number.POSITIVE_INFINITY;
    this.lingerUntilNs = nowNs + this.qp.attributes.peerTimeoutNs;
    this.lingering = session.state === "active";
    handle.complete();
    this.news.close();
    this.result.resolve({
      message,
      bytes,
      chunks: Math.ceil(bytes / this.qp.attributes.chunkBytes),
      policy: this.policy.name,
      immediate,
      durationNs: nowNs - this.startNs,
      chunksRecovered: counters?.chunksRecovered ?? 0,
      parityUsed: counters?.parityUsed ?? 0,
      parityWasted: counters?.parityWasted ?? 0,
      fallbacks: counters?.fallbacks ?? 0,
    });
  }
}
