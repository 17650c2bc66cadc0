/**
 * Length-prefixed JSON messages over a TCP socket: what the rendezvous speaks. Bytes from outside are checked here:
 * length, UTF-8, JSON, and that the message is an object. Nothing is kept beyond one message's worth of bytes.
 */
import type { Socket } from "node:net";
import { SdrError } from "../base/errors.ts";

/** Largest message: an info blob in base64, 16 KiB of metadata escaped by JSON, and the rest. */
const RENDEZVOUS_MESSAGE_BYTES_MAX = 128 * 1024;
const LENGTH_BYTES = 4;

export type JsonObject = Readonly<Record<string, unknown>>;

export class MessageChannel {
  private readonly socket: Socket;
  private readonly signal: AbortSignal;
  private received = Buffer.alloc(0);
  private ended = false;
  private failure: SdrError | undefined;
  private wake: (() => void) | undefined;

  /** Takes over `socket`. `signal` ends every wait: its reason is thrown when that is an SdrError. */
  constructor(socket: Socket, signal: AbortSignal) {
    this.socket = socket;
    this.signal = signal;
    socket.on("data", (bytes: Buffer) => {
      this.received = Buffer.concat([this.received, bytes]);
      // One message beyond the one awaited may be under way, not more.
      if (this.received.length > 2 * (LENGTH_BYTES + RENDEZVOUS_MESSAGE_BYTES_MAX)) socket.pause();
      this.notify();
    });
    socket.on("end", () => this.finish(undefined));
    socket.on("close", () => this.finish(undefined));
    socket.on("error", (cause) =>
      this.finish(
        new SdrError("PEER_CLOSED", `the rendezvous broke off: ${cause.message}`, "try again", {
          cause,
        }),
      ),
    );
    signal.addEventListener("abort", () => this.notify(), { once: true });
  }

  private finish(failure: SdrError | undefined): void {
    this.ended = true;
    this.failure ??= failure;
    this.notify();
  }

  private notify(): void {
    this.wake?.();
    this.wake = undefined;
  }

  send(message: JsonObject): void {
    const body = Buffer.from(JSON.stringify(message), "utf8");
    if (body.length > RENDEZVOUS_MESSAGE_BYTES_MAX) {
      throw new SdrError(
        "TOO_LARGE",
        `a rendezvous message has ${body.length} B, more than ${RENDEZVOUS_MESSAGE_BYTES_MAX}`,
        "send less metadata",
      );
    }
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeUInt32BE(body.length);
    if (!this.socket.destroyed) this.socket.write(Buffer.concat([length, body]));
  }

  /** The next message. Errors: PEER_INCOMPATIBLE (not of this protocol), PEER_CLOSED, or the signal's reason. */
  async receive(): Promise<JsonObject> {
    for (;;) {
      const message = this.take();
      if (message !== undefined) return message;
      if (this.signal.aborted) throw abortError(this.signal);
      if (this.failure !== undefined) throw this.failure;
      if (this.ended) {
        throw new SdrError(
          "PEER_CLOSED",
          "the peer closed the connection during the rendezvous",
          "see the peer's own error",
        );
      }
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  private take(): JsonObject | undefined {
    if (this.received.length < LENGTH_BYTES) return undefined;
    const length = this.received.readUInt32BE(0);
    if (length > RENDEZVOUS_MESSAGE_BYTES_MAX) {
      throw notThisProtocol(
        `announces a message of ${length} B, more than ${RENDEZVOUS_MESSAGE_BYTES_MAX}`,
      );
    }
    const end = LENGTH_BYTES + length;
    if (this.received.length < end) return undefined;
    const body = this.received.subarray(LENGTH_BYTES, end);
    this.received = Buffer.from(this.received.subarray(end));
    this.socket.resume();
    return parseObject(body);
  }

  /** Sends what was written, then closes. */
  end(): void {
    this.socket.end();
  }

  destroy(): void {
    this.socket.destroy();
  }
}

/** A JSON object from bytes of outside. */
function parseObject(bytes: Uint8Array): JsonObject {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as JsonObject;
  } catch (cause) {
    throw notThisProtocol("sends what is not JSON", cause);
  }
  throw notThisProtocol("sends what is not a JSON object");
}

export function parseBody(text: string): JsonObject {
  return parseObject(new TextEncoder().encode(text));
}

export function notThisProtocol(what: string, cause?: unknown): SdrError {
  return new SdrError(
    "PEER_INCOMPATIBLE",
    `the peer of the rendezvous ${what}`,
    "connect sdr-rdma of the same version",
    { cause },
  );
}

export function abortError(signal: AbortSignal): SdrError {
  const { reason } = signal;
  if (reason instanceof SdrError) return reason;
  if (reason instanceof Error && reason.name === "TimeoutError") {
    return new SdrError(
      "DEADLINE_EXCEEDED",
      "the rendezvous was not answered in time",
      "see whether the peer runs and the path lets TCP through",
    );
  }
  return new SdrError("ABORTED", "the rendezvous was aborted", "", { cause: reason });
}
