/** The emulated transport as a compliance fixture: virtual time. */
import { Context, EmulatedWorld } from "../../src/sdk/index.ts";
import type { Fixture, FixtureMaker, FixtureOptions } from "./fixture.ts";

/** More virtual time than any condition of a suite takes. */
const UNTIL_NS_MAX = 60e9;
const LOOK_EVERY_NS = 50_000;

export interface EmulatedFixture extends Fixture {
  readonly world: EmulatedWorld;
}

export function makeEmulated(options: FixtureOptions): EmulatedFixture {
  const world = new EmulatedWorld({ seed: options.seed });
  const a = Context.emulated(world, options.forward);
  const b = Context.emulated(world, options.backward);
  return {
    world,
    a,
    b,
    run: (work) => world.run(work),
    async until(what, condition) {
      const lastNs = world.nowNs() + UNTIL_NS_MAX;
      while (!condition()) {
        if (world.nowNs() >= lastNs) throw new Error(`not within ${UNTIL_NS_MAX} ns: ${what}`);
        await world.advance(LOOK_EVERY_NS);
      }
    },
    close() {
      a.close();
      b.close();
      world.close();
    },
  };
}

export function emulatedMaker(): FixtureMaker {
  const probe = new EmulatedWorld();
  const { capabilities } = Context.emulated(probe);
  return {
    name: "emulated",
    capabilities,
    attributes: { packetBytes: 1024, chunkBytes: 4096, maxMessageBytes: 1 << 20, maxMessages: 8 },
    make: makeEmulated,
  };
}
