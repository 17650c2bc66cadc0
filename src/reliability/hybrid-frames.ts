/**
 * The hybrid scheme's own control frames. All integers big-endian; offsets from the frame's start.
 *   PLAN  kind 65, sender to receiver: how the message is protected, and how much of it is sent
 *     12 u32 sentChunks: the message's chunks below are injected, and of them nothing more comes unless it is asked
 *        for. All of them: neither does any parity. 0: says nothing of that
 *     16 u32 tailFirst: chunks from here on are repaired by parity, which follows; gaps among them are not to be asked
 *        for. 0xffffffff: not decided yet
 *     20 u16 k   22 u16 rows   24 u32 interleave: the blocks
 *   NEED  kind 128, receiver to sender: blocks that cannot be decoded
 *     12 {u32 block, u16 chunks} to the end of the frame: so many more of the block's chunks, of any kind, are needed
 *   LOSS  kind 129, receiver to sender: what was lost of what was sent a first time, since the message began
 *     12 u32 chunks looked at   16 u32 lost   20 u32 runs of neighbouring lost chunks
 */
import { BLOCK_CHUNKS_MAX } from "./block-layout.ts";
import type { ControlFrame, PolicyFrame } from "./frames.ts";
import { FRAME_HEADER_BYTES, POLICY_KIND_MIN, POLICY_KIND_TO_SENDER_MIN } from "./frames.ts";
import type { LossSample } from "./policy.ts";

export const PLAN_KIND = POLICY_KIND_MIN + 1;
export const NEED_KIND = POLICY_KIND_TO_SENDER_MIN;
export const LOSS_KIND = POLICY_KIND_TO_SENDER_MIN + 1;

const PLAN_BYTES = 16;
const NEED_BYTES = 6;
const LOSS_BYTES = 12;
const UNDECIDED = 0xffffffff;

/** How a message's chunks fall into blocks. */
export interface HybridBlocks {
  readonly k: number;
  readonly rows: number;
  readonly interleave: number;
}

export interface PlanFrame extends HybridBlocks {
  readonly sentChunks: number;
  /** Undefined until decided. */
  readonly tailFirst: number | undefined;
}

export interface Need {
  readonly block: number;
  readonly chunks: number;
}

function policyFrame(type: number, bytes: number, write: (view: DataView) => void): PolicyFrame {
  const payload = new Uint8Array(bytes);
  write(new DataView(payload.buffer));
  return { kind: "policy", message: 0, type, payload };
}

function payloadOf(frame: ControlFrame, type: number): DataView | undefined {
  if (frame.kind !== "policy" || frame.type !== type) return undefined;
  const { buffer, byteOffset, length } = frame.payload;
  return new DataView(buffer, byteOffset, length);
}

/** Whether a message of `chunkCount` chunks with room for `parityCount` of parity can have such blocks. */
export function areBlocksPossible(
  { k, rows, interleave }: HybridBlocks,
  chunkCount: number,
  parityCount: number,
): boolean {
  return (
    [k, rows, interleave].every((value) => Number.isInteger(value) && value >= 1) &&
    k + rows <= BLOCK_CHUNKS_MAX &&
    Math.ceil(chunkCount / k) * rows <= parityCount
  );
}

export function planFrame(plan: PlanFrame): PolicyFrame {
  return policyFrame(PLAN_KIND, PLAN_BYTES, (view) => {
    view.setUint32(0, plan.sentChunks);
    view.setUint32(4, plan.tailFirst ?? UNDECIDED);
    view.setUint16(8, plan.k);
    view.setUint16(10, plan.rows);
    view.setUint32(12, plan.interleave);
  });
}

/** Undefined for any other frame, and one that makes no sense for a message of that size. */
export function readPlan(
  frame: ControlFrame,
  chunkCount: number,
  parityCount: number,
): PlanFrame | undefined {
  const view = payloadOf(frame, PLAN_KIND);
  if (view?.byteLength !== PLAN_BYTES) return undefined;
  const tail = view.getUint32(4);
  const plan = {
    sentChunks: view.getUint32(0),
    tailFirst: tail === UNDECIDED ? undefined : tail,
    k: view.getUint16(8),
    rows: view.getUint16(10),
    interleave: view.getUint32(12),
  };
  if (plan.sentChunks > chunkCount || (plan.tailFirst ?? 0) > chunkCount) return undefined;
  return areBlocksPossible(plan, chunkCount, parityCount) ? plan : undefined;
}

/** Takes from the front of `needs` what fits a frame; undefined when there are none. */
export function needFrame(needs: Need[], frameBytesMax: number): PolicyFrame | undefined {
  if (needs.length === 0) return undefined;
  const most = Math.max(1, Math.floor((frameBytesMax - FRAME_HEADER_BYTES) / NEED_BYTES));
  const taken = needs.splice(0, most);
  return policyFrame(NEED_KIND, taken.length * NEED_BYTES, (view) => {
    for (const [index, { block, chunks }] of taken.entries()) {
      view.setUint32(index * NEED_BYTES, block);
      view.setUint16(index * NEED_BYTES + 4, chunks);
    }
  });
}

/** Undefined for any other frame. The pairs are as they came. */
export function readNeeds(frame: ControlFrame): Need[] | undefined {
  const view = payloadOf(frame, NEED_KIND);
  if (view === undefined || view.byteLength % NEED_BYTES !== 0) return undefined;
  return Array.from({ length: view.byteLength / NEED_BYTES }, (_, index) => ({
    block: view.getUint32(index * NEED_BYTES),
    chunks: view.getUint16(index * NEED_BYTES + 4),
  }));
}

export function lossFrame({ chunks, lost, runs }: LossSample): PolicyFrame {
  return policyFrame(LOSS_KIND, LOSS_BYTES, (view) => {
    view.setUint32(0, chunks);
    view.setUint32(4, lost);
    view.setUint32(8, runs);
  });
}

export function readLoss(frame: ControlFrame): LossSample | undefined {
  const view = payloadOf(frame, LOSS_KIND);
  if (view?.byteLength !== LOSS_BYTES) return undefined;
  return { chunks: view.getUint32(0), lost: view.getUint32(4), runs: view.getUint32(8) };
}
