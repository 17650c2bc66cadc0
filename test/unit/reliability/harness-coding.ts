/**
 * The harness's codec: which chunks of a message are there, what a decode would make of them, and whether sessions ask
 * for coding, and hand out parity, as they may. Written apart from the policies, chunk by chunk.
 */
import type { ChunkRange, CodingTask } from "../../../src/reliability/policy.ts";

export interface Recovery {
  /** Data chunks made, and the parity chunks that it took. */
  readonly chunks: readonly number[];
  readonly parityUsed: number;
}

export type Has = (chunk: number) => boolean;

/** The task's data chunks. */
function chunksOf({ first, count, stride = 1 }: CodingTask): number[] {
  return Array.from({ length: count }, (_, i) => first + i * stride);
}

/** What a decode of the task's block brings; undefined when it is not recoverable. */
export function recover(task: CodingTask, hasData: Has, hasParity: Has): Recovery | undefined {
  const { code, first, parityFirst } = task;
  const chunks = chunksOf(task).filter((c) => !hasData(c));
  const recovery = { chunks, parityUsed: chunks.length };
  if (code.kind === "mds") {
    const parity = Array.from({ length: code.m }, (_, i) => parityFirst + i).filter(hasParity);
    return chunks.length <= parity.length ? recovery : undefined;
  }
  const groups = chunks.map((chunk) => (chunk - first) % code.m);
  const single = new Set(groups).size === groups.length;
  return single && groups.every((g) => hasParity(parityFirst + g)) ? recovery : undefined;
}

/** Follows the coding tasks and the parity of one message; `violated` is called when a session oversteps. */
export class CodingRules {
  private readonly chunkCount: number;
  private readonly violated: (what: string) => never;
  /** The code of all tasks, and the block of each chunk that was in one. */
  private code: CodingTask["code"] | undefined;
  private readonly blocks = new Map<number, number>();
  private readonly decoded = new Set<number>();
  /** Parity chunks by what became of them. */
  private readonly parity = { asked: new Set<number>(), encoded: new Set<number>() };
  private readonly parityOut = new Set<number>();

  constructor(chunkCount: number, violated: (what: string) => never) {
    this.chunkCount = chunkCount;
    this.violated = violated;
  }

  /** A task must be a block of the message; each block is decoded once, and each parity chunk made once. */
  check(kind: "encode" | "decode", task: CodingTask): void {
    const { code, first, count, stride, parityFirst } = task;
    const block = parityFirst / code.m;
    const isWhole =
      first === block * code.k && count === Math.min(code.k, this.chunkCount - first) && count > 0;
    this.code ??= code;
    const isBlock =
      Number.isInteger(block) &&
      JSON.stringify(code) === JSON.stringify(this.code) &&
      (stride === undefined ? isWhole : this.areOneBlock(chunksOf(task), block, code.k));
    if (!isBlock) this.violated(`${kind} of no block: ${JSON.stringify(task)}`);
    if (kind === "encode") this.askParity(task);
    else if (this.decoded.has(block)) this.violated(`a second decode of block ${block}`);
    else this.decoded.add(block);
  }

  /** Blocks that take turns have no chunk in common; the message's own chunks they are. */
  private areOneBlock(chunks: readonly number[], block: number, k: number): boolean {
    for (const chunk of chunks) {
      if ((this.blocks.get(chunk) ?? block) !== block) return false;
      this.blocks.set(chunk, block);
    }
    return chunks.length > 0 && chunks.length <= k && chunks.every((c) => c < this.chunkCount);
  }

  private rowsOf({ code, parityFirst, rows = { first: 0, count: code.m } }: CodingTask): number[] {
    if (rows.first < 0 || rows.count < 1 || rows.first + rows.count > code.m)
      this.violated(`rows ${rows.first}+${rows.count} of ${code.m}`);
    return Array.from({ length: rows.count }, (_, i) => parityFirst + rows.first + i);
  }

  private askParity(task: CodingTask): void {
    for (const chunk of this.rowsOf(task)) {
      if (this.parity.asked.has(chunk)) this.violated(`a second encode of parity chunk ${chunk}`);
      this.parity.asked.add(chunk);
    }
  }

  encodeDone(task: CodingTask): void {
    for (const chunk of this.rowsOf(task)) this.parity.encoded.add(chunk);
  }

  get decodes(): number {
    return this.decoded.size;
  }

  /** Parity: of one block, encoded, and each chunk once. */
  checkParity({ first, count }: ChunkRange): void {
    const m = this.code?.m ?? 1;
    if (Math.floor(first / m) !== Math.floor((first + count - 1) / m))
      this.violated(`parity ${first}+${count} of two blocks`);
    for (let chunk = first; chunk < first + count; chunk++) {
      if (!this.parity.encoded.has(chunk)) this.violated(`parity chunk ${chunk} is not encoded`);
      if (this.parityOut.has(chunk)) this.violated(`parity chunk ${chunk} twice`);
      this.parityOut.add(chunk);
    }
  }
}
