/**
 * Seeded random streams. The same seed and name give the same numbers on every machine; streams of
 * different names are independent, so that adding a draw in one place changes nothing elsewhere.
 *
 * Generator: xoshiro128** (Blackman and Vigna, "Scrambled linear pseudorandom number generators",
 * 2021), the state a hash of seed and name. Not for secrets: keys come from node:crypto.
 */
import { check } from "./errors.ts";

/** MurmurHash3's 32-bit finaliser: every input bit reaches every output bit. */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

/** Starting points of the four lanes: the first words of the fractional part of pi. */
const LANES = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];

/** One 32-bit word of state from the seed's 64 bits and the name; the lanes differ in all of it. */
function stateWord(lane: number, seed: number, name: string): number {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, seed + 0); // -0 is 0.
  let h = mix(lane ^ bits.getUint32(0));
  h = mix(h + bits.getUint32(4));
  for (let i = 0; i < name.length; i++) h = mix(h + Math.imul(name.charCodeAt(i) + 1, 0x01000193));
  return mix(h ^ lane);
}

/** One step of xoshiro128**: advances the four words of `s`, returns the next number, 0 .. 2^32 - 1. */
export function nextWord(s: Uint32Array): number {
  const s1 = s[1]!;
  const result = Math.imul(rotateLeft(Math.imul(s1, 5), 7), 9) >>> 0;
  s[2]! ^= s[0]!;
  s[3]! ^= s1;
  s[1]! ^= s[2]!;
  s[0]! ^= s[3]!;
  s[2]! ^= s1 << 9;
  s[3] = rotateLeft(s[3]!, 11);
  return result;
}

export class Random {
  readonly seed: number;
  readonly name: string;
  readonly #s = new Uint32Array(4);

  /** Errors: INVALID_ARGUMENT when `seed` is not finite. */
  constructor(seed: number, name = "") {
    check(Number.isFinite(seed), `seed ${seed} is not a finite number`, "give an integer");
    this.seed = seed;
    this.name = name;
    for (const [index, lane] of LANES.entries()) this.#s[index] = stateWord(lane, seed, name);
    if (this.#s.every((word) => word === 0)) this.#s[0] = 1; // The one state it never leaves.
  }

  /** An independent stream; depends on this one's seed and name only, not on what was drawn. */
  stream(name: string): Random {
    return new Random(this.seed, `${this.name}/${name}`);
  }

  /** Uniform over 0 .. 2^32 - 1. */
  uint32(): number {
    return nextWord(this.#s);
  }

  /** Uniform over [0, 1), with all 53 bits. */
  float(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** Uniform over the integers first .. last, both included; without modulo bias. */
  int(first: number, last: number): number {
    check(
      Number.isSafeInteger(first) && Number.isSafeInteger(last) && last >= first,
      `no integers from ${first} to ${last}`,
      "give integers in ascending order",
    );
    const span = last - first + 1;
    check(span <= 2 ** 53, `${first} to ${last} is too wide`, "give a range below 2^53");
    if (span > 2 ** 32) return first + Math.floor(this.float() * span);
    const limit = 2 ** 32 - (2 ** 32 % span);
    let word = this.uint32();
    while (word >= limit) word = this.uint32(); // At most one in two is refused.
    return first + (word % span);
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.float() < probability;
  }

  /** One of the items. Errors: INVALID_ARGUMENT when there is none. */
  pick<T>(items: readonly T[]): T {
    check(items.length > 0, "nothing to pick from", "give at least one item");
    return items[this.int(0, items.length - 1)]!;
  }

  /** Reorders `items` in place, every order equally likely (Fisher and Yates); returns them. */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.int(0, i);
      const kept = items[i]!;
      items[i] = items[j]!;
      items[j] = kept;
    }
    return items;
  }

  /** Fills `bytes` with uniform bytes; returns them. */
  fill(bytes: Uint8Array): Uint8Array {
    let at = 0;
    for (; at + 4 <= bytes.length; at += 4) {
      const word = this.uint32();
      bytes[at] = word;
      bytes[at + 1] = word >>> 8;
      bytes[at + 2] = word >>> 16;
      bytes[at + 3] = word >>> 24;
    }
    for (; at < bytes.length; at++) bytes[at] = this.uint32();
    return bytes;
  }

  /** Standard normal, by Box and Muller. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.float()));
    return radius * Math.cos(2 * Math.PI * this.float());
  }
}
