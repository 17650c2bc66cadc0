/**
 * Control frames: their fields and byte layout. Encoding and checked decoding: codec.ts. Golden vectors:
 * test/vectors/frames.json.
 *
 * All integers big-endian. A control datagram holds one or more frames back to back. Every frame begins with
 *   0 u8  version (1)      1 u8 kind       2 u16 length in bytes of the whole frame
 *   4 u32 sequence (per sending queue pair, counts every frame; drops duplicates and replays)
 *   8 u32 message number (0 where it has no meaning)
 * followed by the kind's fields, at these offsets from the frame's start:
 *   cts    12 u64 maxBytes   20 u8 n   21 n bytes of policy name, zeros to a multiple of 4
 *          then the transport's grant to the end of the frame: 0 to 64 bytes, a multiple of 4
 *   start  12 u64 bytes   20 u32 immediate   24 u8 flags (bit 0: immediate present, else it is 0)
 *          25 u8 n   26 n bytes of policy name, zeros to a multiple of 4
 *   ack    12 u32 cumulative   16 u32 latestChunk   20 u32 selectiveBase   24 u64 delayNs
 *          32 u32 selective words to the end of the frame
 *   nack   12 {u32 first, u32 count} pairs to the end of the frame, at least one
 *   done   nothing
 *   ping, pong   12 u64 timeNs   20 zeros to the end of the frame
 *   close  12 u8 scope (0 connection, 1 send, 2 receive)   13 u8 0   14 u16 reason
 *   64 and up   12 the policy's payload
 * A policy name is at most 64 bytes of printable ASCII. A u64 above 2^53 - 1 is refused.
 */
export const FRAME_VERSION = 1;
export const FRAME_HEADER_BYTES = 12;
/** The length field is 16 bits wide. */
export const FRAME_BYTES_MAX = 0xffff;
export const POLICY_NAME_BYTES_MAX = 64;
/** Of a CTS; kGrantBytesMax in native/include/sdr/transport.h. */
export const GRANT_BYTES_MAX = 64;
/** Bytes of an ACK before its selective words, and of a PING or PONG before its padding. */
export const ACK_FIXED_BYTES = 32;
export const PING_FIXED_BYTES = 20;
/** `latestChunk` of an ACK that offers no RTT sample. */
export const NO_CHUNK = 0xffffffff;
/**
 * Kinds from here on are a policy's own; their payload is opaque to us. Below POLICY_KIND_TO_SENDER_MIN they go from
 * the message's sender to its receiver, from there on the other way (message numbers count each direction).
 */
export const POLICY_KIND_MIN = 64;
export const POLICY_KIND_TO_SENDER_MIN = 128;

export const FRAME_KINDS = {
  cts: 1,
  start: 2,
  ack: 3,
  nack: 4,
  done: 5,
  ping: 6,
  pong: 7,
  close: 8,
} as const;

/**
 * The receiver is ready: `maxBytes` may be written; `policy` is its policy's name, "" for none; `grant` is what its
 * transport has to tell the sender's about this message (a memory key, say), opaque here and absent where nothing is.
 * Repeated until START.
 */
export interface CtsFrame {
  readonly kind: "cts";
  readonly message: number;
  readonly maxBytes: number;
  readonly policy: string;
  readonly grant?: Uint8Array;
}

/**
 * The sender begins: the true length, its policy, the whole user immediate if there is one.
 * The answer to every CTS of the message.
 */
export interface StartFrame {
  readonly kind: "start";
  readonly message: number;
  readonly bytes: number;
  readonly immediate: number | undefined;
  readonly policy: string;
}

/**
 * Cumulative + selective acknowledgement (paper section 4.1): all chunks below `cumulative` arrived; bit i of
 * `selective` (32-bit words, bit i & 31 of word i >> 5) says whether chunk selectiveBase + i did.
 * `latestChunk` is the chunk that completed last and `delayNs` how long ago, for RTT samples; 0xffffffff = none.
 */
export interface AckFrame {
  readonly kind: "ack";
  readonly message: number;
  readonly cumulative: number;
  readonly latestChunk: number;
  readonly delayNs: number;
  readonly selectiveBase: number;
  readonly selective: Uint32Array;
}

/** Chunks the receiver deems lost: ascending, disjoint ranges. */
export interface NackFrame {
  readonly kind: "nack";
  readonly message: number;
  readonly ranges: readonly { readonly first: number; readonly count: number }[];
}

/** The sender has the final ACK of `message`: the receiver may stop repeating it. */
export interface DoneFrame {
  readonly kind: "done";
  readonly message: number;
}

/**
 * Keep-alive and RTT probe. `timeNs` is the pinger's clock, echoed as is; `padding` zero bytes check the
 * path's MTU.
 */
export interface PingFrame {
  readonly kind: "ping" | "pong";
  readonly timeNs: number;
  readonly padding: number;
}

/**
 * scope "send": the sender gives this message up; "receive": its receiver does; "connection": the queue pair goes
 * away (message 0). `reason`: an error number of src/base/errors.ts, 0 for none.
 */
export interface CloseFrame {
  readonly kind: "close";
  readonly message: number;
  readonly scope: "connection" | "send" | "receive";
  readonly reason: number;
}

/** A policy's own frame, `type` >= POLICY_KIND_MIN. */
export interface PolicyFrame {
  readonly kind: "policy";
  readonly message: number;
  readonly type: number;
  readonly payload: Uint8Array;
}

export type ControlFrame =
  | CtsFrame
  | StartFrame
  | AckFrame
  | NackFrame
  | DoneFrame
  | PingFrame
  | CloseFrame
  | PolicyFrame;
