/** Every built-in policy against the policy suite: all of it in virtual time, a part of it on real sockets. */
import { expect, test } from "vitest";
import { POLICIES, parsePolicy } from "../../src/sdk/index.ts";
import { emulatedMaker } from "./emulated-fixture.ts";
import { erasureCompliance } from "./erasure.ts";
import { policyCompliance } from "./policy.ts";
import { udpMaker } from "./udp-fixture.ts";

test("there are policies to hold to the suite", () => {
  expect(POLICIES.map(({ name }) => name)).toEqual(
    expect.arrayContaining(["gbn", "sr-rto", "sr-nack", "ec-mds", "ec-xor", "hybrid", "auto"]),
  );
});

const udp = udpMaker({
  name: "udp",
  transport: {},
  attributes: { packetBytes: 1400, chunkBytes: 5600, rateBps: Number.POSITIVE_INFINITY },
});
for (const { name } of POLICIES) {
  policyCompliance(emulatedMaker(), () => parsePolicy(name));
  policyCompliance(udp, () => parsePolicy(name), { small: true });
}
erasureCompliance(emulatedMaker());
erasureCompliance(udp);
