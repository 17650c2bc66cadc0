/**
 * What the two ends of sdr perf tell each other. Each run has a queue pair for control, which is connected first, and
 * one or more for data; the client's metadata says which is which. Over the control queue pair, reliably:
 *
 *   client                                server
 *   {go}                             ->                       its receives are posted, if it receives
 *                                    <-   {ready}             so are the server's
 *   {sent, report}                   ->                       each sending end, when it has sent all
 *                                    <-   {result, report}    each receiving end, when no more comes
 *
 * Everything read here comes from a peer and is checked.
 */
import { ERROR_TEXT_MAX, SdrError } from "../../base/errors.ts";
import { parsePolicy } from "../../reliability/registry.ts";
import { checkPeerKind, type Device, type DeviceKind } from "../device.ts";
import { checkShape, PERF_LIMITS, type RunShape } from "./shape.ts";

const VERSION = 1;
export const NOTE_BYTES_MAX = 32 * 1024;
export const CONTROL_MESSAGES = 8;
export const CONTROL_POLICY = parsePolicy("sr-nack");

export type NoteKind = "go" | "ready" | "sent" | "result";

/** Of the packets that an end sent. */
export interface SendDrops {
  /** Refused by the operating system. */
  readonly sendErrors: number;
  /** By the injected link: its loss, its queue's limit, bits that it flipped. */
  readonly linkDropped: number;
  readonly linkQueueDropped: number;
  readonly linkCorrupted: number;
}

/** Packets that arrived and were not taken, by reason. */
export interface ReceiveDrops {
  readonly late: number;
  readonly duplicates: number;
  readonly badQueue: number;
  readonly badSlot: number;
  readonly badPacket: number;
  readonly badLength: number;
  readonly badChecksum: number;
  readonly truncated: number;
  readonly replayed: number;
  readonly malformed: number;
}

export interface SendReport {
  /** Messages sent, a queue pair. */
  readonly counts: readonly number[];
  readonly bytes: number;
  /** From the first post to the last completion: injected, or with a policy acknowledged. */
  readonly durationNs: number;
  /** Of the fastest tenth of the run. */
  readonly peakBps: number;
  /** Share of the time that each worker thread was running; empty: not known. */
  readonly workers: readonly number[];
  readonly drops: SendDrops;
}

export interface ReceiveReport {
  readonly messages: number;
  /** Messages that lacked chunks when the wait was over, and those chunks. */
  readonly incomplete: number;
  readonly missingChunks: number;
  /** Of complete messages. */
  readonly bytes: number;
  /** From the first message's beginning to the last one's end. */
  readonly durationNs: number;
  readonly packets: number;
  /** Messages compared byte for byte, and those that differed. */
  readonly verified: number;
  readonly corrupt: number;
  readonly workers: readonly number[];
  readonly drops: ReceiveDrops;
}

// ---- metadata ----

export type Offer =
  | {
      readonly kind: "control";
      /** Of this run, and of the client whose run it is: random. */
      readonly session: string;
      readonly client: string;
      readonly device: DeviceKind;
      readonly shape: RunShape;
      readonly last: boolean;
    }
  | { readonly kind: "data"; readonly session: string; readonly index: number };

export function encodeOffer(offer: Offer): object {
  return { perf: VERSION, ...offer };
}

function bad(what: string): SdrError {
  return new SdrError("PEER_INCOMPATIBLE", what, "use sdr perf of the same version on both ends");
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

function whole(fields: Fields, name: string, least: number, most: number): number {
  const value = fields[name];
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most)
    return value as number;
  throw bad(`the peer's ${name} is not valid`);
}

function token(value: unknown): string {
  if (typeof value === "string" && /^[0-9a-f]{32}$/.test(value)) return value;
  throw bad("the client's session is not valid");
}

/** Errors: PEER_INCOMPATIBLE, among them another kind of device; INVALID_ARGUMENT for an unknown policy. */
export function decodeOffer(meta: unknown, own: Device): Offer {
  const fields = fieldsOf(meta);
  if (fields.perf === undefined) throw bad("the client is no sdr perf");
  if (fields.perf !== VERSION)
    throw bad(
      `the client is sdr perf of version ${JSON.stringify(fields.perf)}, this is ${VERSION}`,
    );
  const session = token(fields.session);
  if (fields.kind === "data")
    return { kind: "data", session, index: whole(fields, "index", 0, PERF_LIMITS.queuePairsMax) };
  if (fields.kind !== "control") throw bad("what the client wants is not valid");
  checkPeerKind(fields.device, own);
  const shape = decodeShape(fieldsOf(fields.shape));
  const { client, last } = fields;
  return {
    kind: "control",
    session,
    client: token(client),
    device: own.kind,
    shape,
    last: last === true,
  };
}

function decodeShape(fields: Fields): RunShape {
  const { iterationsMax, durationNsMax, bytesMax, queuePairsMax, depthMax } = PERF_LIMITS;
  const optional = (name: string, most: number) =>
    fields[name] === undefined ? undefined : whole(fields, name, 1, most);
  const { policy, both } = fields;
  if (typeof policy !== "string" || policy.length > ERROR_TEXT_MAX)
    throw bad("the client's policy is not valid");
  const shape: RunShape = {
    bytes: whole(fields, "bytes", 1, bytesMax),
    iterations: optional("iterations", iterationsMax),
    durationNs: optional("durationNs", durationNsMax),
    queuePairs: whole(fields, "queuePairs", 1, queuePairsMax),
    depth: whole(fields, "depth", 1, depthMax),
    channels: whole(fields, "channels", 1, PERF_LIMITS.channelsMax),
    packetBytes: optional("packetBytes", 65_535),
    chunkBytes: optional("chunkBytes", 2 ** 30),
    policy,
    both: both === true,
    verifyEvery: whole(fields, "verifyEvery", 0, iterationsMax),
  };
  checkShape(shape);
  return shape;
}

/** What a server tells its clients. */
export function encodeServer(device: Device): object {
  return { perf: VERSION, device: device.kind };
}

/** Errors: PEER_INCOMPATIBLE. */
export function checkServer(meta: unknown): void {
  if (fieldsOf(meta).perf !== VERSION) throw bad("the server is no sdr perf of this version");
}

// ---- notes ----

const KINDS: readonly unknown[] = ["go", "ready", "sent", "result"] satisfies NoteKind[];

export function encodeNote(kind: NoteKind, report: object = {}): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ kind, report }));
}

/** Errors: PEER_INCOMPATIBLE. */
export function decodeNote(bytes: Uint8Array): { kind: NoteKind; report: unknown } {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    const { kind, report } = fieldsOf(JSON.parse(text));
    if (KINDS.includes(kind)) return { kind: kind as NoteKind, report };
  } catch {
    // Not JSON: as one of an unknown kind.
  }
  throw bad("the peer's note is not understood");
}

const COUNT_MAX = Number.MAX_SAFE_INTEGER;

function counts<Name extends string>(value: unknown, names: readonly Name[]): Record<Name, number> {
  const fields = fieldsOf(value);
  const read = names.map((name) => [name, whole(fields, name, 0, COUNT_MAX)]);
  return Object.fromEntries(read) as Record<Name, number>;
}

function numbers(value: unknown, most: number): number[] {
  const valid = (one: unknown) =>
    typeof one === "number" && Number.isFinite(one) && one >= 0 && one <= COUNT_MAX;
  if (Array.isArray(value) && value.length <= most && value.every(valid)) return value as number[];
  throw bad("the peer's report has no valid numbers");
}

export const SEND_DROPS = [
  "sendErrors",
  "linkDropped",
  "linkQueueDropped",
  "linkCorrupted",
] as const;
export const RECEIVE_DROPS = [
  ...(["late", "duplicates", "badQueue", "badSlot", "badPacket", "badLength"] as const),
  ...(["badChecksum", "truncated", "replayed", "malformed"] as const),
];

/** Errors: PEER_INCOMPATIBLE. */
export function decodeSent(value: unknown, queuePairs: number): SendReport {
  const fields = fieldsOf(value);
  const sent = numbers(fields.counts, queuePairs);
  if (sent.length !== queuePairs || !sent.every(Number.isInteger))
    throw bad(`the peer's report is not of ${queuePairs} queue pairs`);
  const [peakBps] = numbers([fields.peakBps], 1) as [number];
  return {
    counts: sent,
    ...counts(value, ["bytes", "durationNs"]),
    peakBps,
    workers: numbers(fields.workers, PERF_LIMITS.channelsMax),
    drops: counts(fields.drops, SEND_DROPS),
  };
}

/** Errors: PEER_INCOMPATIBLE. */
export function decodeResult(value: unknown): ReceiveReport {
  const fields = fieldsOf(value);
  const names = ["messages", "incomplete", "missingChunks", "bytes", "durationNs"] as const;
  return {
    ...counts(value, [...names, "packets", "verified", "corrupt"]),
    workers: numbers(fields.workers, PERF_LIMITS.channelsMax),
    drops: counts(fields.drops, RECEIVE_DROPS),
  };
}
