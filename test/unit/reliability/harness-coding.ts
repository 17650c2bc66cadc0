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

/** What a decode of the task's block brings; undefined when it is not recoverable. */
export function recover(task: CodingTask, hasData: Has, hasParity: Has): Recovery | undefined {
  const { code, first, count, parityFirst } = task;
  const chunks = Array.from({ length: count }, (_, i) => first + i).filter((c) => !hasData(c));
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
  private readonly encoded = new Map<number, CodingTask>();
  private readonly tasks = { encode: new Set<number>(), decode: new Set<number>() };
  private readonly parityOut = new Set<number>();

  constructor(chunkCount: number, violated: (what: string) => never) {
    this.chunkCount = chunkCount;
    this.violated = violated;
  }

  /** A task must be a block of the message, and each block's only one of its kind. */
  check(kind: "encode" | "decode", task: CodingTask): void {
    const { code, first, count, parityFirst } = task;
    const block = first / code.k;
    const isBlock =
      Number.isInteger(block) &&
      count === Math.min(code.k, this.chunkCount - first) &&
      count > 0 &&
      parityFirst === block * code.m;
    if (!isBlock) this.violated(`${kind} of no block: ${JSON.stringify(task)}`);
    if (this.tasks[kind].has(block)) this.violated(`a second ${kind} of block ${block}`);
    this.tasks[kind].add(block);
  }

  encodeDone(task: CodingTask): void {
    this.encoded.set(task.parityFirst, task);
  }

  get decodes(): number {
    return this.tasks.decode.size;
  }

  /** Parity: of one block, encoded, and each chunk once. */
  checkParity({ first, count }: ChunkRange): void {
    const m = this.encoded.values().next().value?.code.m ?? 1;
    const task = this.encoded.get(Math.floor(first / m) * m);
    if (task === undefined || first + count > task.parityFirst + m)
      this.violated(`parity ${first}+${count} of no encoded block`);
    for (let chunk = first; chunk < first + count; chunk++) {
      if (this.parityOut.has(chunk)) this.violated(`parity chunk ${chunk} twice`);
      this.parityOut.add(chunk);
    }
  }
}
