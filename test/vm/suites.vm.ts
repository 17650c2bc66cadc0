/** The transport suite and every policy's, from one guest to the other. */
import { POLICIES, parsePolicy } from "../../src/sdk/index.ts";
import { policyCompliance } from "../compliance/policy.ts";
import { transportCompliance } from "../compliance/transport.ts";
import { maker } from "./guests.ts";

transportCompliance(maker);
for (const { name } of POLICIES) policyCompliance(maker, () => parsePolicy(name), { small: true });
