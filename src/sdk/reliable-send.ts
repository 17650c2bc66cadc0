/** The sending half of a reliable transfer: a send handle driven by a policy's session. */
import type { SdrError } from "../base/errors.ts";
import type { ChunkRange, CodingTask, Policy, SendSession } from "../reliability/policy.ts";
import { CODEC_STATUS } from "../transport/native.ts";
import { codeOf, isTaskWithin, lastChunk, parityRegion } from "./coding.ts";
import { Driven, type DrivenOptions, parityChunksOf, type TransferProgress } from "./driven.ts";
import type { QueuePair } from "./queue-pair.ts";
import type { SendDriver, SendHandle } from "./send-handle.ts";

/** How a reliable write went, at its sender. */
export interface WriteReport {
  /** Number of the message on its queue pair and direction. */
  readonly message: number;
  readonly bytes: number;
  readonly chunks: number;
  readonly policy: string;
  /** First injection to the sender's learning that all is delivered. */
  readonly completionNs: number;
  /** When the receiver was ready and injection began, by QueuePair.nowNs. */
  readonly startNs: number;
  /** Chunks injected beyond each one's first time. */
  readonly chunksRetransmitted: number;
  /** As the policy counts them. */
  readonly timeouts: number;
  readonly nacksReceived: number;
  /** Parity chunks injected, and blocks that they did not save. 0 for policies without parity. */
  readonly parityChunks: number;
  readonly fallbacks: number;
}

export class ReliableSend extends Driven<WriteReport, SendSession> implements SendDriver {
  protected readonly handle: SendHandle;
  private acknowledged = 0;
  private parityCount = 0;

  constructor(qp: QueuePair, handle: SendHandle, policy: Policy, options: DrivenOptions) {
    super(qp, policy, options);
    this.handle = handle;
  }

  progress(): TransferProgress {
    return { chunksDone: this.acknowledged, chunkCount: this.handle.chunkCount };
  }

  ready(nowNs: number): void {
    const { handle, policy, qp } = this;
    try {
      this.parityCount = parityChunksOf(policy, handle.chunkCount);
      if (this.parityCount > 0 && handle.source !== undefined)
        handle.parity = parityRegion(
          this.parityCount,
          qp.attributes.chunkBytes,
          handle.source.region,
        );
    } catch (error) {
      return this.fail(error);
    }
    this.begin(this.handle.bytes, nowNs, (params) => this.policy.createSender(params));
  }

  injected(first: number, count: number, nowNs: number, parity: boolean): void {
    this.attempt((session) => session.handleInjected(first, count, nowNs, parity));
  }

  /** Writes a block's parity. */
  protected beginTask(task: CodingTask): void {
    const { handle, qp } = this;
    const { source, parity } = handle;
    if (
      source === undefined ||
      parity === undefined ||
      !isTaskWithin(task, handle.chunkCount, this.parityCount)
    )
      throw this.nonsense(`asked for chunks ${task.first} to ${lastChunk(task)} encoded`);
    const code = codeOf(task.code);
    const done = (status: number) => {
      this.taskDone((session) => {
        if (status !== CODEC_STATUS.ok) throw this.nonsense(`cannot encode (status ${status})`);
        session.handleTaskDone?.(task, qp.nowNs());
      });
    };
    if (parity.isPhantom) return done(CODEC_STATUS.ok);
    const { chunkBytes } = qp.attributes;
    const first = task.first * chunkBytes;
    const bytes = Math.min((lastChunk(task) + 1) * chunkBytes, handle.bytes) - first;
    const encode = () =>
      code.encodeBlock(
        source.region.native,
        source.offset + first,
        bytes,
        chunkBytes,
        parity.native,
        task.parityFirst * chunkBytes,
        task.stride,
        task.rows?.first,
        task.rows?.count,
      );
    qp.awaitWork(encode, done, (error) => this.taskFailed(error));
  }

  pollTransmit(maxChunks: number, nowNs: number): ChunkRange | undefined {
    const range = this.attempt((session) => session.pollTransmit(maxChunks, nowNs)) ?? undefined;
    if (range === undefined || range.count <= maxChunks) return range;
    this.fail(this.nonsense(`gave ${range.count} chunks of at most ${maxChunks}`));
    return undefined;
  }

  override failed(error: SdrError): void {
    this.handle.parity?.close();
    super.failed(error);
  }

  settle(nowNs: number): void {
    if (!this.result.settled) this.attempt((session) => this.look(session, nowNs));
  }

  private look(session: SendSession, nowNs: number): void {
    const { handle } = this;
    if (session.chunksAcknowledged !== this.acknowledged) {
      this.acknowledged = session.chunksAcknowledged;
      this.news.notify();
    }
    if (session.state === "failed") throw session.error ?? this.gaveUp();
    if (session.state !== "done") return;
    this.acknowledged = handle.chunkCount;
    const { counters } = session;
    const { chunksRetransmitted, timeouts, nacksReceived } = counters;
    this.qp.confirm(handle.message);
    handle.finish();
    handle.parity?.close();
    this.news.close();
    const report: WriteReport = {
      message: handle.message,
      bytes: handle.bytes,
      chunks: handle.chunkCount,
      policy: this.policy.name,
      completionNs: nowNs - this.startNs,
      startNs: this.startNs,
      chunksRetransmitted,
      timeouts,
      nacksReceived,
      parityChunks: counters.parityChunks ?? 0,
      fallbacks: counters.fallbacks ?? 0,
    };
    // Parity that is no longer needed may still be made; the region is the user's again when this resolves.
    this.whenIdle(() => this.result.resolve(report));
  }
}
