/**
 * The hybrid scheme: what is lost while there is data left to inject is repaired by retransmission inside the stream,
 * which hides its latency; the last round trip's worth, which nothing hides, is protected by parity. Completion time
 * comes near the erasure channel's bound, M T / (1 - P) + RTT.
 *
 * A message of M chunks has L = ceil(M / k) blocks. Its head, up to the tail's first chunk, is repaired as in sr-nack.
 * The tail begins when what is left takes an RTT and a little to inject; a message that is no longer than that is all
 * tail. Blocks of the tail, and blocks of the head with a chunk whose repair was sent after the tail's beginning, get
 * parity rows, so many that a share `target` of messages at most has a block that cannot be made. Rows go out as
 * hybrid-rows.ts says. When parity does not save a block, the receiver asks for so many chunks of it, of any kind, and
 * fresh rows go out, with some more in case they are lost; when a block's rows are used up, its data.
 *
 * Who learns what from whom:
 *  - The sender chooses the shape by what is known of the path, and tells it in each of its PLAN frames
 *    (hybrid-frames.ts): at the start, when the tail begins, and when everything is sent, three times each; after that
 *    once an RTO. A receiver that knows no plan yet acknowledges and asks for gaps.
 *  - The receiver asks for gaps in the head (NACK), and after the sender has said that everything is sent for blocks
 *    (NEED). It repeats each of them soon: a loss that is not told in time costs a round trip.
 *  - What was lost the first time it was sent goes back in LOSS frames, once an RTT and before the final ACK, and feeds
 *    the sender's estimate: the tail of a long message is sized by what its head showed.
 *  - Correctness needs none of that but ACKs and the PLAN repeated at the end: with all parity lost, data is resent.
 */
import { check } from "../base/errors.ts";
import { hybridParityChunks, hybridShape, type PathView } from "../model/parity.ts";
import type { HybridShape } from "../model/types.ts";
import { areBlocksPossible } from "./hybrid-frames.ts";
import { HybridReceiver } from "./hybrid-receiver.ts";
import { HybridSender } from "./hybrid-sender.ts";
import { type MeasuredPace, Pace } from "./hybrid-tail.ts";
import type { PathEstimate, Policy, SendSession, SessionParams } from "./policy.ts";

/** The share of messages that may wait for a repair after everything is injected. */
const TARGET_DEFAULT = 1e-4;
const TARGET_MIN = 1e-9;
const TARGET_MAX = 0.5;

export interface HybridOptions {
  /** Most of all messages, as a share, that parity may fail to save; 1e-9 to 0.5, default 1e-4. */
  readonly target?: number;
}

/** How one message is protected; its blocks' rows must fit the room. */
export interface HybridChoice extends HybridShape {
  /** In place of the policy's. */
  readonly target?: number;
}

export interface HybridPolicyOptions {
  /** As in HybridOptions; checked by the caller. Sizes the tail's parity by what the head of a message showed. */
  readonly target: number;
  /**
   * For a message of 1 chunk or more, given what is known of its path. What it says is kept, and not asked again for
   * messages of as many chunks on a path that is nearly the same.
   */
  choose(chunkCount: number, view: PathView): HybridChoice;
}

/** Estimates closer than this are the same: choosing may take longer than sending a short message. */
const SAME_ESTIMATE = 0.03;
/** Choices remembered. */
const MEMORY_MAX = 64;

/** The same for paths that are nearly the same. */
function keyOf(chunkCount: number, view: PathView): string {
  const step = (value: number) => Math.round(Math.log(value) / SAME_ESTIMATE);
  const { probability, upper, burstChunks, rttNs, chunkNs } = view;
  return [chunkCount, ...[probability, upper, burstChunks, rttNs, chunkNs].map(step)].join(" ");
}

function remembering(choose: HybridPolicyOptions["choose"]): HybridPolicyOptions["choose"] {
  const memory = new Map<string, HybridChoice>();
  return (chunkCount, view) => {
    const key = keyOf(chunkCount, view);
    const known = memory.get(key);
    if (known !== undefined) return known;
    const choice = choose(chunkCount, view);
    if (memory.size >= MEMORY_MAX) memory.clear();
    memory.set(key, choice);
    return choice;
  };
}

function viewOf({ loss, rttMinNs }: PathEstimate, chunkNs: number): PathView {
  const { probability, upper, burstChunks } = loss;
  return { probability, upper, burstChunks, rttNs: rttMinNs, chunkNs };
}

function checkShape(shape: HybridShape, chunkCount: number): void {
  const { k, rows, parity, interleave } = shape;
  const isPossible = areBlocksPossible(shape, chunkCount, hybridParityChunks(chunkCount));
  check(
    isPossible && Number.isInteger(parity) && parity >= 0 && parity <= rows,
    `blocks of ${k} chunks with ${parity} of ${rows} rows, ${interleave} taking turns, for ${chunkCount} chunks`,
    "give whole numbers, k + rows at most 256, all rows within hybridParityChunks",
  );
}

/**
 * The hybrid scheme by another name, with shapes of the caller's choosing: parity 0 makes it Selective Repeat, which
 * still repairs what is left at the end by rows. `name` is the policy's canonical text, at most 64 bytes.
 * Errors: createSender throws INVALID_ARGUMENT for a shape that the message has no room for.
 */
export function hybridPolicy(name: string, options: HybridPolicyOptions): Policy {
  const paces = new WeakMap<PathEstimate, MeasuredPace>();
  const choose = remembering((chunkCount, view) => options.choose(chunkCount, view));
  const createSender = (params: SessionParams): SendSession => {
    const { chunkCount, path } = params;
    let pace = paces.get(path);
    if (pace === undefined) paces.set(path, (pace = { chunkNs: 0 }));
    const empty: HybridChoice = { k: 1, rows: 1, parity: 0, interleave: 1 };
    const { target = options.target, ...shape } =
      chunkCount === 0 ? empty : choose(chunkCount, viewOf(path, new Pace(params, pace).chunkNs));
    if (chunkCount > 0) checkShape(shape, chunkCount);
    return new HybridSender(params, shape, target, pace);
  };
  return {
    name,
    parityChunks: hybridParityChunks,
    createSender,
    createReceiver: (params) => new HybridReceiver(params),
  };
}

/**
 * Retransmission while injection hides it, parity for the rest, sized by the losses seen on the path.
 * Errors: INVALID_ARGUMENT for a target out of range.
 */
export function hybrid(options: HybridOptions = {}): Policy {
  const { target = TARGET_DEFAULT } = options;
  check(
    target >= TARGET_MIN && target <= TARGET_MAX,
    `target ${target} is out of range`,
    `the share of messages that may wait for a repair: give ${TARGET_MIN} to ${TARGET_MAX}`,
  );
  const name = target === TARGET_DEFAULT ? "hybrid" : `hybrid(target=${target})`;
  return hybridPolicy(name, {
    target,
    choose: (chunkCount, view) => hybridShape(chunkCount, view, target),
  });
}
