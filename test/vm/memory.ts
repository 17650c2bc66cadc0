/**
 * Memory of two machines kept alike: which bytes of this process a native region has, and copies of them at an agent.
 * What is to be sent goes there before it is posted; what arrived there comes back by sync(), guard bytes around
 * receives included, so that a stray write would be seen.
 */
import { addon, type NativeCode, type NativeRegion } from "../../src/transport/native.ts";
import type { Channel } from "./channel.ts";
import { OP, type Reader, type Writer } from "./wire.ts";

interface Known {
  readonly number: number;
  readonly view: Uint8Array;
}

export interface CodeShape {
  readonly kind: number;
  readonly k: number;
  readonly m: number;
}

const regions = new WeakMap<NativeRegion, Known>();
const codes = new WeakMap<NativeCode, CodeShape>();
let regionsMade = 0;

function remember<T extends NativeRegion>(region: T, view: Uint8Array): T {
  regions.set(region, { number: ++regionsMade, view });
  return region;
}

/** Has the addon's regions and codes remembered from now on. Once a process, before the first is made. */
export function watchMemory(): void {
  const native = addon() as {
    -readonly [K in keyof ReturnType<typeof addon>]: ReturnType<typeof addon>[K];
  };
  const { createRegion, allocateRegion, createCode } = native;
  native.createRegion = (buffer) =>
    remember(
      createRegion(buffer),
      ArrayBuffer.isView(buffer)
        ? new Uint8Array(buffer.buffer as ArrayBuffer, buffer.byteOffset, buffer.byteLength)
        : new Uint8Array(buffer),
    );
  native.allocateRegion = (bytes) => {
    const region = allocateRegion(bytes);
    return remember(region, new Uint8Array(region.buffer));
  };
  // Parity is made in this process: its bytes must be seen to be sent.
  native.scratchRegion = native.allocateRegion;
  native.createCode = (kind, k, m) => {
    const code = createCode(kind, k, m);
    codes.set(code, { kind, k, m });
    return code;
  };
}

export function shapeOf(code: NativeCode): CodeShape {
  const shape = codes.get(code);
  if (shape === undefined) throw new TypeError("not an erasure code");
  return shape;
}

function known(region: NativeRegion): Known {
  const found = regions.get(region);
  if (found === undefined) throw new TypeError("not a memory region");
  if (found.view.byteLength !== region.bytes)
    throw new TypeError("the region's ArrayBuffer was detached");
  return found;
}

/** Bytes compared at once. */
const BLOCK_BYTES = 4096;
/** Receives whose memory is looked at by sync(): the last ones. */
const WATCHED_MAX = 256;

interface Copy {
  readonly number: number;
  readonly view: Uint8Array;
  /** What the agent has there; zeros at first. */
  there: Uint8Array | undefined;
}

/** The copies that one agent has. */
export class Mirror {
  private readonly channel: Channel;
  private copies = new WeakMap<NativeRegion, Copy>();
  private readonly watched = new Map<
    number,
    { readonly region: NativeRegion; readonly copy: Copy }
  >();
  private readonly gone = new FinalizationRegistry<number>((number) => {
    this.channel.frame(OP.regionDrop).u32(number);
    this.channel.tell();
  });

  constructor(channel: Channel) {
    this.channel = channel;
  }

  /** The agent has forgotten everything. */
  forget(): void {
    this.copies = new WeakMap();
    this.watched.clear();
  }

  /** The number of a region that the agent has then, of whatever contents; 0 for null. */
  number(region: NativeRegion | null): number {
    return region === null ? 0 : this.copy(region).number;
  }

  /** The same, with the bytes of a range as they are here. */
  upload(region: NativeRegion | null, offset: number, bytes: number): number {
    if (region === null) return 0;
    const copy = this.copy(region);
    const end = Math.min(offset + bytes, copy.view.length);
    copy.there ??= new Uint8Array(copy.view.length);
    const differs = (at: number) => {
      const to = Math.min(at + BLOCK_BYTES, end);
      return Buffer.compare(copy.view.subarray(at, to), copy.there!.subarray(at, to)) !== 0;
    };
    for (let at = offset; at < end; ) {
      if (!differs(at)) {
        at += BLOCK_BYTES;
        continue;
      }
      let to = at;
      while (to < end && differs(to)) to += BLOCK_BYTES;
      this.write(copy, at, Math.min(to, end));
      at = to;
    }
    return copy.number;
  }

  /** The same for a receive, whose region is watched from now on: all of it. */
  watch(region: NativeRegion | null): number {
    if (region === null) return 0;
    const number = this.upload(region, 0, region.bytes);
    this.watched.delete(number);
    this.watched.set(number, { region, copy: this.copy(region) });
    if (this.watched.size > WATCHED_MAX) {
      const [first] = this.watched.keys();
      this.watched.delete(first!);
    }
    return number;
  }

  /** Brings what has changed in watched regions over here. */
  sync(): void {
    if (this.watched.size === 0) return;
    this.writeNumbers(this.channel.frame(OP.sync), [...this.watched.keys()]);
    this.readChanges(this.channel.ask().from);
  }

  /** Names regions whose changes are asked for; `readChanges` takes the answer. */
  writeNumbers(out: Writer, numbers: readonly number[]): void {
    out.u32(numbers.length);
    for (const number of numbers) out.u32(number);
  }

  readChanges(from: Reader): void {
    for (let n = from.u32(); n > 0; n--) {
      const [number, offset, bytes] = [from.u32(), from.f64(), from.data()];
      const copy = this.watched.get(number)?.copy;
      if (copy === undefined || copy.view.length === 0) continue; // detached, or long ago
      copy.view.set(bytes, offset);
      copy.there?.set(bytes, offset);
    }
  }

  private copy(region: NativeRegion): Copy {
    let copy = this.copies.get(region);
    if (copy === undefined) {
      const { number, view } = known(region);
      copy = { number, view, there: undefined };
      this.copies.set(region, copy);
      this.write(copy, 0, 0);
      this.gone.register(region, number);
    }
    known(region);
    return copy;
  }

  private write(copy: Copy, from: number, to: number): void {
    const bytes = copy.view.subarray(from, to);
    const out = this.channel.frame(OP.regionWrite).u32(copy.number).f64(copy.view.length);
    out.f64(from).data(bytes);
    copy.there?.set(bytes, from);
    this.channel.tell();
  }
}
