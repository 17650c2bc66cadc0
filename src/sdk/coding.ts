/** What erasure-coding policies need besides frames: memory for parity chunks, and codes for their tasks. */
import { check } from "../base/errors.ts";
import type { CodeShape, CodingTask } from "../reliability/policy.ts";
import { addon, type NativeCode } from "../transport/native.ts";
import { MemoryRegion } from "./region.ts";

/** Blocks of one message that are encoded or decoded at a time: enough to keep the threads busy. */
export const TASKS_MAX = 4;

const codes = new Map<string, NativeCode>();
/** Shapes in use at a time; more than any program has. */
const CODES_MAX = 64;

/** The code of a shape. Errors: INVALID_ARGUMENT. */
export function codeOf({ kind, k, m }: CodeShape): NativeCode {
  const name = `${kind}(${k},${m})`;
  const known = codes.get(name);
  if (known !== undefined) return known;
  const ok =
    (kind === "mds" || kind === "xor") &&
    Number.isInteger(k) &&
    Number.isInteger(m) &&
    k >= 1 &&
    m >= 1 &&
    k + m <= 256 &&
    (kind === "mds" || m <= k);
  check(ok, `there is no code ${name}`, "k and m at least 1, together at most 256; xor: m <= k");
  const code = addon().createCode(kind === "mds" ? 0 : 1, k, m);
  if (codes.size >= CODES_MAX) codes.delete(codes.keys().next().value as string);
  codes.set(name, code);
  return code;
}

/** Memory for parity chunks, of the kind of `like`: a phantom's parity has no bytes either. */
export function parityRegion(chunks: number, chunkBytes: number, like: MemoryRegion): MemoryRegion {
  const bytes = chunks * chunkBytes;
  return like.isPhantom ? MemoryRegion.phantom(bytes) : MemoryRegion.scratch(bytes);
}

/** Whether a task is of a message of `chunkCount` chunks that brings `parityCount` parity chunks. */
export function isTaskWithin(
  { code, first, count, parityFirst }: CodingTask,
  chunkCount: number,
  parityCount: number,
): boolean {
  return (
    Number.isInteger(first) &&
    Number.isInteger(count) &&
    Number.isInteger(parityFirst) &&
    first >= 0 &&
    count >= 1 &&
    count <= code.k &&
    first + count <= chunkCount &&
    parityFirst >= 0 &&
    parityFirst + code.m <= parityCount
  );
}
