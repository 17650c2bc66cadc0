/**
 * Blocks of an erasure code that are short of chunks, and when each is to be repaired. All in flat arrays, which grow
 * to what a message of the run has needed and are used again for the next.
 */

const ROOM_START = 64;

function grown<T extends Uint8Array | Float64Array | Uint32Array>(from: T, room: number): T {
  if (room <= from.length) return from;
  const Kind = from.constructor as new (length: number) => T;
  const to = new Kind(Math.max(room, 2 * from.length));
  to.set(from);
  return to;
}

/** What is to be done with which blocks, and when. */
export class Schedule {
  /** When the next of it is due; Infinity for none. */
  nextNs = Infinity;
  private readonly blocks = new Map<number, number[]>();

  clear(): void {
    this.blocks.clear();
    this.nextNs = Infinity;
  }

  add(ns: number, block: number): void {
    const others = this.blocks.get(ns);
    if (others === undefined) this.blocks.set(ns, [block]);
    else others.push(block);
    if (ns < this.nextNs) this.nextNs = ns;
  }

  /** Takes the blocks that are due first, in the order in which they were added. */
  take(): readonly number[] {
    const taken = this.blocks.get(this.nextNs) ?? [];
    this.blocks.delete(this.nextNs);
    this.nextNs = Infinity;
    for (const ns of this.blocks.keys()) if (ns < this.nextNs) this.nextNs = ns;
    return taken;
  }
}

export class ShortBlocks {
  /** When the receiver would ask for a block first, and when repairs go out. */
  readonly asks = new Schedule();
  readonly repairs = new Schedule();
  private readonly groups: number;
  private blocks = 0;
  private chunks = 0;
  /** By block: its first chunk, how many it lacks beyond its parity, and by group what it misses and has. */
  private first = new Uint32Array(ROOM_START);
  private lacks = new Uint32Array(ROOM_START);
  private missing: Uint8Array;
  private arrived: Uint8Array;
  /** By chunk: its group, and its fate, 0 when it has come. */
  private group = new Uint8Array(ROOM_START);
  private fate = new Float64Array(ROOM_START);

  constructor(groups: number) {
    this.groups = groups;
    this.missing = new Uint8Array(groups * ROOM_START);
    this.arrived = new Uint8Array(groups * ROOM_START);
  }

  clear(): void {
    this.blocks = 0;
    this.chunks = 0;
    this.asks.clear();
    this.repairs.clear();
  }

  /** When there is something to do next. */
  get nextNs(): number {
    return Math.min(this.asks.nextNs, this.repairs.nextNs);
  }

  /** A block with what each group misses and has; its missing chunks come after it. Returns its number. */
  add(lacks: number, missing: Uint8Array, arrived: Uint8Array): number {
    const block = this.blocks++;
    const at = block * this.groups;
    this.first = grown(this.first, block + 2);
    this.lacks = grown(this.lacks, block + 2);
    this.missing = grown(this.missing, at + this.groups);
    this.arrived = grown(this.arrived, at + this.groups);
    this.first[block] = this.chunks;
    this.first[block + 1] = this.chunks;
    this.lacks[block] = lacks;
    this.missing.set(missing, at);
    this.arrived.set(arrived, at);
    return block;
  }

  /** A missing chunk of the block that was added last. */
  addChunk(group: number, fate: number): void {
    this.group = grown(this.group, this.chunks + 1);
    this.fate = grown(this.fate, this.chunks + 1);
    this.group[this.chunks] = group;
    this.fate[this.chunks++] = fate;
    this.first[this.blocks] = this.chunks;
  }

  chunkFirst(block: number): number {
    return this.first[block]!;
  }

  chunkEnd(block: number): number {
    return this.first[block + 1]!;
  }

  fateOf(chunk: number): number {
    return this.fate[chunk]!;
  }

  /** A block's chunk has been sent again, and this is its fate now. True when that was what the block still lacked. */
  sent(block: number, chunk: number, fate: number): boolean {
    this.fate[chunk] = fate;
    if (fate > 0) return false;
    const at = block * this.groups + this.group[chunk]!;
    const isNeeded = this.missing[at]!-- > this.arrived[at]!;
    return isNeeded && --this.lacks[block]! === 0;
  }

  isMade(block: number): boolean {
    return this.lacks[block] === 0;
  }
}
