/**
 * The verbs transport over emulated devices against the transport suite: both key schemes, channels, UC and RC; and
 * policies of each kind, with parity in its own memory.
 */
import { describe, expect, test } from "vitest";
import { parsePolicy } from "../../src/sdk/index.ts";
import { erasureCompliance } from "./erasure.ts";
import { withPair } from "./fixture.ts";
import { policyCompliance } from "./policy.ts";
import { transportCompliance } from "./transport.ts";
import { dataCases } from "./transport-data.ts";
import { DEVICES, useEmulatedDevice, verbsMaker } from "./verbs-fixture.ts";

const unavailable = useEmulatedDevice(DEVICES);
const small = { packetBytes: 1024, chunkBytes: 4096 };
const variants = [
  {
    name: "verbs, keys of each message",
    devices: ["rxe0", "rxe1"],
    transport: {},
    attributes: small,
  },
  { name: "verbs, root key", devices: ["mlx5_0", "mlx5_1"], transport: {}, attributes: small },
  {
    name: "verbs, root key, 3 channels",
    devices: ["mlx5_0", "mlx5_1"],
    transport: { channels: 3 },
    attributes: { packetBytes: 512, chunkBytes: 2048 },
  },
] as const;
for (const variant of variants) transportCompliance(verbsMaker(variant, unavailable));

// A card answers a write to a revoked key with an error, which ends an RC queue pair: what gives messages up while
// their data is under way is for UC alone.
const reliable = verbsMaker(
  {
    name: "verbs, RC, 2 channels",
    devices: ["rxe0", "rxe1"],
    transport: { reliable: true, channels: 2 },
    attributes: small,
  },
  unavailable,
);
describe.skipIf(unavailable !== undefined)(`transport: ${reliable.name}`, () => {
  describe("data", () => dataCases(reliable));
  test("what is sent to a peer that has closed is not waited for", () =>
    withPair(reliable, {}, async ({ qa, run }) => {
      await run(qa.close());
      expect(qa.counters().sendErrors).toBe(0);
    }));
});

if (unavailable === undefined) {
  for (const { name, devices } of variants.slice(0, 2)) {
    const maker = verbsMaker({ name, devices, transport: {}, attributes: small });
    for (const policy of ["sr-nack", "ec-mds", "hybrid"])
      policyCompliance(maker, () => parsePolicy(policy), { small: true });
    erasureCompliance(maker);
  }
}
