/** A view of a chunk bitmap: bit c is bit (c & 31) of word c >> 5. Never copies; works on whole words. */
export class ChunkBitmap {
  readonly words: Uint32Array;
  readonly chunkCount: number;

  constructor(words: Uint32Array, chunkCount: number) {
    this.words = words;
    this.chunkCount = chunkCount;
  }

  has(chunk: number): boolean {
    return (
      chunk >= 0 &&
      chunk < this.chunkCount &&
      ((this.words[chunk >>> 5] as number) >>> (chunk & 31)) % 2 === 1
    );
  }

  /** First clear bit at or after `from`, or chunkCount. */
  nextClear(from: number): number {
    return this.next(from, 0xffffffff);
  }

  /** First set bit at or after `from`, or chunkCount. */
  nextSet(from: number): number {
    return this.next(from, 0);
  }

  /** First set bit in [from, limit), or `limit`, which is at most chunkCount: looks no further. */
  nextSetBelow(from: number, limit: number): number {
    const end = (limit + 31) >>> 5;
    for (let index = from >>> 5, at = from; index < end; index++, at = index << 5) {
      const word = ((this.words[index] as number) >>> (at & 31)) << (at & 31);
      if (word !== 0) return Math.min((index << 5) + 31 - Math.clz32(word & -word), limit);
    }
    return limit;
  }

  private next(from: number, invert: number): number {
    const { words, chunkCount } = this;
    if (from >= chunkCount) return chunkCount;
    let index = from >>> 5;
    const last = (chunkCount - 1) >>> 5;
    let word = (((words[index] as number) ^ invert) >>> (from & 31)) << (from & 31);
    while (word === 0) {
      if (index === last) return chunkCount;
      index++;
      word = (words[index] as number) ^ invert;
    }
    const bit = (index << 5) + 31 - Math.clz32(word & -word);
    return Math.min(bit, chunkCount);
  }

  /** Last set bit, or -1. Starts the search at the end and stops at `downTo`. */
  lastSet(downTo = 0): number {
    for (let index = (this.chunkCount - 1) >> 5; index >= downTo >> 5; index--) {
      const word = this.words[index] as number;
      if (word !== 0) return (index << 5) + 31 - Math.clz32(word);
    }
    return -1;
  }

  /** Set bits below chunkCount. */
  count(): number {
    let total = 0;
    for (let at = this.nextSet(0); at < this.chunkCount; ) {
      const end = this.nextClear(at);
      total += end - at;
      at = this.nextSet(end);
    }
    return total;
  }
}
