/** Queue pair attributes (paper Table 1's sdr_qp_attr, in this SDK's units), their defaults and limits. */
import { check, SdrError } from "../base/errors.ts";
import type { NativeQpConfig } from "../transport/native.ts";
import type { Capabilities } from "../transport/transport.ts";

/** What a queue pair is to be like; both ends must agree where connect() says so (PEER_INCOMPATIBLE). */
export interface QueuePairAttributes {
  /** Payload bytes of a packet (the MTU attribute). Default: what the transport's path takes. */
  readonly packetBytes?: number;
  /** One bit of the bitmap; a multiple of packetBytes. Default: the multiple nearest to 64 KiB. */
  readonly chunkBytes?: number;
  /** Largest message. Default: 1 GiB, or two thirds of what the split allows if less (all of it below 3 chunks). */
  readonly maxMessageBytes?: number;
  /**
   * Most parity a message may bring besides, for policies that send any. Default: half of maxMessageBytes, and at least
   * PARITY_CHUNKS_MIN chunks, as far as the split allows.
   */
  readonly maxParityBytes?: number;
  /** Messages in flight in each direction (slots). Default 64. */
  readonly maxMessages?: number;
  /** Bytes injected and not yet acknowledged. Default: what the peer's socket holds plus rate x RTT. */
  readonly maxInFlightBytes?: number;
  /**
   * Immediate split: message id, packet offset and user fragment bits; adds to 32. Default [10, 18, 4], or what
   * splitFor gives where maxMessageBytes and its parity need more packet bits.
   */
  readonly split?: readonly [number, number, number];
  /** Lives of a slot that late packets are told apart by. Default 4. */
  readonly generations?: number;
  /** Pacing of data in bit/s. Default: unpaced. */
  readonly rateBps?: number;
  /** False refuses sends, or receives (UNSUPPORTED). Default true. */
  readonly sendEnabled?: boolean;
  readonly receiveEnabled?: boolean;
  /** A peer silent for this long, while something is pending, is reported as PEER_UNREACHABLE. Default 5 s. */
  readonly peerTimeoutNs?: number;
  /** No retransmission timer is shorter. Default 10 ms on real clocks, 100 µs in virtual time. */
  readonly rtoFloorNs?: number;
}

/** Attributes with their defaults filled in. */
export type ResolvedAttributes = Required<Omit<QueuePairAttributes, "maxInFlightBytes">> & {
  readonly maxInFlightBytes: number | undefined;
  readonly packetsPerChunk: number;
};

export const LIMITS = {
  chunkBytesMax: 2 ** 30,
  packetsPerChunkMax: 65_536,
  messagesMax: 1024,
  generationsMax: 64,
  messageBytesMax: 2 ** 50,
  peerTimeoutNsMax: 3_600e9,
  /** Work requests posted and not yet injected. */
  workRequestsMax: 256,
} as const;

/** The usual size; what is chosen is a multiple of the packet's, within a third of it. */
export const CHUNK_BYTES = 65_536;
/** By default parity has room for so many chunks: a short message may well bring more parity than data. */
export const PARITY_CHUNKS_MIN = 64;
const MESSAGE_BYTES = 2 ** 30;

function whole(name: string, value: number, min: number, max: number): number {
  check(
    Number.isSafeInteger(value) && value >= min && value <= max,
    `${name} ${value} is not valid`,
    `use a whole number from ${min} to ${max}`,
  );
  return value;
}

function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

/** What a message and its parity take of the packet numbers: parity chunks are numbered behind the message's own. */
function numberedBytes(bytes: number, parityBytes: number, chunkBytes: number): number {
  return parityBytes === 0 ? bytes : roundUp(bytes, chunkBytes) + parityBytes;
}

function checkSplit(split: readonly [number, number, number]): void {
  check(Array.isArray(split), `split ${split} is not valid`, "give three numbers: [10, 18, 4]");
  const [message, packet, user] = split;
  check(
    split.length === 3 &&
      split.every((bits) => Number.isInteger(bits) && bits >= 0) &&
      message + packet + user === 32 &&
      message >= 1 &&
      packet >= 1 &&
      user <= 16,
    `split ${split.join("+")} is not valid`,
    "message, packet and user bits add to 32; message and packet at least 1, user at most 16",
  );
}

/** The split with the most message ids that still carries messages of `bytes`. Throws TOO_LARGE when none does. */
export function splitFor(bytes: number, packetBytes: number): readonly [number, number, number] {
  const packets = Math.max(1, Math.ceil(bytes / packetBytes));
  const bits = Math.max(18, Math.ceil(Math.log2(packets)));
  if (bits === 18) return [10, 18, 4];
  if (bits <= 22) return [8, 22, 2];
  if (bits <= 28) return [32 - bits, bits, 0];
  throw new SdrError(
    "TOO_LARGE",
    `${bytes} B is more than 2^28 packets of ${packetBytes} B`,
    "use larger packets or several messages",
  );
}

/**
 * Split and sizes belong together: a message's chunks and its parity chunks share the packet numbers. What is not given
 * follows from what is.
 */
function resolveSizes(given: QueuePairAttributes, packetBytes: number, chunkBytes: number) {
  const bytesGiven = given.maxMessageBytes;
  if (bytesGiven !== undefined) whole("maxMessageBytes", bytesGiven, 0, LIMITS.messageBytesMax);
  const parityGiven = given.maxParityBytes;
  if (parityGiven !== undefined) whole("maxParityBytes", parityGiven, 0, LIMITS.messageBytesMax);
  const usualParity = (bytes: number) =>
    roundUp(Math.max(bytes / 2, PARITY_CHUNKS_MIN * chunkBytes), chunkBytes);
  const together = (bytes: number, parity: number) => numberedBytes(bytes, parity, chunkBytes);
  const wanted = bytesGiven ?? 0;
  const split =
    given.split ?? splitFor(together(wanted, parityGiven ?? usualParity(wanted)), packetBytes);
  checkSplit(split);
  const addressable = packetBytes * 2 ** split[1];
  // A third is left for parity, unless there are too few chunks to share.
  const twoThirds = Math.floor(addressable / 3 / chunkBytes) * 2 * chunkBytes;
  const maxMessageBytes = bytesGiven ?? Math.min(MESSAGE_BYTES, twoThirds || addressable);
  const room = addressable - roundUp(maxMessageBytes, chunkBytes);
  const maxParityBytes = parityGiven ?? Math.max(0, Math.min(usualParity(maxMessageBytes), room));
  const bytes = together(maxMessageBytes, maxParityBytes);
  if (bytes > addressable) {
    throw new SdrError(
      "TOO_LARGE",
      `maxMessageBytes ${maxMessageBytes} and maxParityBytes ${maxParityBytes} are above the ${addressable} B of ` +
        `${split[1]} packet bits at ${packetBytes} B`,
      `use split [${splitFor(bytes, packetBytes).join(", ")}] or larger packets`,
    );
  }
  return { split, maxMessageBytes, maxParityBytes };
}

/** Fills in defaults and checks everything; throws INVALID_ARGUMENT or TOO_LARGE naming the attribute. */
export function resolveAttributes(
  given: QueuePairAttributes,
  capabilities: Capabilities,
): ResolvedAttributes {
  const packetBytes = whole(
    "packetBytes",
    given.packetBytes ?? capabilities.packetBytesDefault,
    capabilities.packetBytesMin,
    capabilities.packetBytesMax,
  );
  const chunkBytes =
    given.chunkBytes ?? packetBytes * Math.max(1, Math.round(CHUNK_BYTES / packetBytes));
  whole("chunkBytes", chunkBytes, 1, LIMITS.chunkBytesMax);
  const packetsPerChunk = chunkBytes / packetBytes;
  check(
    Number.isInteger(packetsPerChunk) && packetsPerChunk <= LIMITS.packetsPerChunkMax,
    `chunkBytes ${chunkBytes} is not 1 to ${LIMITS.packetsPerChunkMax} packets of ${packetBytes} B`,
    `use a multiple of ${packetBytes}, such as ${packetBytes * Math.max(1, Math.round(chunkBytes / packetBytes))}`,
  );
  const { split, maxMessageBytes, maxParityBytes } = resolveSizes(given, packetBytes, chunkBytes);
  const slotsMax = Math.min(LIMITS.messagesMax, 2 ** split[0]);
  const { rateBps = Number.POSITIVE_INFINITY } = given;
  check(
    typeof rateBps === "number" && rateBps > 0,
    `rateBps ${rateBps} is not valid`,
    "use bit/s above 0, or leave it out",
  );
  if (given.maxInFlightBytes !== undefined)
    whole("maxInFlightBytes", given.maxInFlightBytes, 1, LIMITS.messageBytesMax);
  return {
    packetBytes,
    chunkBytes,
    packetsPerChunk,
    split,
    maxMessageBytes,
    maxParityBytes,
    maxMessages: whole("maxMessages", given.maxMessages ?? Math.min(64, slotsMax), 1, slotsMax),
    maxInFlightBytes: given.maxInFlightBytes,
    generations: whole("generations", given.generations ?? 4, 1, LIMITS.generationsMax),
    rateBps,
    sendEnabled: given.sendEnabled ?? true,
    receiveEnabled: given.receiveEnabled ?? true,
    peerTimeoutNs: whole("peerTimeoutNs", given.peerTimeoutNs ?? 5e9, 1, LIMITS.peerTimeoutNsMax),
    rtoFloorNs: whole(
      "rtoFloorNs",
      given.rtoFloorNs ?? (capabilities.virtualTime ? 100_000 : 10_000_000),
      1,
      60e9,
    ),
  };
}

export function toNativeConfig(attributes: ResolvedAttributes, channels: number): NativeQpConfig {
  const { chunkBytes, maxMessageBytes, maxParityBytes } = attributes;
  return {
    packetBytes: attributes.packetBytes,
    packetsPerChunk: attributes.packetsPerChunk,
    slots: attributes.maxMessages,
    generations: attributes.generations,
    channels,
    maxMessageBytes: numberedBytes(maxMessageBytes, maxParityBytes, chunkBytes),
    split: [...attributes.split],
    rateBps: Number.isFinite(attributes.rateBps) ? attributes.rateBps : 0,
    workRequestsMax: LIMITS.workRequestsMax,
  };
}
