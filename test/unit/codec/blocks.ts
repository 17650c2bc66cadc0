/** Blocks for tests of the codes: chunks with random bytes, and their loss. */
import type { Random } from "../../../src/base/random.ts";
import type { ErasureCode } from "../../../src/codec/index.ts";

const GUARD = 7;
const GUARD_BYTE = 0xa5;

/** `bytes` random bytes as a view at an odd place of its buffer, with a guard on either side. */
export function guarded(random: Random, bytes: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(bytes + 2 * GUARD).fill(GUARD_BYTE);
  const view = whole.subarray(GUARD, GUARD + bytes);
  return random.fill(view) as Uint8Array<ArrayBuffer>;
}

/** Whether nothing was written around any of the views. */
export function areGuardsIntact(views: readonly Uint8Array[]): boolean {
  return views.every((view) => {
    const whole = new Uint8Array(view.buffer);
    const around = [...whole.subarray(0, GUARD), ...whole.subarray(GUARD + view.length)];
    return around.length === 2 * GUARD && around.every((byte) => byte === GUARD_BYTE);
  });
}

export interface Block {
  readonly data: Uint8Array[];
  readonly parity: Uint8Array[];
  /** The data as it was. */
  readonly copy: Uint8Array[];
}

/** An encoded block of `count` chunks, the last of them short. */
export async function encoded(
  code: ErasureCode,
  {
    chunkBytes,
    lastBytes,
    count = code.k,
  }: { chunkBytes: number; lastBytes: number; count?: number },
  random: Random,
): Promise<Block> {
  const data = Array.from({ length: count }, (_none, i) =>
    guarded(random, i === count - 1 ? lastBytes : chunkBytes),
  );
  const parity = Array.from({ length: code.m }, () => guarded(random, chunkBytes));
  const copy = data.map((chunk) => chunk.slice());
  await code.encode(data, parity);
  return { data, parity, copy };
}

/** Overwrites what is missing; the parity as decode() takes it. */
export function lose(
  { data, parity }: Block,
  k: number,
  missing: readonly number[],
): (Uint8Array | null)[] {
  for (const i of missing) (i < k ? data[i] : parity[i - k])?.fill(0xee);
  return parity.map((chunk, i) => (missing.includes(k + i) ? null : chunk));
}

/** All subsets of 0 .. n - 1 with `size` elements. */
export function* subsets(n: number, size: number, from = 0): Generator<number[]> {
  if (size === 0) yield [];
  else
    for (let first = from; first <= n - size; first++)
      for (const rest of subsets(n, size - 1, first + 1)) yield [first, ...rest];
}
