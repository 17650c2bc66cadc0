/** What is not given of a queue pair's sizes follows from what is, and suffices to send something. */
import { describe, expect, it } from "vitest";
import { parseLink } from "../../../src/link/profile.ts";
import { resolveAttributes } from "../../../src/sdk/attributes.ts";
import { Context, EmulatedWorld, type QueuePairAttributes } from "../../../src/sdk/index.ts";

const context = Context.emulated(new EmulatedWorld({ seed: 1 }), parseLink("none"));
const resolve = (given: QueuePairAttributes) => resolveAttributes(given, context.capabilities);

describe("by default", () => {
  it("a message takes two thirds of the packet numbers, and parity the rest", () => {
    const { maxMessageBytes, maxParityBytes } = resolve({ packetBytes: 1024, chunkBytes: 65_536 });
    expect(maxMessageBytes).toBe(2 * Math.floor(2 ** 18 / 64 / 3) * 65_536);
    expect(maxParityBytes).toBe(maxMessageBytes / 2);
  });

  it.each<[string, QueuePairAttributes]>([
    ["one chunk and a bit", { packetBytes: 1400, split: [22, 6, 4] }],
    ["two chunks", { packetBytes: 1024, chunkBytes: 131_072, split: [20, 8, 4] }],
    ["less than a chunk", { packetBytes: 1024, chunkBytes: 131_072, split: [25, 3, 4] }],
  ])("a split of %s is a message's alone", (_name, given) => {
    const { maxMessageBytes, maxParityBytes, packetBytes, split } = resolve(given);
    expect(maxMessageBytes).toBe(packetBytes * 2 ** split[1]);
    expect(maxParityBytes).toBe(0);
    context.createQueuePair(given).close();
  });
});
