/**
 * When what takes place: a message's chunks on the wire, and how long after a loss its repair goes out. One place for
 * the formulas and for sampling. The waits are those of the policies in src/reliability, in virtual time.
 */
import { check } from "../base/errors.ts";
import { checkLoss, packetsPerChunk } from "./loss.ts";
import type { Setting } from "./types.ts";

/** Timers are not set shorter: the emulated transport's floor of retransmission timeouts. */
const RTO_FLOOR_NS = 100_000;
/** A gap counts as lost no sooner than after this part of the shorter of floor and RTT. */
const REORDER_FLOOR_FRACTION = 1 / 4;
/** What was asked for is not asked for again sooner. */
const ASK_AGAIN_FLOOR_NS = 6_250;

/** Chunks a message: 2 TiB in chunks of 1 KiB. */
export const CHUNKS_MAX = 2 ** 31;

/** A message as the wire sees it. */
export interface MessageShape {
  /** Chunks, the last of which may be short; 0 for an empty message. */
  readonly chunks: number;
  /** Packets and time of injection of a whole chunk. */
  readonly packets: number;
  readonly chunkNs: number;
  /** The same of the last chunk. */
  readonly lastPackets: number;
  readonly lastNs: number;
  /** Time of injection of all chunks, M T_inj. */
  readonly injectionNs: number;
}

/** Errors: INVALID_ARGUMENT for sizes, rates, times and losses that cannot be. */
export function checkSetting(setting: Setting): void {
  const { bytes, packetBytes, chunkBytes, rateBps, packetOverheadBytes, rttNs } = setting;
  const { controlLoss, loss } = setting;
  const whole = (name: string, value: number, least: number) =>
    check(
      Number.isSafeInteger(value) && value >= least,
      `${name} ${value} is out of range`,
      `give a whole number of at least ${least}`,
    );
  whole("bytes", bytes, 0);
  whole("packetBytes", packetBytes, 1);
  whole("chunkBytes", chunkBytes, packetBytes);
  check(
    chunkBytes % packetBytes === 0,
    `chunkBytes ${chunkBytes} is no whole number of packets of ${packetBytes} B`,
    "give a multiple of the packet size",
  );
  check(
    Math.ceil(bytes / chunkBytes) <= CHUNKS_MAX,
    `a message of ${bytes} B has too many chunks of ${chunkBytes} B`,
    `give chunks so large that there are at most ${CHUNKS_MAX}`,
  );
  check(
    rateBps > 0,
    `rate ${rateBps} is out of range`,
    "give bit/s above 0, Infinity for no limit",
  );
  check(
    packetOverheadBytes > -packetBytes && packetOverheadBytes < Infinity,
    `packet overhead ${packetOverheadBytes} is out of range`,
    "give bytes, above those of a packet when negative",
  );
  check(rttNs >= 0 && rttNs < Infinity, `RTT ${rttNs} is out of range`, "give nanoseconds");
  check(
    controlLoss >= 0 && controlLoss < 1,
    `loss of control frames ${controlLoss} is out of range`,
    "give 0 or more and less than 1",
  );
  checkLoss(loss);
}

/** How a message lies on the wire. */
export function messageShape(setting: Setting): MessageShape {
  const { bytes, packetBytes, chunkBytes, rateBps, packetOverheadBytes } = setting;
  const wireNs = (payload: number, packets: number) =>
    ((payload + packets * packetOverheadBytes) * 8e9) / rateBps;
  const chunks = Math.ceil(bytes / chunkBytes);
  const packets = packetsPerChunk(setting);
  const chunkNs = wireNs(chunkBytes, packets);
  const lastBytes = bytes - Math.max(0, chunks - 1) * chunkBytes;
  const lastPackets = Math.ceil(lastBytes / packetBytes);
  const lastNs = wireNs(lastBytes, lastPackets);
  const injectionNs = Math.max(0, chunks - 1) * chunkNs + lastNs;
  return { chunks, packets, chunkNs, lastPackets, lastNs, injectionNs };
}

/** From a chunk's injection to its timeout: (1 + alpha) RTT, and no less than the floor. */
export function timeoutNs(alpha: number, rttNs: number): number {
  return Math.max(RTO_FLOOR_NS, (1 + alpha) * rttNs);
}

/**
 * From a chunk's injection to that of its repair, where the receiver asks for it (sr-nack): one RTT, and the time for
 * which chunks may overtake each other. The next chunk, which shows the gap, takes its own injection on top.
 */
export function askedRepairNs(reorder: number, rttNs: number): number {
  const floorNs = Math.min(RTO_FLOOR_NS, rttNs) * REORDER_FLOOR_FRACTION;
  return rttNs + Math.max(reorder * rttNs, floorNs);
}

/** From the injection of all chunks of a block to its fallback's repairs: one RTT, and beta RTT for stragglers. */
export function fallbackNs(beta: number, rttNs: number): number {
  return rttNs + Math.max(beta * rttNs, ASK_AGAIN_FLOOR_NS);
}
