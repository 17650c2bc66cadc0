/**
 * The transport suite and the policies' from one guest to the other: one policy that repeats and one that codes, as
 * there are three minutes; SDR_VM_POLICIES=all takes every one, and more time.
 */
import { POLICIES, parsePolicy } from "../../src/sdk/index.ts";
import { policyCompliance } from "../compliance/policy.ts";
import { transportCompliance } from "../compliance/transport.ts";
import { maker } from "./guests.ts";

const all = process.env.SDR_VM_POLICIES === "all";
const names = all ? POLICIES.map(({ name }) => name) : ["sr-nack", "ec-mds"];

transportCompliance(maker);
for (const name of names) policyCompliance(maker, () => parsePolicy(name), { small: true });
