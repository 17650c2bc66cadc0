/** UDP between two contexts of this process as a compliance fixture: real time, bounded waits. */
import {
  Context,
  type QueuePairAttributes,
  type UdpTransportOptions,
} from "../../src/sdk/index.ts";
import type { FixtureMaker, FixtureOptions } from "./fixture.ts";
import { realTime } from "./real-time.ts";

export interface UdpVariant {
  readonly name: string;
  readonly transport: UdpTransportOptions;
  readonly attributes: QueuePairAttributes;
}

/** Why this machine cannot run a variant, or undefined. */
function probe(options: UdpTransportOptions) {
  try {
    const context = Context.udp(options);
    const { capabilities } = context;
    context.close();
    return { capabilities };
  } catch (error) {
    const context = Context.udp({});
    const { capabilities } = context;
    context.close();
    return { capabilities, unavailable: (error as Error).message };
  }
}

export function udpMaker(variant: UdpVariant): FixtureMaker {
  const { transport } = variant;
  const { capabilities, unavailable } = probe(transport);
  return {
    name: variant.name,
    capabilities,
    unavailable,
    attributes: {
      maxMessageBytes: 4 << 20,
      maxMessages: 8,
      // One-shot sends have no window: paced, they leave the receiving thread time to read.
      rateBps: 400e6,
      ...variant.attributes,
    },
    make(options: FixtureOptions) {
      const a = Context.udp({ ...transport, link: options.forward, seed: options.seed });
      const b = Context.udp({ ...transport, link: options.backward, seed: options.seed + 1 });
      return {
        ...realTime(a, b),
        unknownDatagrams: () =>
          (b.transport as unknown as { unknownDatagrams(): number }).unknownDatagrams(),
      };
    },
  };
}
