/**
 * How a file crosses a queue pair. The client's metadata offers {name, bytes, segment size, policy}. Each segment is
 * one message; then one more message, the trailer, holds the SHA-256; several are in flight. The user immediate says
 * what a message is, so that a sender whose file fails can put a trailer where a segment was expected. The receiver
 * answers with one message in the other direction, the verdict, once the file is on its disk under its name, or as
 * soon as it has failed. Everything read here comes from a peer and is checked.
 */
import { createHash, type Hash } from "node:crypto";
import { type PeerFailure, readFailure, SdrError } from "../../base/errors.ts";
import type { Policy } from "../../reliability/policy.ts";
import { parsePolicy } from "../../reliability/registry.ts";
import type { QueuePair, QueuePairCounters } from "../../sdk/queue-pair.ts";
import { checkName } from "./file-sink.ts";

export const FILE_LIMITS = {
  segmentBytesMin: 64 * 1024,
  segmentBytesMax: 256 * 2 ** 20,
  segmentBytes: 64 * 2 ** 20,
  /** Beside a segment. */
  parityBytesMax: 512 * 2 ** 20,
  /** Messages in flight, and what their buffers may hold together on each end. */
  segmentsInFlight: 4,
  bufferBytes: 512 * 2 ** 20,
  fileBytesMax: 2 ** 50,
  /** A trailer or a verdict. */
  noteBytesMax: 16 * 1024,
  channelsMax: 16,
  messages: 16,
} as const;

const VERSION = 1;
/** Hashed at a time before other work has its turn: a millisecond or so. */
const HASH_SLICE_BYTES = 512 * 1024;

/** The user immediate of a message from sender to receiver. */
export const MESSAGE = { segment: 0x53, trailer: 0x54 } as const;

export interface Offer {
  readonly name: string;
  readonly bytes: number;
  readonly segmentBytes: number;
  readonly policy: Policy;
}

/** Both of a message's ends agree on it: a file of no bytes is one segment of none. */
export function segmentCount({
  bytes,
  segmentBytes,
}: Pick<Offer, "bytes" | "segmentBytes">): number {
  return Math.max(1, Math.ceil(bytes / segmentBytes));
}

/** Segments whose buffers both fit the memory set aside. */
export function inFlight(segmentBytes: number): number {
  const { bufferBytes, segmentsInFlight } = FILE_LIMITS;
  return Math.max(2, Math.min(segmentsInFlight, Math.floor(bufferBytes / segmentBytes)));
}

/** A buffer that takes any message of the transfer. */
export function messageBytes({
  bytes,
  segmentBytes,
}: Pick<Offer, "bytes" | "segmentBytes">): number {
  return Math.max(FILE_LIMITS.noteBytesMax, Math.min(bytes, segmentBytes));
}

export function encodeOffer({ name, bytes, segmentBytes, policy }: Offer): object {
  return { file: VERSION, name, bytes, segmentBytes, policy: policy.name };
}

function within(value: unknown, least: number, most: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;
}

/** Errors: PEER_INCOMPATIBLE; FILE for a name that cannot be used; INVALID_ARGUMENT for an unknown policy. */
export function decodeOffer(meta: unknown): Offer {
  const { file, name, bytes, segmentBytes, policy } = (meta ?? {}) as Record<string, unknown>;
  if (file !== VERSION) {
    throw new SdrError(
      "PEER_INCOMPATIBLE",
      "the client does not offer a file",
      "use sdr send of this version",
    );
  }
  const { segmentBytesMin, segmentBytesMax, fileBytesMax } = FILE_LIMITS;
  const valid =
    within(bytes, 0, fileBytesMax) &&
    within(segmentBytes, segmentBytesMin, segmentBytesMax) &&
    typeof policy === "string";
  if (!valid) {
    throw new SdrError(
      "PEER_INCOMPATIBLE",
      "the offer of a file is not valid",
      "use sdr send of this version",
    );
  }
  return { name: checkName(name), bytes, segmentBytes, policy: parsePolicy(policy) };
}

/** Counts of one end's outgoing direction. */
export interface EndCounters {
  readonly wireBytes: number;
  readonly packets: number;
  readonly controlFrames: number;
  readonly dropped: number;
  readonly duplicated: number;
  readonly reordered: number;
  readonly corrupted: number;
}

export function endCounters(qp: QueuePair): EndCounters {
  const counters: QueuePairCounters = qp.counters();
  const { link } = counters;
  return {
    wireBytes: counters.wireBytesSent,
    packets: counters.packetsSent,
    controlFrames: counters.framesSent,
    dropped: link.dropped + link.queueDropped,
    duplicated: link.duplicated,
    reordered: link.reordered,
    corrupted: link.corrupted,
  };
}

/** What the peer says went wrong there. */
export function peerError(what: string, { code, text }: PeerFailure): SdrError {
  return new SdrError(code, `${what}: ${text}`, "");
}

export interface Trailer {
  readonly sha256?: string;
  readonly error?: PeerFailure;
}

export interface Verdict {
  readonly sha256?: string;
  readonly error?: PeerFailure;
  readonly counters?: EndCounters;
}

export function encodeNote(note: Trailer | Verdict): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(note));
}

function readCounters(value: unknown): EndCounters | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const names = [
    "wireBytes",
    "packets",
    "controlFrames",
    "dropped",
    "duplicated",
    "reordered",
    "corrupted",
  ] as const;
  const fields = value as Record<string, unknown>;
  const read = names.map((name) => [
    name,
    within(fields[name], 0, Number.MAX_SAFE_INTEGER) ? fields[name] : 0,
  ]);
  return Object.fromEntries(read) as unknown as EndCounters;
}

/** A trailer or a verdict. Errors: PEER_INCOMPATIBLE. */
export function decodeNote(bytes: Uint8Array): Verdict {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) ?? {};
  } catch (cause) {
    throw new SdrError(
      "PEER_INCOMPATIBLE",
      "the peer's note is not JSON",
      "use the same version on both ends",
      { cause },
    );
  }
  const { sha256 } = fields;
  const told = fields.error;
  const error =
    typeof told === "object" && told !== null ? readFailure(told, "ABORTED") : undefined;
  const counters = readCounters(fields.counters);
  return {
    ...(typeof sha256 === "string" && /^[0-9a-f]{64}$/.test(sha256) ? { sha256 } : {}),
    ...(error === undefined ? {} : { error }),
    ...(counters === undefined ? {} : { counters }),
  };
}

/** SHA-256 of a stream of large pieces, letting other work (ACKs, timers) in between. */
export class StreamHash {
  private readonly hash: Hash = createHash("sha256");

  async update(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    for (let at = 0; at < bytes.length; at += HASH_SLICE_BYTES) {
      this.hash.update(bytes.subarray(at, at + HASH_SLICE_BYTES));
      await new Promise((resolve) => setImmediate(resolve));
      signal.throwIfAborted();
    }
  }

  digest(): string {
    return this.hash.digest("hex");
  }
}
