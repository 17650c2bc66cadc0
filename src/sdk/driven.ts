/**
 * One message driven by a policy's session: what sending and receiving have in common. A policy is the user's code:
 * nothing it does goes beyond its message.
 */
import { check, SdrError } from "../base/errors.ts";
import type { ControlFrame } from "../reliability/frames.ts";
import type {
  CodingTask,
  Policy,
  ReceiveSession,
  SendSession,
  SessionParams,
} from "../reliability/policy.ts";
import { TASKS_MAX } from "./coding.ts";
import { toSdrError } from "./end.ts";
import type { QueuePair } from "./queue-pair.ts";
import type { ReceiveHandle } from "./receive-handle.ts";
import type { SendHandle } from "./send-handle.ts";
import { Deferred, News } from "./settle.ts";

/** Chunks known delivered (sender) or in place (receiver). */
export interface TransferProgress {
  readonly chunksDone: number;
  readonly chunkCount: number;
}

/** What a policy wants to send besides; INVALID_ARGUMENT when that makes no sense, or what it threw. */
export function parityChunksOf(policy: Policy, chunkCount: number): number {
  let chunks: number;
  try {
    chunks = policy.parityChunks?.(chunkCount) ?? 0;
  } catch (error) {
    throw toSdrError(error);
  }
  check(
    Number.isSafeInteger(chunks) && chunks >= 0,
    `policy ${policy.name} brings ${chunks} parity chunks for ${chunkCount}`,
    "its parityChunks() gives a whole number, 0 or more",
  );
  return chunks;
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

/** Blocks have at least one chunk each; the rest is for blocks worked on again. Each parity chunk is made once. */
const TASKS_PER_CHUNK_MAX = 4;

export interface DrivenOptions {
  /** The message fails with DEADLINE_EXCEEDED when it has not completed so long after the call. */
  readonly timeoutNs?: number;
}

/**
 * One message under a policy. A policy is the user's code: whatever it throws or returns that makes no sense fails its
 * message, with INVALID_ARGUMENT unless it is an SdrError, and nothing else.
 */
export abstract class Driven<Report, Session extends SendSession | ReceiveSession> {
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
  private tasksBegun = 0;
  private tasksMost = 0;
  /** What waits for the last task's end. */
  private idle: (() => void) | undefined;

  constructor(qp: QueuePair, policy: Policy, options: DrivenOptions) {
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
      const params = sessionParams(this.qp, bytes, nowNs);
      const parity = this.policy.parityChunks?.(params.chunkCount) ?? 0;
      this.tasksMost = TASKS_PER_CHUNK_MAX * params.chunkCount + parity;
      const session = create(params);
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
      const task = this.attempt((session) => session.pollTask?.(nowNs)) ?? undefined;
      if (task === undefined) return;
      this.tasks++;
      this.attempt(() => {
        if (++this.tasksBegun > this.tasksMost) throw this.nonsense("asks for tasks without end");
        this.beginTask(task);
      });
    }
  }

  /** Calls taskDone() once, now or later. */
  protected abstract beginTask(task: CodingTask): void;

  protected get hasTasks(): boolean {
    return this.tasks > 0;
  }

  protected taskDone(tell: (session: Session) => void): void {
    this.tasks--;
    this.attempt(tell);
    if (this.tasks > 0) return;
    this.idle?.();
    this.idle = undefined;
  }

  /** Once no thread is at work on the message's bytes. */
  protected whenIdle(call: () => void): void {
    if (this.tasks === 0) call();
    else this.idle = call;
  }

  protected taskFailed(error: unknown): void {
    this.taskDone(() => {
      throw error;
    });
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
