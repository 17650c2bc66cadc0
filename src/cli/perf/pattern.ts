/**
 * The bytes of a run's messages. All come from one piece of pseudo-random memory, each message from another place in
 * it, so that what an earlier message left in a receive buffer is not taken for a later one's.
 */
import { Random } from "../../base/random.ts";
import { MemoryRegion } from "../../sdk/region.ts";

const PLACES = 251; // prime: messages that share a buffer come from different places
const STEP_BYTES = 16;
const SEED = 0x5d_72;
/** What is drawn; the rest repeats it. No whole number of chunks, so that no chunk is like another. */
const DRAWN_BYTES = 2 ** 20 + 13;

function fill(data: Uint8Array): void {
  let filled = Math.min(DRAWN_BYTES, data.length);
  new Random(SEED, "perf").fill(data.subarray(0, filled));
  for (; filled < data.length; filled *= 2) data.copyWithin(filled, 0, filled);
}

export class Pattern {
  readonly region: MemoryRegion;
  private readonly bytes: number;

  /** For messages of `bytes`; equal at both ends. */
  constructor(bytes: number) {
    this.bytes = bytes;
    this.region = MemoryRegion.allocate(bytes + PLACES * STEP_BYTES);
    fill(this.region.data);
  }

  /** Where in the region the message's bytes are. */
  offset(message: number): number {
    return (message % PLACES) * STEP_BYTES;
  }

  isIntact(message: number, data: Uint8Array): boolean {
    const from = this.offset(message);
    return Buffer.compare(data, this.region.data.subarray(from, from + this.bytes)) === 0;
  }
}
