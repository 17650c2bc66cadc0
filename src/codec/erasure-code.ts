/**
 * Erasure codes over chunks of equal size: from k data chunks m parity chunks are made, and lost data chunks are made
 * again from what is left. The work is done on native threads, one call at a time each; JavaScript goes on meanwhile.
 * Knows no message, policy or network.
 */
import { assert, check, SdrError } from "../base/errors.ts";
import { addon, CODEC_STATUS, type NativeCode } from "../transport/native.ts";

export interface ErasureCodeOptions {
  /**
   * `mds`: Cauchy Reed-Solomon over GF(2^8); any k of the k + m chunks suffice. `xor`: parity i is the sum of the data
   * chunks j with j mod m = i; one loss in each such group is recovered.
   */
  readonly kind: "mds" | "xor";
  /** Data chunks of a block, 1 or more. */
  readonly k: number;
  /** Parity chunks of a block, 1 or more; k + m at most 256; of `xor` at most k. */
  readonly m: number;
}

export interface DecodeRequest {
  /**
   * The block's data chunks, 1 to k of them, each at most as long as the parity. Those missing are written, to the
   * length that they have here; the others are only read.
   */
  readonly data: readonly ArrayBufferView[];
  /** The m parity chunks, all of the same length; null: missing. */
  readonly parity: readonly (ArrayBufferView | null)[];
  /** What is missing: data chunks by their index, parity chunk i as k + i. The order does not matter. */
  readonly missing: readonly number[];
}

export interface CodecInfo {
  /** The instructions in use: `scalar`, `avx2`, `gfni` or `neon`; SDR_CODEC_KERNEL names another. */
  readonly kernel: string;
  /** Most threads that encode and decode, shared by the whole process; SDR_CODEC_THREADS sets another number. */
  readonly threads: number;
}

/** What encodes and decodes on this machine. Errors: ENVIRONMENT when the addon cannot be loaded. */
export function codecInfo(): CodecInfo {
  return addon().codec();
}

const KIND_NUMBERS = { mds: 0, xor: 1 } as const;

/** @internal The native code of a shape. Errors: INVALID_ARGUMENT for a shape that no code has. */
export function createCode({ kind, k, m }: ErasureCodeOptions): NativeCode {
  const native = addon();
  try {
    return native.createCode(KIND_NUMBERS[kind], k, m);
  } catch (cause) {
    throw new SdrError(
      "INVALID_ARGUMENT",
      `there is no code ${String(kind)}(${String(k)},${String(m)})`,
      "mds or xor; k and m at least 1, together at most 256; xor: m at most k",
      { cause },
    );
  }
}

/**
 * A code of a given shape. It holds no data: one object serves any number of blocks at the same time, and blocks may
 * have chunks of different sizes. Chunks are views of ArrayBuffers (not shared, not resizable), of any length and
 * alignment. From a call until its promise is settled the buffers belong to it: do not write to those it reads, do
 * not touch those it writes, do not transfer (detach) any; they are kept from collection. Within one call a buffer
 * that is written overlaps no other. Wrong arguments reject the promise with INVALID_ARGUMENT, and nothing was
 * written; ENVIRONMENT: the system has no memory or thread left. Codes: SDR-RDMA, arXiv 2505.05366, section 4.1.
 */
export class ErasureCode {
  readonly kind: "mds" | "xor";
  readonly k: number;
  readonly m: number;
  private readonly native: NativeCode;

  /** Errors: INVALID_ARGUMENT for a shape that no code has; ENVIRONMENT when the addon cannot be loaded. */
  constructor({ kind, k, m }: ErasureCodeOptions) {
    this.kind = kind;
    this.k = k;
    this.m = m;
    this.native = createCode({ kind, k, m });
  }

  /** As in the names of policies, e.g. `mds(32,8)`. */
  toString(): string {
    return `${this.kind}(${this.k},${this.m})`;
  }

  /**
   * Writes the m parity chunks of a block of 1 to k data chunks. Parity chunks are all of one length, which no data
   * chunk exceeds: bytes that a shorter chunk does not have, and chunks that a shorter block does not have, count as
   * zeros.
   */
  async encode(
    data: readonly ArrayBufferView[],
    parity: readonly ArrayBufferView[],
  ): Promise<void> {
    const block = this.block(data);
    checkViews("parity", parity, this.m, this.m);
    const status = await settled(() => this.native.encode(block, parity));
    conclude(status, () => [...named("data", data), ...named("parity", parity, true)]);
  }

  /**
   * Adds data chunk `index` to the block's parity chunks, which begin as zeros: once each chunk was added, in any
   * order, they are what encode() writes. Await one update before the next of the same parity.
   */
  async update(
    index: number,
    chunk: ArrayBufferView,
    parity: readonly ArrayBufferView[],
  ): Promise<void> {
    check(ArrayBuffer.isView(chunk), `chunk is ${show(chunk)}`, "pass a view of an ArrayBuffer");
    checkViews("parity", parity, this.m, this.m);
    const status = await settled(() => this.native.update(index, chunk, parity));
    conclude(status, () => [
      { name: "chunk", view: chunk, isWritten: false },
      ...named("parity", parity, true),
    ]);
  }

  /**
   * Whether decode() can make the data chunks among `missing`, numbered as in DecodeRequest.
   * Errors: INVALID_ARGUMENT for an index out of range.
   */
  isRecoverable(missing: readonly number[]): boolean {
    return this.native.isRecoverable(this.presence(missing));
  }

  /**
   * Makes the missing data chunks, in place. Missing parity is not made again: encode() does.
   * Errors: UNRECOVERABLE_LOSS when what is left does not suffice: nothing was written then.
   */
  async decode({ data, parity, missing }: DecodeRequest): Promise<void> {
    const block = this.block(data);
    const present = this.presence(missing);
    checkViews("parity", parity, this.m, this.m, true);
    for (const i of missing) {
      const isThere = i < data.length || i >= this.k;
      check(isThere, `chunk ${i} is missing of a block of ${data.length}`, "list its own chunks");
    }
    for (const [i, chunk] of parity.entries()) if (chunk === null) present[this.k + i] = 0;
    const given = parity.find((chunk) => chunk !== null);
    const chunkBytes = given?.byteLength ?? Math.max(...data.map((chunk) => chunk.byteLength));
    const status = await settled(() => this.native.decode(block, parity, present, chunkBytes));
    if (status === CODEC_STATUS.tooFew) {
      const lost = [...present.keys()].filter((i) => present[i] === 0);
      throw new SdrError(
        "UNRECOVERABLE_LOSS",
        `chunks ${lost.join(", ")} are missing: more than ${this} can make good`,
        "get some of them by other means",
      );
    }
    conclude(status, () => [
      ...data.map((view, i) => ({ name: `data[${i}]`, view, isWritten: present[i] === 0 })),
      ...named("parity", parity).filter((_chunk, i) => present[this.k + i] === 1),
    ]);
  }

  /** A block as native code takes it: k chunks, null for those that it does not have. */
  private block(data: readonly ArrayBufferView[]): (ArrayBufferView | null)[] {
    checkViews("data", data, 1, this.k);
    return Array.from({ length: this.k }, (_none, i) => data[i] ?? null);
  }

  /** A flag a chunk: 1 unless missing. */
  private presence(missing: readonly number[]): Uint8Array {
    const chunks = this.k + this.m;
    check(Array.isArray(missing), `missing is ${show(missing)}`, "pass an array of chunk numbers");
    const present = new Uint8Array(chunks).fill(1);
    for (const index of missing) {
      check(
        Number.isInteger(index) && index >= 0 && index < chunks,
        `missing chunk ${show(index)} is not one of ${this}`,
        `data chunks are 0 to ${this.k - 1}, parity chunks ${this.k} to ${chunks - 1}`,
      );
      present[index] = 0;
    }
    return present;
  }
}

/** What is behind the views is native code's to check. */
function checkViews(
  name: string,
  views: readonly (ArrayBufferView | null)[],
  least: number,
  most: number,
  mayLack = false,
): void {
  const count = least === most ? most : `${least} to ${most}`;
  const remedy = `pass ${count} views of ArrayBuffers${mayLack ? ", null for those missing" : ""}`;
  check(Array.isArray(views), `${name} is ${show(views)}`, remedy);
  const { length } = views;
  check(length >= least && length <= most, `${name} has ${length} chunks, not ${count}`, remedy);
  for (const [i, view] of views.entries()) {
    const isRight = ArrayBuffer.isView(view) || (mayLack && view === null);
    check(isRight, `${name}[${i}] is ${show(view)}`, remedy);
  }
}

interface NamedView {
  readonly name: string;
  readonly view: ArrayBufferView | null;
  readonly isWritten: boolean;
}

function named(
  name: string,
  views: readonly (ArrayBufferView | null)[],
  isWritten = false,
): NamedView[] {
  return views.map((view, i) => ({ name: `${name}[${i}]`, view, isWritten }));
}

/** Gives native code its arguments, which it checks at once, and waits for the status that it ends with. */
async function settled(begin: () => Promise<number>): Promise<number> {
  let pending: Promise<number>;
  try {
    pending = begin();
  } catch (cause) {
    const remedy = "give chunks of the kind and the sizes that ErasureCode describes";
    throw new SdrError("INVALID_ARGUMENT", (cause as Error).message, remedy, { cause });
  }
  try {
    return await pending;
  } catch (cause) {
    const remedy = "leave fewer calls pending, or use smaller chunks";
    throw new SdrError("ENVIRONMENT", (cause as Error).message, remedy, { cause });
  }
}

function conclude(status: number, views: () => NamedView[]): void {
  if (status === CODEC_STATUS.ok) return;
  assert(status === CODEC_STATUS.overlap, `the codec was given what it takes (status ${status})`);
  const [a, b] = overlapping(views());
  throw new SdrError(
    "INVALID_ARGUMENT",
    `${a} and ${b} overlap in memory`,
    "what is written needs memory of its own",
  );
}

/** The first two that share bytes of which one is written. */
function overlapping(views: readonly NamedView[]): [string, string] {
  const end = (view: ArrayBufferView) => view.byteOffset + view.byteLength;
  for (const [i, a] of views.entries()) {
    for (const b of views.slice(i + 1)) {
      if (a.view === null || b.view === null || a.view.buffer !== b.view.buffer) continue;
      const apart = end(a.view) <= b.view.byteOffset || end(b.view) <= a.view.byteOffset;
      if (!apart && (a.isWritten || b.isWritten)) return [a.name, b.name];
    }
  }
  return ["two buffers", "one another"];
}

function show(value: unknown): string {
  return typeof value === "object" && value !== null
    ? (value.constructor?.name ?? "an object")
    : String(value);
}
