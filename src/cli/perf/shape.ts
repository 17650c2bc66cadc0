/**
 * What one run of sdr perf is: how many messages of which size, over what. A sweep is several runs, each with
 * connections of its own, so that its counters and its processor time are its own.
 */
import { check, SdrError } from "../../base/errors.ts";
import { formatSize } from "../../base/units.ts";
import type { Policy } from "../../reliability/policy.ts";
import { parsePolicy } from "../../reliability/registry.ts";
import type { QueuePairAttributes } from "../../sdk/attributes.ts";
import type { Capabilities } from "../../transport/transport.ts";

export const PERF_LIMITS = {
  bytesMax: 2 ** 30,
  iterationsMax: 1e9,
  durationNsMax: 3600e9,
  queuePairsMax: 64,
  depthMax: 512,
  channelsMax: 64,
  runsMax: 256,
  /** Receive buffers of a run, all queue pairs together. */
  bufferBytesMax: 4 * 2 ** 30,
  /** Parity of one message. */
  parityBytesMax: 2 ** 30,
} as const;

/** No policy: every chunk once. */
export const RAW = "none";

export interface RunShape {
  /** Of a message. */
  readonly bytes: number;
  /** Messages a queue pair; undefined: as many as `durationNs` has time for. */
  readonly iterations: number | undefined;
  readonly durationNs: number | undefined;
  readonly queuePairs: number;
  /** Messages in flight, a queue pair. */
  readonly depth: number;
  readonly channels: number;
  /** Undefined: what the path takes. */
  readonly packetBytes: number | undefined;
  /** Undefined: about 64 KiB. Rounded up to whole packets. */
  readonly chunkBytes: number | undefined;
  /** RAW, or a policy's text. */
  readonly policy: string;
  /** Both ends send. */
  readonly both: boolean;
  /** Every so-manieth message is compared byte for byte; 0: none. */
  readonly verifyEvery: number;
}

/** Undefined for RAW. Errors: INVALID_ARGUMENT. */
export function policyOf({ policy }: Pick<RunShape, "policy">): Policy | undefined {
  return policy === RAW ? undefined : parsePolicy(policy);
}

/** Receives posted at a time: the sender is never short of one while lost messages wait to be given up. */
export function ringOf({ depth }: Pick<RunShape, "depth">): number {
  return 2 * depth;
}

export function checkShape(shape: RunShape): void {
  const bytes = shape.bytes * ringOf(shape) * shape.queuePairs;
  check(
    bytes <= PERF_LIMITS.bufferBytesMax,
    `${shape.queuePairs} x ${ringOf(shape)} receives of ${formatSize(shape.bytes)} need ${formatSize(bytes)}`,
    `use fewer or smaller messages: at most ${formatSize(PERF_LIMITS.bufferBytesMax)}`,
  );
  policyOf(shape);
}

/** Attributes of a run's queue pairs on a transport. Errors: INVALID_ARGUMENT, TOO_LARGE (parity). */
export function attributesOf(
  shape: RunShape,
  can: Pick<Capabilities, "packetBytesMin" | "packetBytesMax" | "packetBytesDefault">,
  peerTimeoutNs: number,
): QueuePairAttributes {
  const packetBytes = shape.packetBytes ?? can.packetBytesDefault;
  check(
    packetBytes >= can.packetBytesMin && packetBytes <= can.packetBytesMax,
    `packets of ${packetBytes} B do not fit the path`,
    `use --mtu ${can.packetBytesMin} to ${can.packetBytesMax}`,
  );
  const wanted = shape.chunkBytes ?? packetBytes * Math.max(1, Math.round(65_536 / packetBytes));
  const chunkBytes = Math.ceil(wanted / packetBytes) * packetBytes;
  const chunks = Math.ceil(shape.bytes / chunkBytes);
  const maxParityBytes = (policyOf(shape)?.parityChunks?.(chunks) ?? 0) * chunkBytes;
  if (maxParityBytes > PERF_LIMITS.parityBytesMax)
    throw new SdrError(
      "TOO_LARGE",
      `${shape.policy} brings ${formatSize(maxParityBytes)} of parity for a message of ${formatSize(shape.bytes)}`,
      "use smaller messages or chunks, or a code with less parity",
    );
  return {
    packetBytes,
    chunkBytes,
    maxMessageBytes: shape.bytes,
    maxParityBytes,
    maxMessages: ringOf(shape),
    peerTimeoutNs,
  };
}
