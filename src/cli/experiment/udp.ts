/**
 * A cell's messages over UDP: between two contexts of this process, through the links' injectors, in real time. Every
 * byte that arrives is compared with what was sent.
 */
import { SdrError } from "../../base/errors.ts";
import { Random } from "../../base/random.ts";
import type { Policy } from "../../reliability/policy.ts";
import { parsePolicy } from "../../reliability/registry.ts";
import { Context } from "../../sdk/context.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import { MemoryRegion } from "../../sdk/region.ts";
import { reliableReceive, reliableWrite } from "../../sdk/reliable.ts";
import { COLUMN, COLUMNS, trialSeed } from "../emulate/trial.ts";
import { toSdrError } from "../failure.ts";
import type { Cell } from "./cell.ts";

/** A message is given up after so long, and this many times what it would take losing nothing. */
const TIMEOUT_NS = 20e9;
const TIMEOUT_IDEALS = 50;
const SLOTS = 4;

interface Ends {
  readonly cell: Cell;
  readonly policy: Policy;
  readonly sender: QueuePair;
  readonly receiver: QueuePair;
  readonly source: MemoryRegion;
  readonly target: MemoryRegion;
  readonly signal: AbortSignal;
}

function timeoutNs({ bytes, forward, reverse }: Cell): number {
  const wireNs = (bytes * 8e9) / (forward.rateBps ?? Number.POSITIVE_INFINITY);
  const idealNs = wireNs + (forward.delayNs ?? 0) + (reverse.delayNs ?? 0);
  return TIMEOUT_NS + TIMEOUT_IDEALS * idealNs;
}

async function sendOne(ends: Ends): Promise<number[]> {
  const { cell, policy, sender, receiver, source, target, signal } = ends;
  target.data.fill(0);
  const sentBytes = () => sender.counters().wireBytesSent + receiver.counters().wireBytesSent;
  const before = sentBytes();
  const options = { timeoutNs: timeoutNs(cell), signal };
  const [, sent] = await Promise.all([
    reliableReceive(receiver, target, policy, options),
    reliableWrite(sender, source, policy, options),
  ]);
  if (Buffer.compare(source.data, target.data) !== 0) {
    throw new SdrError("INTEGRITY", "other bytes arrived than were sent", "report this");
  }
  const row = new Array<number>(COLUMNS).fill(0);
  row[COLUMN.completionNs] = sent.completionNs;
  row[COLUMN.wireBytes] = sentBytes() - before;
  return row;
}

async function runConnection(
  cell: Cell,
  trial: number,
  rows: Float64Array,
  signal: AbortSignal,
): Promise<void> {
  const { bytes, packetBytes, chunkBytes, warmup, messages } = cell;
  const policy = parsePolicy(cell.policy);
  const parityChunks = policy.parityChunks?.(Math.ceil(bytes / chunkBytes)) ?? 0;
  const shape = {
    ...{ packetBytes, chunkBytes, maxMessageBytes: bytes, maxMessages: SLOTS },
    maxParityBytes: parityChunks * chunkBytes,
  };
  const seed = trialSeed(cell.seed, trial);
  let done = 0;
  const from = Context.udp({ link: cell.forward, seed });
  try {
    const to = Context.udp({ link: cell.reverse, seed: seed + 1 });
    try {
      const sender = from.createQueuePair(shape);
      const receiver = to.createQueuePair(shape);
      await Promise.all([sender.connect(receiver.info()), receiver.connect(sender.info())]);
      const source = MemoryRegion.allocate(bytes);
      new Random(seed, "bytes").fill(source.data);
      const target = MemoryRegion.allocate(bytes);
      const ends: Ends = { cell, policy, sender, receiver, source, target, signal };
      for (let i = 0; i < warmup; i++) await sendOne(ends);
      for (; done < messages; done++) rows.set(await sendOne(ends), done * COLUMNS);
      await Promise.all([sender.close(), receiver.close()]);
    } finally {
      to.close();
    }
  } catch (error) {
    // A cell whose bytes differ, or that this machine cannot run, is no result.
    const isResult = error instanceof SdrError && RESULTS.has(error.code);
    if (signal.aborted || !isResult) throw signal.aborted ? toSdrError(signal.reason) : error;
    for (let at = done * COLUMNS; at < rows.length; at += COLUMNS) {
      rows[at + COLUMN.completionNs] = Number.NaN;
      rows[at + COLUMN.failure] = error.number;
    }
  } finally {
    from.close();
  }
}

/** Failures that the link and the policy bring about. */
const RESULTS = new Set(["DEADLINE_EXCEEDED", "PEER_UNREACHABLE", "UNRECOVERABLE_LOSS"]);

/** COLUMNS numbers for each message of each trial, in order. Rejects with the signal's reason. */
export async function runUdpCell(
  cell: Cell,
  signal: AbortSignal,
  onTrials: (count: number) => void,
): Promise<Float64Array> {
  const size = cell.messages * COLUMNS;
  const rows = new Float64Array(cell.trials * size);
  for (let trial = 0; trial < cell.trials; trial++) {
    signal.throwIfAborted();
    await runConnection(cell, trial, rows.subarray(trial * size, (trial + 1) * size), signal);
    onTrials(1);
  }
  return rows;
}
