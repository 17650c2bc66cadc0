/** Control frames to bytes and back; the layout is described in frames.ts. Decoding trusts nothing. */
import { assert, check } from "../base/errors.ts";
import type {
  AckFrame,
  CloseFrame,
  ControlFrame,
  CtsFrame,
  NackFrame,
  PingFrame,
  StartFrame,
} from "./frames.ts";
import {
  ACK_FIXED_BYTES,
  FRAME_BYTES_MAX,
  FRAME_HEADER_BYTES,
  FRAME_KINDS,
  FRAME_VERSION,
  GRANT_BYTES_MAX,
  PING_FIXED_BYTES,
  POLICY_KIND_MIN,
  POLICY_NAME_BYTES_MAX,
} from "./frames.ts";

export interface DecodedFrame {
  readonly frame: ControlFrame;
  readonly sequence: number;
}

/** The frames before the first fault, and what the fault was; iterable for the common case. */
export interface DecodedFrames extends Iterable<DecodedFrame> {
  readonly frames: readonly DecodedFrame[];
  /** Why decoding stopped before the end of the bytes; undefined when all of them were frames. */
  readonly reason: string | undefined;
}

/** By the number on the wire. */
const CLOSE_SCOPES = ["connection", "send", "receive"] as const;
const CLOSE_BYTES = 16;
const CTS_NAME_AT = 20;
const START_NAME_AT = 25;
const IMMEDIATE_PRESENT = 1;
const TWO_32 = 0x1_0000_0000;

/** Bytes of a name field at `at` (its length byte) to the next multiple of 4 of the frame. */
function nameEnd(at: number, nameBytes: number): number {
  return (at + 1 + nameBytes + 3) & ~3;
}

/** Bytes that `encodeFrame` will write for `frame`. */
export function frameBytes(frame: ControlFrame): number {
  switch (frame.kind) {
    case "cts":
      return nameEnd(CTS_NAME_AT, frame.policy.length) + (frame.grant?.length ?? 0);
    case "start":
      return nameEnd(START_NAME_AT, frame.policy.length);
    case "ack":
      return ACK_FIXED_BYTES + 4 * frame.selective.length;
    case "nack":
      return FRAME_HEADER_BYTES + 8 * frame.ranges.length;
    case "done":
      return FRAME_HEADER_BYTES;
    case "ping":
    case "pong":
      return PING_FIXED_BYTES + frame.padding;
    case "close":
      return CLOSE_BYTES;
    case "policy":
      return FRAME_HEADER_BYTES + frame.payload.length;
  }
}

/**
 * Writes one frame.
 *
 * @param sequence Sequence number of the sending queue pair; taken modulo 2^32.
 * @param out Where to write; the caller's, not kept.
 * @param offset Byte offset in `out`.
 * @param message Overrides `frame.message`: sessions do not know their message's number.
 * @returns Bytes written, `frameBytes(frame)`.
 * @throws SdrError INVALID_ARGUMENT for a policy name that is not printable ASCII of at most 64 bytes.
 *   Fields out of range and a frame that does not fit `out` are programmer errors.
 */
export function encodeFrame(
  frame: ControlFrame,
  sequence: number,
  out: DataView | Uint8Array,
  offset = 0,
  message = "message" in frame ? frame.message : 0,
): number {
  const view =
    out instanceof DataView ? out : new DataView(out.buffer, out.byteOffset, out.byteLength);
  const length = frameBytes(frame);
  assert(length <= FRAME_BYTES_MAX, `a frame has at most ${FRAME_BYTES_MAX} bytes: ${length}`);
  assert(offset >= 0 && offset + length <= view.byteLength, "the frame fits the buffer");
  const kind = frame.kind === "policy" ? frame.type : FRAME_KINDS[frame.kind];
  assert(isU8(kind) && (frame.kind !== "policy" || kind >= POLICY_KIND_MIN), "frame kind in range");
  view.setUint8(offset, FRAME_VERSION);
  view.setUint8(offset + 1, kind);
  view.setUint16(offset + 2, length);
  view.setUint32(offset + 4, sequence);
  view.setUint32(offset + 8, hasMessage(frame) ? message : 0);
  encodeBody(frame, view, offset);
  return length;
}

function hasMessage(frame: ControlFrame): boolean {
  if (frame.kind === "close") return frame.scope !== "connection";
  return frame.kind !== "ping" && frame.kind !== "pong";
}

function isU8(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xff;
}

function encodeBody(frame: ControlFrame, view: DataView, at: number): void {
  switch (frame.kind) {
    case "cts":
      setUint53(view, at + 12, frame.maxBytes);
      setName(view, at, CTS_NAME_AT, frame.policy);
      setGrant(view, at + nameEnd(CTS_NAME_AT, frame.policy.length), frame.grant);
      return;
    case "start":
      setUint53(view, at + 12, frame.bytes);
      view.setUint32(at + 20, frame.immediate ?? 0);
      view.setUint8(at + 24, frame.immediate === undefined ? 0 : IMMEDIATE_PRESENT);
      setName(view, at, START_NAME_AT, frame.policy);
      return;
    case "ack":
      view.setUint32(at + 12, frame.cumulative);
      view.setUint32(at + 16, frame.latestChunk);
      view.setUint32(at + 20, frame.selectiveBase);
      setUint53(view, at + 24, frame.delayNs);
      for (let i = 0, to = at + ACK_FIXED_BYTES; i < frame.selective.length; i++, to += 4)
        view.setUint32(to, frame.selective[i] as number);
      return;
    case "nack":
      assert(frame.ranges.length > 0, "a NACK names at least one range");
      for (let i = 0, to = at + FRAME_HEADER_BYTES; i < frame.ranges.length; i++, to += 8) {
        const range = frame.ranges[i] as { first: number; count: number };
        view.setUint32(to, range.first);
        view.setUint32(to + 4, range.count);
      }
      return;
    case "done":
      return;
    case "ping":
    case "pong":
      setUint53(view, at + 12, frame.timeNs);
      fillZero(view, at + PING_FIXED_BYTES, frame.padding);
      return;
    case "close":
      view.setUint8(at + 12, CLOSE_SCOPES.indexOf(frame.scope));
      view.setUint8(at + 13, 0);
      view.setUint16(at + 14, frame.reason);
      return;
    case "policy":
      bytesOf(view, at + FRAME_HEADER_BYTES, frame.payload.length).set(frame.payload);
  }
}

function bytesOf(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length);
}

function fillZero(view: DataView, at: number, length: number): void {
  bytesOf(view, at, length).fill(0);
}

function setUint53(view: DataView, at: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, `a 53-bit unsigned integer: ${value}`);
  view.setUint32(at, Math.floor(value / TWO_32));
  view.setUint32(at + 4, value % TWO_32);
}

/** The value, or undefined above 2^53 - 1. */
function getUint53(view: DataView, at: number): number | undefined {
  const value = view.getUint32(at) * TWO_32 + view.getUint32(at + 4);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Errors: INVALID_ARGUMENT for a name that no frame of at most `frameBytesMax` can carry. */
export function checkPolicyName(name: string, frameBytesMax: number): void {
  const most = Math.min(POLICY_NAME_BYTES_MAX, (frameBytesMax & ~3) - START_NAME_AT - 1);
  check(
    name.length <= most && /^[\x20-\x7e]*$/.test(name),
    `policy name ${JSON.stringify(name)} cannot go into a control frame`,
    `use at most ${most} printable ASCII characters`,
  );
}

function setName(view: DataView, frameAt: number, nameAt: number, name: string): void {
  checkPolicyName(name, FRAME_BYTES_MAX);
  const at = frameAt + nameAt;
  view.setUint8(at, name.length);
  for (let i = 0; i < name.length; i++) view.setUint8(at + 1 + i, name.charCodeAt(i));
  const end = at + 1 + name.length;
  fillZero(view, end, frameAt + nameEnd(nameAt, name.length) - end);
}

function setGrant(view: DataView, at: number, grant: Uint8Array | undefined): void {
  if (grant === undefined) return;
  assert(grant.length <= GRANT_BYTES_MAX && grant.length % 4 === 0, "a grant of whole words");
  bytesOf(view, at, grant.length).set(grant);
}

/** The name whose field must end the frame exactly, or undefined. `view` is the frame, as far as it is asked for. */
function getName(view: DataView, at: number): string | undefined {
  const length = view.getUint8(at);
  if (length > POLICY_NAME_BYTES_MAX || nameEnd(at, length) !== view.byteLength) return undefined;
  let name = "";
  for (let i = 0; i < length; i++) {
    const code = view.getUint8(at + 1 + i);
    if (code < 0x20 || code > 0x7e) return undefined;
    name += String.fromCharCode(code);
  }
  return isZero(view, at + 1 + length) ? name : undefined;
}

function isZero(view: DataView, from: number): boolean {
  for (let at = from; at < view.byteLength; at++) if (view.getUint8(at) !== 0) return false;
  return true;
}

/**
 * Decodes the frames of one control datagram. Never throws: the bytes are untrusted, and decoding stops at the
 * first fault with what was valid before it. Nothing of `bytes` is referenced by the result.
 * Chunk numbers are checked for their form only; whether they lie in the message is the session's to check.
 */
export function decodeFrames(bytes: Uint8Array): DecodedFrames {
  const frames: DecodedFrame[] = [];
  let reason: string | undefined;
  for (let at = 0; at < bytes.length; ) {
    const left = bytes.length - at;
    if (left < FRAME_HEADER_BYTES) {
      reason = `truncated header: ${left} bytes`;
      break;
    }
    const header = new DataView(bytes.buffer, bytes.byteOffset + at, FRAME_HEADER_BYTES);
    const length = header.getUint16(2);
    if (header.getUint8(0) !== FRAME_VERSION) reason = `unknown version ${header.getUint8(0)}`;
    else if (length < FRAME_HEADER_BYTES || length > left) reason = `bad length ${length}`;
    if (reason !== undefined) break;
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, length);
    const frame = decodeOne(view);
    if (typeof frame === "string") {
      reason = frame;
      break;
    }
    frames.push({ frame, sequence: header.getUint32(4) });
    at += length;
  }
  return { frames, reason, [Symbol.iterator]: () => frames[Symbol.iterator]() };
}

/** The frame that fills `view`, or why it is none. */
function decodeOne(view: DataView): ControlFrame | string {
  const kind = view.getUint8(1);
  const message = view.getUint32(8);
  switch (kind) {
    case FRAME_KINDS.cts:
      return decodeCts(view, message);
    case FRAME_KINDS.start:
      return decodeStart(view, message);
    case FRAME_KINDS.ack:
      return decodeAck(view, message);
    case FRAME_KINDS.nack:
      return decodeNack(view, message);
    case FRAME_KINDS.done:
      return view.byteLength === FRAME_HEADER_BYTES ? { kind: "done", message } : "done: length";
    case FRAME_KINDS.ping:
    case FRAME_KINDS.pong:
      return decodePing(view, kind === FRAME_KINDS.ping ? "ping" : "pong", message);
    case FRAME_KINDS.close:
      return decodeClose(view, message);
  }
  if (kind < POLICY_KIND_MIN) return `unknown kind ${kind}`;
  return {
    kind: "policy",
    message,
    type: kind,
    payload: bytesOf(view, FRAME_HEADER_BYTES, view.byteLength - FRAME_HEADER_BYTES).slice(),
  };
}

function decodeCts(view: DataView, message: number): CtsFrame | string {
  if (view.byteLength < CTS_NAME_AT + 1) return "cts: length";
  const maxBytes = getUint53(view, 12);
  if (maxBytes === undefined) return "cts: byte count above 2^53 - 1";
  const grantAt = nameEnd(CTS_NAME_AT, view.getUint8(CTS_NAME_AT));
  if (grantAt > view.byteLength) return "cts: policy name";
  const policy = getName(new DataView(view.buffer, view.byteOffset, grantAt), CTS_NAME_AT);
  if (policy === undefined) return "cts: policy name";
  const length = view.byteLength - grantAt;
  if (length > GRANT_BYTES_MAX || length % 4 !== 0) return "cts: grant";
  const cts = { kind: "cts", message, maxBytes, policy } as const;
  return length === 0 ? cts : { ...cts, grant: bytesOf(view, grantAt, length).slice() };
}

function decodeStart(view: DataView, message: number): StartFrame | string {
  if (view.byteLength < START_NAME_AT + 1) return "start: length";
  const bytes = getUint53(view, 12);
  if (bytes === undefined) return "start: byte count above 2^53 - 1";
  const value = view.getUint32(20);
  const flags = view.getUint8(24);
  if (flags > IMMEDIATE_PRESENT) return "start: unknown flags";
  if (flags === 0 && value !== 0) return "start: immediate without its flag";
  const policy = getName(view, START_NAME_AT);
  if (policy === undefined) return "start: policy name";
  return { kind: "start", message, bytes, immediate: flags === 0 ? undefined : value, policy };
}

function decodeAck(view: DataView, message: number): AckFrame | string {
  const selectiveBytes = view.byteLength - ACK_FIXED_BYTES;
  if (selectiveBytes < 0 || selectiveBytes % 4 !== 0) return "ack: length";
  const delayNs = getUint53(view, 24);
  if (delayNs === undefined) return "ack: delay above 2^53 - 1";
  const selectiveBase = view.getUint32(20);
  if (selectiveBase + 8 * selectiveBytes > TWO_32) return "ack: selective range above 2^32";
  const selective = new Uint32Array(selectiveBytes >>> 2);
  for (let i = 0; i < selective.length; i++) selective[i] = view.getUint32(ACK_FIXED_BYTES + 4 * i);
  return {
    kind: "ack",
    message,
    cumulative: view.getUint32(12),
    latestChunk: view.getUint32(16),
    delayNs,
    selectiveBase,
    selective,
  };
}

function decodeNack(view: DataView, message: number): NackFrame | string {
  const bytes = view.byteLength - FRAME_HEADER_BYTES;
  if (bytes === 0 || bytes % 8 !== 0) return "nack: length";
  const ranges: { first: number; count: number }[] = [];
  let end = 0;
  for (let at = FRAME_HEADER_BYTES; at < view.byteLength; at += 8) {
    const first = view.getUint32(at);
    const count = view.getUint32(at + 4);
    if (count === 0 || first + count > TWO_32) return "nack: empty or overlong range";
    if (first < end) return "nack: ranges overlap or descend";
    end = first + count;
    ranges.push({ first, count });
  }
  return { kind: "nack", message, ranges };
}

function decodePing(view: DataView, kind: "ping" | "pong", message: number): PingFrame | string {
  if (view.byteLength < PING_FIXED_BYTES) return `${kind}: length`;
  if (message !== 0) return `${kind}: message number`;
  const timeNs = getUint53(view, 12);
  if (timeNs === undefined) return `${kind}: time above 2^53 - 1`;
  if (!isZero(view, PING_FIXED_BYTES)) return `${kind}: padding is not zero`;
  return { kind, timeNs, padding: view.byteLength - PING_FIXED_BYTES };
}

function decodeClose(view: DataView, message: number): CloseFrame | string {
  if (view.byteLength !== CLOSE_BYTES) return "close: length";
  const scope = CLOSE_SCOPES[view.getUint8(12)];
  if (scope === undefined || view.getUint8(13) !== 0) return "close: scope";
  if (scope === "connection" && message !== 0) return "close: message number";
  const reason = view.getUint16(14);
  return { kind: "close", message, scope, reason };
}
