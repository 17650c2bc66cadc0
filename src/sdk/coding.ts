/** What erasure-coding policies need besides frames: memory for parity chunks, and codes for their tasks. */
import { createCode } from "../codec/erasure-code.ts";
import type { CodeShape, CodingTask } from "../reliability/policy.ts";
import type { NativeCode } from "../transport/native.ts";
import { MemoryRegion } from "./region.ts";

/** Blocks of one message that are encoded or decoded at a time: enough to keep the threads busy. */
export const TASKS_MAX = 4;

const codes = new Map<string, NativeCode>();
/** Shapes in use at a time; more than any program has. */
const CODES_MAX = 64;

/** The code of a shape. Errors: INVALID_ARGUMENT. */
export function codeOf(shape: CodeShape): NativeCode {
  const name = `${shape.kind}(${shape.k},${shape.m})`;
  const known = codes.get(name);
  if (known !== undefined) return known;
  const code = createCode(shape);
  if (codes.size >= CODES_MAX) codes.delete(codes.keys().next().value as string);
  codes.set(name, code);
  return code;
}

/** Memory for parity chunks, of the kind of `like`: a phantom's parity has no bytes either. */
export function parityRegion(chunks: number, chunkBytes: number, like: MemoryRegion): MemoryRegion {
  const bytes = chunks * chunkBytes;
  return like.isPhantom ? MemoryRegion.phantom(bytes) : MemoryRegion.scratch(bytes);
}

/** The last of a block's data chunks. */
export function lastChunk({ first, count, stride = 1 }: CodingTask): number {
  return first + (count - 1) * stride;
}

/** Whether a task is of a message of `chunkCount` chunks that brings `parityCount` parity chunks. */
export function isTaskWithin(task: CodingTask, chunkCount: number, parityCount: number): boolean {
  const { code, first, count, stride = 1, parityFirst, rows = { first: 0, count: code.m } } = task;
  const numbers = [first, count, stride, parityFirst, rows.first, rows.count];
  return (
    numbers.every((value) => Number.isInteger(value) && value >= 0) &&
    count >= 1 &&
    count <= code.k &&
    stride >= 1 &&
    lastChunk(task) < chunkCount &&
    parityFirst + code.m <= parityCount &&
    rows.first + rows.count <= code.m
  );
}
