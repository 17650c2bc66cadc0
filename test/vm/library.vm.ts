/**
 * The C library over Soft-RoCE between the guests: one program that uses every published call, one end in each. Built
 * on the host, read through the shared file system.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { ADDRESSES, DEVICE, guests, root } from "./guests.ts";

const PROGRAM = join(root, "build-native", "c_every_call");
const PORT = 7100;

test("every call, one end in each guest", () => {
  guests[1].run(
    `rm -f /run/every.*; (${PROGRAM} ${DEVICE} recv ${ADDRESSES[1]} ${PORT} > /run/every.out 2>&1; ` +
      `echo $? > /run/every.status) > /dev/null 2>&1 &`,
  );
  const listening = `grep -q ':${PORT.toString(16).toUpperCase()} ' /proc/net/tcp`;
  guests[1].run(`for i in $(seq 100); do ${listening} && exit 0; sleep 0.1; done; exit 1`);
  const sent = guests[0].shell(`timeout 40 ${PROGRAM} ${DEVICE} send ${ADDRESSES[1]} ${PORT} 2>&1`);
  const received = guests[1].shell(
    "for i in $(seq 100); do test -s /run/every.status && break; sleep 0.1; done; cat /run/every.out",
  );
  expect(sent.text).toContain("every call passed");
  expect(received.text).toContain("every call passed");
});
