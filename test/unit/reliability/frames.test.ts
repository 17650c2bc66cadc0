import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { decodeFrames, encodeFrame, frameBytes } from "../../../src/reliability/codec.ts";
import type { ControlFrame } from "../../../src/reliability/frames.ts";
import {
  FRAME_HEADER_BYTES,
  FRAME_KINDS,
  POLICY_KIND_MIN,
} from "../../../src/reliability/frames.ts";

interface ValidVector {
  title: string;
  sequence: number;
  frame: Record<string, unknown>;
  hex: string;
}
interface InvalidVector {
  title: string;
  hex: string;
  frames: number;
}
const file = new URL("../../vectors/frames.json", import.meta.url);
const vectors = JSON.parse(readFileSync(file, "utf8")) as {
  valid: ValidVector[];
  invalid: InvalidVector[];
};

/** JSON has no typed arrays and no undefined. */
function frameOf(fields: Record<string, unknown>): ControlFrame {
  const frame = { ...fields };
  if (frame.kind === "ack") frame.selective = Uint32Array.from(frame.selective as number[]);
  if (frame.grant !== undefined) frame.grant = Uint8Array.from(frame.grant as number[]);
  if (frame.kind === "policy") frame.payload = Uint8Array.from(frame.payload as number[]);
  if (frame.kind === "start") frame.immediate = frame.immediate ?? undefined;
  return frame as unknown as ControlFrame;
}

function encode(frame: ControlFrame, sequence: number): Uint8Array {
  const out = new Uint8Array(frameBytes(frame)).fill(0xee);
  expect(encodeFrame(frame, sequence, out, 0)).toBe(out.length);
  return out;
}

describe("golden vectors", () => {
  test.each(vectors.valid)("$title: fields become these bytes", ({ frame, sequence, hex }) => {
    expect(Buffer.from(encode(frameOf(frame), sequence)).toString("hex")).toBe(hex);
  });

  test.each(vectors.valid)("$title: bytes become these fields", ({ frame, sequence, hex }) => {
    const { frames, reason } = decodeFrames(Buffer.from(hex, "hex"));
    expect(reason).toBeUndefined();
    expect(frames).toEqual([{ frame: frameOf(frame), sequence }]);
  });

  test.each(vectors.invalid)("refused: $title", ({ hex, frames }) => {
    const decoded = decodeFrames(Buffer.from(hex, "hex"));
    expect(decoded.frames.length).toBe(frames);
    expect(decoded.reason).toMatch(/./);
  });

  test("every kind is among them", () => {
    const kinds = new Set(vectors.valid.map(({ frame }) => frame.kind));
    expect([...kinds].sort()).toEqual([...Object.keys(FRAME_KINDS), "policy"].sort());
  });
});

describe("encoding", () => {
  test("frames lie back to back at any offset of a view, and nothing else is touched", () => {
    const all = vectors.valid.map(({ frame, sequence }) => ({ frame: frameOf(frame), sequence }));
    const bytes = all.reduce((sum, { frame }) => sum + frameBytes(frame), 0);
    const backing = new Uint8Array(bytes + 20).fill(0xaa);
    const view = new DataView(backing.buffer, 3, bytes + 7);
    let at = 4;
    for (const { frame, sequence } of all) at += encodeFrame(frame, sequence, view, at);
    expect(at).toBe(bytes + 4);
    expect([...decodeFrames(backing.subarray(7, 7 + bytes))]).toEqual(all);
    expect(backing.subarray(0, 7).every((byte) => byte === 0xaa)).toBe(true);
    expect(backing.subarray(7 + bytes).every((byte) => byte === 0xaa)).toBe(true);
  });

  test("the message number given last takes the place of the frame's own", () => {
    const out = new Uint8Array(FRAME_HEADER_BYTES);
    encodeFrame({ kind: "done", message: 0 }, 1, out, 0, 77);
    expect(decodeFrames(out).frames[0]?.frame).toEqual({ kind: "done", message: 77 });
  });

  test("a policy name the wire cannot carry is an argument error that shows it", () => {
    const out = new Uint8Array(200);
    for (const policy of ["x".repeat(65), "caf\u00e9", "a\nb"]) {
      const frame: ControlFrame = { kind: "cts", message: 1, maxBytes: 1, policy };
      expect(() => encodeFrame(frame, 1, out, 0)).toThrow(
        expect.objectContaining({
          code: "INVALID_ARGUMENT",
          message: expect.stringContaining(JSON.stringify(policy)),
        }),
      );
    }
  });
});

/** A frame of any kind with random fields, all in range. */
function randomFrame(random: Random): ControlFrame {
  const message = random.uint32();
  const u53 = () => random.int(0, Number.MAX_SAFE_INTEGER);
  const text = () => String.fromCharCode(...words(random, 64).map((word) => 0x20 + (word % 95)));
  switch (random.int(0, 8)) {
    case 0: {
      const cts = { kind: "cts", message, maxBytes: u53(), policy: text() } as const;
      const grant = Uint8Array.from(words(random, 16), (word) => word & 0xff);
      return grant.length % 4 === 0 && grant.length > 0 ? { ...cts, grant } : cts;
    }
    case 1: {
      const immediate = random.chance(0.5) ? random.uint32() : undefined;
      return { kind: "start", message, bytes: u53(), immediate, policy: text() };
    }
    case 2:
      return {
        kind: "ack",
        message,
        cumulative: random.uint32(),
        latestChunk: random.uint32(),
        delayNs: u53(),
        selectiveBase: random.int(0, 2 ** 31),
        selective: Uint32Array.from(words(random, 20)),
      };
    case 3: {
      let end = 0;
      const ranges = [...words(random, 20), 7].map((word) => {
        const first = end + (word % 5);
        const count = 1 + ((word >>> 8) % 1000);
        end = first + count;
        return { first, count };
      });
      return { kind: "nack", message, ranges };
    }
    case 4:
      return { kind: "done", message };
    case 5:
      return { kind: "ping", timeNs: u53(), padding: random.int(0, 1500) };
    case 6:
      return { kind: "pong", timeNs: u53(), padding: random.int(0, 9) };
    case 7: {
      const scope = random.pick(["connection", "send", "receive"] as const);
      const number = scope === "connection" ? 0 : message;
      return { kind: "close", message: number, scope, reason: random.int(0, 65535) };
    }
    default: {
      const payload = Uint8Array.from(words(random, 40));
      return { kind: "policy", message, type: random.int(POLICY_KIND_MIN, 255), payload };
    }
  }
}

function words(random: Random, countMax: number): number[] {
  return Array.from({ length: random.int(0, countMax) }, () => random.uint32());
}

/** Random frames of one datagram and their bytes. */
function randomDatagram(random: Random) {
  const frames = Array.from({ length: random.int(1, 4) }, () => ({
    frame: randomFrame(random),
    sequence: random.uint32(),
  }));
  const parts = frames.map(({ frame, sequence }) => encode(frame, sequence));
  return { frames, bytes: new Uint8Array(Buffer.concat(parts)) };
}

function mutate(bytes: Uint8Array, random: Random): Uint8Array {
  const out = bytes.slice(0, random.chance(0.3) ? random.int(0, bytes.length) : bytes.length);
  for (let n = random.int(0, 3); n > 0 && out.length > 0; n--) {
    // Half of the damage goes to where headers and counts live.
    const at = random.int(0, Math.min(out.length, random.chance(0.5) ? 36 : out.length) - 1);
    out[at] = random.chance(0.5)
      ? random.int(0, 255)
      : (out[at] as number) ^ (1 << random.int(0, 7));
  }
  return out;
}

describe("fuzz", () => {
  const seed = Number(process.env.SDR_SEED ?? 20250508);
  console.log(`frames fuzz: seed ${seed} (SDR_SEED=${seed} repeats it)`);

  test("2000 random datagrams survive encoding and decoding", () => {
    const random = new Random(seed, "round trip");
    for (let i = 0; i < 2000; i++) {
      const { frames, bytes } = randomDatagram(random);
      expect(decodeFrames(bytes)).toMatchObject({ frames, reason: undefined });
    }
  });

  test("20000 mutations and truncations never throw, and what is accepted encodes to the same bytes", () => {
    const random = new Random(seed, "mutation");
    let accepted = 0;
    let refused = 0;
    for (let i = 0; i < 20_000; i++) {
      const bytes = mutate(randomDatagram(random).bytes, random);
      const { frames, reason } = decodeFrames(bytes);
      let at = 0;
      for (const { frame, sequence } of frames) {
        const again = encode(frame, sequence);
        // Re-encoding is the identity on accepted bytes: no field was ignored.
        if (Buffer.compare(again, bytes.subarray(at, at + again.length)) !== 0)
          throw new Error(`seed ${seed} case ${i}: ${Buffer.from(bytes).toString("hex")}`);
        at += again.length;
      }
      if (reason === undefined) expect(at).toBe(bytes.length);
      accepted += frames.length;
      refused += reason === undefined ? 0 : 1;
    }
    expect(accepted).toBeGreaterThan(1000);
    expect(refused).toBeGreaterThan(1000);
  });

  test("20000 datagrams of noise never throw", () => {
    const random = new Random(seed, "noise");
    for (let i = 0; i < 20_000; i++) {
      const bytes = random.fill(new Uint8Array(random.int(0, 80)));
      if (bytes.length > 3) {
        bytes[0] = 1;
        bytes[1] = random.int(0, 70);
        bytes[2] = 0;
      }
      for (const { frame } of decodeFrames(bytes)) expect(frameBytes(frame)).toBeGreaterThan(0);
    }
  });
});
