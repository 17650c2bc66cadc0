/**
 * How a path is probed between two processes. The client connects once for echoes and once for each payload size; its
 * metadata says for what, the packets' size is the connection's.
 *
 *   echoes: a message of one packet at a time, which the server sends back as soon as its packet is there.
 *   losses: rounds. Each is one unreliable message whose chunks are single packets, then a reliable note that all of it
 *           has been sent; once nothing more comes in, the server answers with the message's bitmap, reliably.
 *
 * Everything read here comes from a peer and is checked.
 */
import { SdrError } from "../../base/errors.ts";
import type { ChunkBitmap } from "../../reliability/bitmap.ts";
import { parsePolicy } from "../../reliability/registry.ts";

export const PROBE_LIMITS = {
  payloadsMax: 16,
  packetsMax: 1 << 20,
  secondsMax: 3600,
  /** One round: packets, and the memory they take on each end. */
  roundPacketsMax: 1 << 14,
  roundBytesMax: 16 * 2 ** 20,
  /** Of which the first ones find both processes cold, and are not counted. */
  echoes: 105,
  echoesCold: 5,
  /** No echo begins later: on long paths fewer are sent. */
  echoSecondsMax: 15,
  /** Connections that a server works on at a time. */
  connectionsMax: 64,
} as const;

const VERSION = 1;
/** Of notes and answers. */
export const PROBE_POLICY = parsePolicy("sr-nack");
/** An echo's message: one packet, not filled. */
export const ECHO_BYTES = 64;
export const ECHO_PACKET_BYTES = 512;
export const ECHO_MESSAGES = PROBE_LIMITS.echoes + 1;

export type ProbeOffer =
  | { readonly kind: "echo" }
  | {
      readonly kind: "loss";
      /** In all rounds. */
      readonly packets: number;
    };

/** Both ends agree on it: packets of each round but the last. */
export function roundPackets(payloadBytes: number): number {
  const { roundBytesMax, roundPacketsMax } = PROBE_LIMITS;
  return Math.min(roundPacketsMax, Math.floor(roundBytesMax / payloadBytes));
}

/** Packets of each round. */
export function rounds(packets: number, payloadBytes: number): number[] {
  const most = roundPackets(payloadBytes);
  const count = Math.ceil(packets / most);
  return Array.from({ length: count }, (_, i) => Math.min(most, packets - i * most));
}

export function encodeOffer(offer: ProbeOffer): object {
  return { probe: VERSION, ...offer };
}

/** Errors: PEER_INCOMPATIBLE. */
export function decodeOffer(meta: unknown): ProbeOffer {
  const { probe, kind, packets } = (meta ?? {}) as Record<string, unknown>;
  const bad = (what: string) =>
    new SdrError("PEER_INCOMPATIBLE", what, "use sdr probe of the same version on both ends");
  if (probe === undefined) throw bad("the client does not probe");
  if (probe !== VERSION)
    throw bad(`the client probes by version ${JSON.stringify(probe)}, this server by ${VERSION}`);
  if (kind === "echo") return { kind };
  const valid =
    kind === "loss" &&
    Number.isSafeInteger(packets) &&
    (packets as number) >= 1 &&
    (packets as number) <= PROBE_LIMITS.packetsMax;
  if (!valid) throw bad("what the client wants to probe is not valid");
  return { kind, packets: packets as number };
}

/** What a server tells its clients. */
export function encodeServer(): object {
  return { probe: VERSION };
}

/** Errors: PEER_INCOMPATIBLE. */
export function checkServer(meta: unknown): void {
  const { probe } = (meta ?? {}) as Record<string, unknown>;
  if (probe === VERSION) return;
  throw new SdrError(
    "PEER_INCOMPATIBLE",
    "the server is no sdr probe of this version",
    "use sdr probe of the same version on both ends",
  );
}

export function answerBytes(packets: number): number {
  return Math.ceil(packets / 8);
}

/** Bit i & 7 of byte i >> 3: packet i has arrived. */
export function encodeAnswer(bitmap: ChunkBitmap, packets: number): Uint8Array {
  const answer = new Uint8Array(answerBytes(packets));
  for (let at = bitmap.nextSet(0); at < packets; at = bitmap.nextSet(at + 1))
    answer[at >> 3]! |= 1 << (at & 7);
  return answer;
}

/** Writes 1 for each lost packet of a round to `lost`. Errors: PEER_INCOMPATIBLE. */
export function decodeAnswer(answer: Uint8Array, lost: Uint8Array): void {
  if (answer.length !== answerBytes(lost.length))
    throw new SdrError(
      "PEER_INCOMPATIBLE",
      `the server answered ${answer.length} B to ${lost.length} packets`,
      "use sdr probe of the same version on both ends",
    );
  for (let i = 0; i < lost.length; i++) lost[i] = (answer[i >> 3]! >> (i & 7)) & 1 ? 0 : 1;
}
