/**
 * The verbs transport over an emulated RDMA device (test/verbs) as a compliance fixture: two devices of one process,
 * real time. The device is what is emulated; everything from the SDK to the calls of libibverbs is as on a card.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  Context,
  type QueuePairAttributes,
  type VerbsTransportOptions,
} from "../../src/sdk/index.ts";
import { addon } from "../../src/transport/native.ts";
import type { FixtureMaker, FixtureOptions } from "./fixture.ts";
import { realTime } from "./real-time.ts";

const LIBRARIES = { SDR_IBVERBS: "libibverbs-emulated.so", SDR_MLX5: "libmlx5-emulated.so" };

/** Makes this process use the emulated device; once, before anything opens a real one. Why it cannot, or undefined. */
export function useEmulatedDevice(config: string): string | undefined {
  if (!addon().hasVerbs) return "the addon was built without rdma-core's headers";
  for (const [variable, name] of Object.entries(LIBRARIES)) {
    const path = fileURLToPath(new URL(`../../build-native/${name}`, import.meta.url));
    if (!existsSync(path))
      return `${path} is not built (node cmake/build.mjs native-test-programs)`;
    process.env[variable] = path;
  }
  process.env.SDR_EMULATED_VERBS = config;
  return undefined;
}

/** A Soft-RoCE pair and an mlx5 pair: keys of each message on the one, one root key on the other. */
export const DEVICES = [
  "device rxe0 rxe; port 1 active mtu 1024; gid 1 v2 10.0.0.1",
  "device rxe1 rxe; port 1 active mtu 1024; gid 1 v2 10.0.0.2",
  "device mlx5_0 mlx5; port 1 active mtu 4096; gid 3 v2 10.0.1.1",
  "device mlx5_1 mlx5; port 1 active mtu 4096; gid 3 v2 10.0.1.2",
].join("\n");

export interface VerbsVariant {
  readonly name: string;
  readonly devices: readonly [string, string];
  readonly transport: Omit<VerbsTransportOptions, "device">;
  readonly attributes: QueuePairAttributes;
}

export function verbsMaker(variant: VerbsVariant, unavailable?: string): FixtureMaker {
  const open = (index: 0 | 1, more: Partial<VerbsTransportOptions> = {}) =>
    Context.verbs({ device: variant.devices[index], ...variant.transport, ...more });
  return {
    name: variant.name,
    unavailable,
    capabilities: unavailable === undefined ? capabilitiesOf(open(0)) : ({} as never),
    attributes: {
      maxMessageBytes: 4 << 20,
      maxMessages: 8,
      // One-shot sends have no window: paced, they leave the receiving thread time to poll.
      rateBps: 400e6,
      ...variant.attributes,
    },
    make(options: FixtureOptions) {
      const a = open(0, { link: options.forward, seed: options.seed });
      const b = open(1, { link: options.backward, seed: options.seed + 1 });
      return realTime(a, b);
    },
  };
}

function capabilitiesOf(context: Context) {
  const { capabilities } = context;
  context.close();
  return capabilities;
}
