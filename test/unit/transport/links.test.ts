/** Links that a program hands to a transport: refused as INVALID_ARGUMENT before anything is opened or changed. */
import { describe, expect, it } from "vitest";
import type { LinkProfile } from "../../../src/link/profile.ts";
import { Context } from "../../../src/sdk/context.ts";
import { EmulatedWorld } from "../../../src/transport/emulated.ts";
import { UdpTransport } from "../../../src/transport/udp.ts";

const WRONG: [name: string, link: LinkProfile][] = [
  ["a rate below one bit a second", { rateBps: 0.5 }],
  ["a delay beyond an hour", { delayNs: 3_600_000_000_001 }],
  ["a delay that is not a number", { delayNs: Number.NaN }],
  ["a probability above one", { loss: "bernoulli", lossProbability: 1.5 }],
  ["a trace that is missing", { loss: "trace" }],
];
const REFUSED = expect.objectContaining({ code: "INVALID_ARGUMENT" });

describe("a link is refused with", () => {
  it.each(WRONG)("%s", async (_name, link) => {
    expect(() => new UdpTransport({ link })).toThrow(REFUSED);
    const world = new EmulatedWorld();
    expect(() => world.transport(link)).toThrow(REFUSED);
    const transport = world.transport({});
    expect(() => world.setLink(transport, link)).toThrow(REFUSED);
    const a = Context.emulated(world).createQueuePair();
    const b = Context.emulated(world).createQueuePair();
    await world.run(() => Promise.all([a.connect(b.info()), b.connect(a.info())]));
    expect(() => a.setLink(link)).toThrow(REFUSED);
    a.setLink({});
  });
});

describe("a queue pair", () => {
  it("has no link to replace before it is connected", () => {
    const qp = Context.emulated(new EmulatedWorld()).createQueuePair();
    expect(() => qp.setLink({})).toThrow(REFUSED);
  });
});
