/** The DPA program under emulation against the transport suite, with one worker and with two; policies and codes. */
import { POLICIES, parsePolicy } from "../../src/sdk/index.ts";
import { dpaMaker } from "./dpa-fixture.ts";
import { erasureCompliance } from "./erasure.ts";
import { policyCompliance } from "./policy.ts";
import { transportCompliance } from "./transport.ts";

const small = { packetBytes: 1024, chunkBytes: 4096 };
for (const workers of [1, 2]) {
  const name = `dpa-emulated, ${workers} worker${workers > 1 ? "s" : ""}`;
  transportCompliance(dpaMaker({ name, transport: { workers }, attributes: small }));
}
transportCompliance(
  dpaMaker({
    name: "dpa-emulated, one packet a chunk",
    transport: {},
    attributes: { packetBytes: 2048, chunkBytes: 2048 },
  }),
);

const fast = (workers: number) =>
  dpaMaker({
    name: "dpa-emulated",
    transport: { workers },
    attributes: { ...small, rateBps: Number.POSITIVE_INFINITY },
  });
const two = fast(2);
for (const { name } of POLICIES) policyCompliance(two, () => parsePolicy(name), { small: true });
// One worker: which packet is the n-th has to be certain, as these cases lose them by number.
erasureCompliance(fast(1));
