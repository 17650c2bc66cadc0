/** Two contexts on the emulated DPA as a compliance fixture: real time, bounded waits. */
import {
  Context,
  type DpaTransportOptions,
  type QueuePairAttributes,
} from "../../src/sdk/index.ts";
import type { FixtureMaker } from "./fixture.ts";
import { realTime } from "./real-time.ts";

export interface DpaVariant {
  readonly name: string;
  readonly transport: DpaTransportOptions;
  readonly attributes: QueuePairAttributes;
}

export function dpaMaker({ name, transport, attributes }: DpaVariant): FixtureMaker {
  using probe = Context.dpa(transport);
  const { capabilities } = probe;
  return {
    name,
    capabilities,
    attributes: { maxMessageBytes: 4 << 20, maxMessages: 8, rateBps: 400e6, ...attributes },
    make({ forward, backward, seed }) {
      const a = Context.dpa({ ...transport, link: forward, seed });
      const b = Context.dpa({ ...transport, link: backward, seed: seed + 1 });
      return realTime(a, b);
    },
  };
}
