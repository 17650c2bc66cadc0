/** The transport suite and every policy's, from one guest to the other. */
import { Context, POLICIES, parsePolicy } from "../../src/sdk/index.ts";
import { policyCompliance } from "../compliance/policy.ts";
import { transportCompliance } from "../compliance/transport.ts";
import { beginServing, remoteMaker } from "./fixture.ts";
import { ADDRESSES, connectGuests } from "./guests.ts";

beginServing();
const guests = await connectGuests();
const udp = remoteMaker({
  name: "udp between two guests",
  guests,
  attributes: { packetBytes: 1024, chunkBytes: 4096, rateBps: 100e6 },
  open: (end, link, seed) => Context.udp({ address: ADDRESSES[end], link, seed }),
});
transportCompliance(udp);
for (const { name } of POLICIES) policyCompliance(udp, () => parsePolicy(name), { small: true });
