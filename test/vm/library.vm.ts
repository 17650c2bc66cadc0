/**
 * The C library over Soft-RoCE between the guests: one program that uses every published call, one end in each. Built
 * on the host, read through the shared file system.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { ADDRESSES, DEVICE, root } from "./guests.ts";
import { listening, outcome, start } from "./programs.ts";

const PROGRAM = join(root, "build-native", "c_every_call");
const PORT = 7100;

test("every call, one end in each guest", async () => {
  const command = (role: string) =>
    `timeout 200 ${PROGRAM} ${DEVICE} ${role} ${ADDRESSES[1]} ${PORT}`;
  start(1, "receiver", command("recv"));
  await listening(1, "receiver", PORT);
  start(0, "sender", command("send"));
  expect(await outcome(0, "sender")).toContain("every call passed");
  expect(await outcome(1, "receiver")).toContain("every call passed");
});
