/** What the two directions of a queue pair share: its attributes, its native half, and the way to the peer. */
import { ERROR_NUMBERS, type ErrorCode, SdrError } from "../base/errors.ts";
import type { CloseFrame, ControlFrame } from "../reliability/frames.ts";
import type { RttEstimator } from "../reliability/rtt.ts";
import { type NativeQp, type Refusal, STATUS } from "../transport/native.ts";
import type { Capabilities } from "../transport/transport.ts";
import type { ResolvedAttributes } from "./attributes.ts";
import type { FrameWriter } from "./frame-writer.ts";

export interface End {
  readonly attributes: ResolvedAttributes;
  readonly capabilities: Capabilities;
  readonly native: NativeQp;
  readonly writer: FrameWriter;
  readonly path: RttEstimator;
  readonly isConnected: boolean;
  nowNs(): number;
  /** What a native call's status means, with the transport's own reason where it has one. */
  refused(status: number, what: string): SdrError;
  /** Something was given to user code: virtual time waits for it. */
  userWoken(): void;
  /** Sends what is due and re-arms timers, after a call from user code. */
  act(): void;
  /**
   * Has other threads do the work that `begin` gives them, calls `then` with its result or `fail` with what it threw,
   * and acts. Once the queue pair is closed it calls `fail`, with CLOSED.
   */
  awaitWork<T>(
    begin: () => Promise<T>,
    then: (result: T) => void,
    fail: (error: unknown) => void,
  ): void;
  /** Waiting for the peer begins: its silence counts from now. */
  beginWaiting(): void;
}

/** Something with control frames to send: the drivers of both kinds of handle. */
interface Talker {
  readonly message: number;
  abort(reason: SdrError): void;
  readonly driver: { pollControl(nowNs: number): ControlFrame | undefined } | undefined;
}

/** More frames at once than any message needs; the rest waits for the next event. */
const FRAMES_PER_FLUSH_MAX = 1024;

/** A frame that cannot be encoded is a policy's: it fails the message. */
export function pollFrames(writer: FrameWriter, handle: Talker, nowNs: number): void {
  const { driver, message } = handle;
  if (driver === undefined) return;
  for (let polls = 0; polls < FRAMES_PER_FLUSH_MAX; polls++) {
    const frame = driver.pollControl(nowNs);
    if (frame === undefined) return;
    try {
      writer.write(frame, message);
    } catch (error) {
      handle.abort(toSdrError(error));
      return;
    }
  }
}

export function closeFrame(
  message: number,
  scope: CloseFrame["scope"],
  error: SdrError | undefined,
): CloseFrame {
  return { kind: "close", message, scope, reason: error?.number ?? 0 };
}

/** The error of a message that the peer gave up. */
export function peerGaveUp(frame: CloseFrame): SdrError {
  const known = Object.entries(ERROR_NUMBERS).find(([, number]) => number === frame.reason);
  const code = (known?.[0] ?? "ABORTED") as ErrorCode;
  return new SdrError(
    code,
    `the peer gave up message ${frame.message} (${code})`,
    "see the peer's own error",
  );
}

/** A refused native call as an error; `own` is the transport's reason for the last lack of memory. */
export function statusError(status: number, what: string, own?: Refusal): SdrError {
  if (status === STATUS.noMemory)
    return new SdrError(
      own?.code ?? "ENVIRONMENT",
      `${what}: ${own?.message ?? "there is no memory for it"}`,
      own?.remedy ?? "end other programs, or send and receive less at once",
      { cause: own },
    );
  if (status === STATUS.busy)
    return new SdrError("BUSY", `${what}: no slot is free`, "complete an earlier one first");
  if (status === STATUS.tooLarge)
    return new SdrError(
      "TOO_LARGE",
      `${what} does not fit the immediate split`,
      "use a split with more packet bits",
    );
  return new SdrError(
    "INVALID_ARGUMENT",
    `${what} was refused (status ${status})`,
    "check its region, offset and length",
  );
}

/** What a policy's or a driver's code threw, as the error of its message. */
export function toSdrError(cause: unknown): SdrError {
  if (cause instanceof SdrError) return cause;
  const what = cause instanceof Error ? cause.message : String(cause);
  return new SdrError("INVALID_ARGUMENT", what, "see the cause", { cause });
}

/** A map that forgets its oldest entry beyond `most`. */
export function remember<T>(map: Map<number, T>, key: number, value: T, most: number): void {
  map.set(key, value);
  if (map.size > most) map.delete(map.keys().next().value as number);
}
