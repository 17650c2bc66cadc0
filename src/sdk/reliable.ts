/**
 * Reliable transfers: a policy's sessions driven by the events of send and receive handles. Everything here uses the
 * handles' public calls; a policy sees only its session.
 */
import { check, SdrError } from "../base/errors.ts";
import type { ControlFrame } from "../reliability/frames.ts";
import type {
  ChunkRange,
  CodingTask,
  Policy,
  ReceiveSession,
  SendSession,
  SessionParams,
} from "../reliability/policy.ts";
import { CODEC_STATUS } from "../transport/native.ts";
import { codeOf, isTaskWithin, parityRegion, TASKS_MAX } from "./coding.ts";
import { toSdrError } from "./end.ts";
import type { QueuePair } from "./queue-pair.ts";
import type { ReceiveDriver, ReceiveHandle } from "./receive-handle.ts";
import { type BufferSource, MemoryRegion } from "./region.ts";
import type { SendDriver, SendHandle } from "./send-handle.ts";
import { Deferred, News } from "./settle.ts";

export interface TransferOptions {
  /** First byte in the region. Default 0. */
  readonly offset?: number;
  /** Bytes to send, or the most to receive. Default: the rest of the region. */
  readonly bytes?: number;
  /** Aborting gives the message up on both ends (ABORTED). */
  readonly signal?: AbortSignal;
  /** The transfer fails with DEADLINE_EXCEEDED when it has not completed this long after the call. */
  readonly timeoutNs?: number;
}

export interface WriteOptions extends TransferOptions {
  /** 32 bits for the receiver. */
  readonly immediate?: number;
}

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

/** Chunks known delivered (sender) or in place (receiver). */
export interface TransferProgress {
  readonly chunksDone: number;
  readonly chunkCount: number;
}

/** A promise of the report that can also be watched and given up. */
export interface Transfer<Report> extends Promise<Report> {
  readonly message: number;
  /** Progress now, after each piece of news, and at the end; then ends. */
  progress(): AsyncGenerator<TransferProgress, void, void>;
  /** Gives the message up on both ends (ABORTED). */
  abort(): void;
}

/**
 * Sends a region's bytes (or a buffer, registered for the purpose) as the queue pair's next message and resolves when
 * the receiver has all of it. The region belongs to the transfer until then. Several may be in flight.
 * Errors: PEER_UNREACHABLE, PEER_INCOMPATIBLE (another policy), TOO_LARGE, ABORTED, DEADLINE_EXCEEDED, CLOSED, BUSY.
 */
export function reliableWrite(
  qp: QueuePair,
  source: MemoryRegion | BufferSource,
  policy: Policy,
  options: WriteOptions = {},
): Transfer<WriteReport> {
  checkTransfer(policy, options);
  const region = MemoryRegion.of(source);
  const { offset = 0, immediate, signal } = options;
  const bytes = options.bytes ?? region.bytes - offset;
  region.checkRange(offset, bytes, qp.capabilities);
  const handle = qp.startSend({ bytes, immediate, policy: policy.name, signal });
  handle.source = { region, offset };
  const driver = new ReliableSend(qp, handle, policy, options);
  handle.driver = driver;
  qp.act();
  return transfer(driver, handle);
}

/**
 * Posts the queue pair's next receive under a policy and resolves when all of the message is in the region, which
 * nothing changes from then on. Errors: as reliableWrite's.
 */
export function reliableReceive(
  qp: QueuePair,
  target: MemoryRegion | BufferSource,
  policy: Policy,
  options: TransferOptions = {},
): Transfer<ReceiveReport> {
  checkTransfer(policy, options);
  const region = MemoryRegion.of(target);
  const { offset = 0, signal } = options;
  const maxBytes = options.bytes ?? region.bytes - offset;
  const parityChunks = parityChunksOf(policy, Math.ceil(maxBytes / qp.attributes.chunkBytes));
  const handle = qp.postReceive({
    region,
    offset,
    maxBytes,
    parityChunks,
    policy: policy.name,
    signal,
  });
  const driver = new ReliableReceive(qp, handle, policy, options);
  handle.driver = driver;
  return transfer(driver, handle);
}

function checkTransfer(policy: Policy, { timeoutNs }: TransferOptions): void {
  check(
    typeof policy?.name === "string" &&
      typeof policy.createSender === "function" &&
      typeof policy.createReceiver === "function",
    `${typeof policy === "object" ? "an object" : String(policy)} is not a policy`,
    'pass one of your own, or parsePolicy("sr-nack")',
  );
  check(
    timeoutNs === undefined || (typeof timeoutNs === "number" && timeoutNs > 0),
    `timeoutNs ${timeoutNs} is not valid`,
    "use nanoseconds above 0, or leave it out",
  );
}

function parityChunksOf(policy: Policy, chunkCount: number): number {
  const chunks = policy.parityChunks?.(chunkCount) ?? 0;
  check(
    Number.isSafeInteger(chunks) && chunks >= 0,
    `policy ${policy.name} brings ${chunks} parity chunks for ${chunkCount}`,
    "its parityChunks() gives a whole number, 0 or more",
  );
  return chunks;
}

interface Watched<Report> {
  readonly result: Deferred<Report>;
  readonly news: News;
  progress(): TransferProgress;
}

function transfer<Report>(
  watched: Watched<Report>,
  handle: SendHandle | ReceiveHandle,
): Transfer<Report> {
  return Object.assign(watched.result.promise, {
    message: handle.message,
    progress: () => watched.news.watch(() => watched.progress()),
    abort: () => handle.abort(),
  });
}

function sessionParams(qp: QueuePair, bytes: number, startNs: number): SessionParams {
  const { chunkBytes, packetBytes, rtoFloorNs } = qp.attributes;
  return {
    messageBytes: bytes,
    chunkBytes,
    chunkCount: Math.ceil(bytes / chunkBytes),
    packetBytes,
    windowChunks: qp.windowChunks(),
    frameBytesMax: packetBytes,
    rtoFloorNs,
    path: qp.path,
    startNs,
  };
}

/**
 * One message under a policy. A policy is the user's code: whatever it throws or returns that makes no sense fails its
 * message, with INVALID_ARGUMENT unless it is an SdrError, and nothing else.
 */
abstract class Driven<Report, Session extends SendSession | ReceiveSession> {
  readonly result: Deferred<Report>;
  readonly news: News;
  protected readonly qp: QueuePair;
  protected readonly policy: Policy;
  protected readonly timeoutNs: number;
  protected deadlineNs: number;
  protected session: Session | undefined;
  protected startNs = 0;
  /** What nextTimeoutNs threw: it is called where a message cannot be failed, so that waits for the next timeout. */
  private broken: { readonly error: unknown } | undefined;
  private tasks = 0;

  constructor(qp: QueuePair, policy: Policy, options: TransferOptions) {
    this.qp = qp;
    this.policy = policy;
    this.timeoutNs = options.timeoutNs ?? Number.POSITIVE_INFINITY;
    this.deadlineNs = qp.nowNs() + this.timeoutNs;
    this.result = new Deferred(() => qp.userWoken());
    this.news = new News(() => qp.userWoken());
  }

  protected abstract readonly handle: SendHandle | ReceiveHandle;

  protected begin(bytes: number, nowNs: number, create: (params: SessionParams) => Session): void {
    this.startNs = nowNs;
    try {
      const session = create(sessionParams(this.qp, bytes, nowNs));
      if (typeof session !== "object" || session === null) throw this.nonsense("made no session");
      this.session = session;
    } catch (error) {
      this.fail(error);
    }
  }

  protected attempt<T>(call: (session: Session) => T): T | undefined {
    if (this.session === undefined) return undefined;
    try {
      return call(this.session);
    } catch (error) {
      this.fail(error);
      return undefined;
    }
  }

  protected fail(error: unknown): void {
    this.session = undefined;
    this.handle.abort(toSdrError(error));
  }

  protected nonsense(what: string): SdrError {
    return new SdrError("INVALID_ARGUMENT", `policy ${this.policy.name} ${what}`, "correct it");
  }

  protected gaveUp(): SdrError {
    return new SdrError(
      "UNRECOVERABLE_LOSS",
      `policy ${this.policy.name} gave message ${this.handle.message} up`,
      "use a policy that retransmits",
    );
  }

  control(frame: ControlFrame, nowNs: number): void {
    this.attempt((session) => session.handleControl(frame, nowNs));
  }

  pollControl(nowNs: number): ControlFrame | undefined {
    return this.attempt((session) => session.pollControl(nowNs));
  }

  /** Begins the coding tasks that the session asks for, as many as may be under way. */
  pollTasks(nowNs: number): void {
    if (this.session?.pollTask === undefined) return;
    while (this.tasks < TASKS_MAX) {
      const task = this.attempt((session) => session.pollTask?.(nowNs));
      if (task === undefined) return;
      this.tasks++;
      this.attempt(() => this.beginTask(task));
    }
  }

  /** Calls taskDone() once, now or later. */
  protected abstract beginTask(task: CodingTask): void;

  protected taskDone(tell: (session: Session) => void): void {
    this.tasks--;
    this.attempt(tell);
  }

  timeout(nowNs: number): void {
    if (this.broken !== undefined) return this.fail(this.broken.error);
    if (nowNs >= this.deadlineNs) return this.fail(this.deadlineExceeded());
    this.attempt((session) => session.handleTimeout(nowNs));
    // Such a timer would keep virtual time where it is, for ever.
    if (this.sessionTimeoutNs() <= nowNs && this.broken === undefined)
      this.fail(this.nonsense(`has its timer at ${nowNs} ns or before, after a timeout then`));
  }

  nextTimeoutNs(): number {
    return Math.min(this.deadlineNs, this.sessionTimeoutNs());
  }

  private sessionTimeoutNs(): number {
    if (this.session === undefined) return Number.POSITIVE_INFINITY;
    try {
      const atNs = this.session.nextTimeoutNs();
      if (typeof atNs === "number" && !Number.isNaN(atNs)) return Math.max(0, atNs);
      throw this.nonsense(`has its timer at ${atNs}, not at a time or Infinity`);
    } catch (error) {
      this.broken ??= { error };
      return 0;
    }
  }

  private deadlineExceeded(): SdrError {
    return new SdrError(
      "DEADLINE_EXCEEDED",
      `message ${this.handle.message} was not delivered within ${this.timeoutNs} ns`,
      "raise timeoutNs, or look at the path's loss and rate",
    );
  }

  failed(error: SdrError): void {
    this.session = undefined;
    this.news.close();
    this.result.reject(error);
  }
}

class ReliableSend
  extends Driven<WriteReport, SendSession>
  implements SendDriver, Watched<WriteReport>
{
  protected readonly handle: SendHandle;
  private acknowledged = 0;
  private parityCount = 0;

  constructor(qp: QueuePair, handle: SendHandle, policy: Policy, options: TransferOptions) {
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
      throw this.nonsense(
        `asked for chunks ${task.first} to ${task.first + task.count - 1} encoded`,
      );
    const code = codeOf(task.code);
    const done = (status: number) => {
      this.taskDone((session) => {
        if (status !== CODEC_STATUS.ok) throw this.nonsense(`cannot encode (status ${status})`);
        session.handleTaskDone?.(task, qp.nowNs());
      });
    };
    if (parity.isPhantom) return done(CODEC_STATUS.ok);
    const { chunkBytes } = qp.attributes;
    const begin = task.first * chunkBytes;
    const bytes = Math.min(task.count * chunkBytes, handle.bytes - begin);
    const work = code.encodeBlock(
      source.region.native,
      source.offset + begin,
      bytes,
      chunkBytes,
      parity.native,
      task.parityFirst * chunkBytes,
    );
    qp.awaitWork(work, done);
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
    this.result.resolve({
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
    });
  }
}

class ReliableReceive
  extends Driven<ReceiveReport, ReceiveSession>
  implements ReceiveDriver, Watched<ReceiveReport>
{
  lingering = false;
  protected readonly handle: ReceiveHandle;
  private lingerUntilNs = Number.POSITIVE_INFINITY;

  constructor(qp: QueuePair, handle: ReceiveHandle, policy: Policy, options: TransferOptions) {
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

  /** Makes a block's missing chunks; the handle reports progress after it. */
  protected beginTask(task: CodingTask): void {
    this.handle.startRecovery(task, ({ chunks, parityUsed }) => {
      this.taskDone((session) =>
        session.handleTaskDone?.(task, this.qp.nowNs(), chunks, parityUsed),
      );
    });
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
    if (!session.complete) return;
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
