/** UDP between two contexts of this process as a compliance fixture: real time, bounded waits. */
import {
  Context,
  type QueuePairAttributes,
  type UdpTransportOptions,
} from "../../src/sdk/index.ts";
import type { FixtureMaker, FixtureOptions } from "./fixture.ts";

/** A hang ends here; nothing is measured by it. */
const WAIT_MS_MAX = 60_000;

async function withDeadline<T>(what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`not within ${WAIT_MS_MAX} ms: ${what}`)),
      WAIT_MS_MAX,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Looks again after each turn of the event loop, where the transport's events come in. */
async function poll(condition: () => boolean, stopped: () => boolean): Promise<void> {
  while (!condition() && !stopped()) await new Promise((resolve) => setImmediate(resolve));
}

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
        a,
        b,
        run: (work) => withDeadline("the promise to settle", work),
        async until(what, condition) {
          let stopped = false;
          try {
            await withDeadline(
              what,
              poll(condition, () => stopped),
            );
          } finally {
            stopped = true;
          }
        },
        unknownDatagrams: () =>
          (b.transport as unknown as { unknownDatagrams(): number }).unknownDatagrams(),
        close() {
          a.close();
          b.close();
        },
      };
    },
  };
}
