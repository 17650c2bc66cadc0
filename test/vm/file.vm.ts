/**
 * Files by `sdr send` and `sdr recv` with real loss: here Node, the addon and the transport all run inside the guests.
 * The file lies on the host, which makes it from a seed, and is read through the shared file system.
 */
import { createHash } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Random } from "../../src/base/random.ts";
import { ADDRESSES, clearPath, deviceArguments, folder, guests, impair, root } from "./guests.ts";
import { listening, outcome, start, WAIT_MS_MAX } from "./programs.ts";

const BYTES = 64 << 20;
/** At the same time, as most of each is one end's processor at a time: its Node's start, its hash of the file. */
const TRANSFERS = [
  { policy: "sr-nack", from: 0, to: 1 },
  { policy: "ec-mds(32,8)", from: 1, to: 0 },
] as const;
const PORT = 7000;
/** About what emulated processors take in; faster, most of it would be lost at the receiver. */
const RATE = "100mbit";
const CLI = `'${process.execPath}' '${join(root, "dist", "cli", "main.js")}'`;

const file = join(folder, "file");
const bytes = new Uint8Array(BYTES);
new Random(64, "file").fill(bytes);
writeFileSync(file, bytes);
const sent = createHash("sha256").update(bytes).digest("hex");

/** On a busy machine a guest stands still for seconds, which is no sign of its end. */
const PEER_TIMEOUT = "60s";
const same = `--peer-timeout ${PEER_TIMEOUT} ${deviceArguments.join(" ")}`;
const out = "/run/received";

beforeAll(async () => {
  for (const { to } of TRANSFERS) {
    guests[to].run(`rm -rf ${out}; mkdir ${out}`);
    start(to, "recv", `${CLI} recv ${PORT} --host ${ADDRESSES[to]} --out ${out} --force ${same}`);
  }
  impair("loss 1% limit 20000");
  for (const { policy, from, to } of TRANSFERS) {
    await listening(to, "recv", PORT);
    const how = `--policy '${policy}' --packet 4096 --chunk 16KiB --rate ${RATE} --json ${same}`;
    start(from, "send", `${CLI} send ${file} ${ADDRESSES[to]}:${PORT} ${how}`);
  }
}, WAIT_MS_MAX);

afterAll(() => {
  clearPath();
  for (const guest of guests) guest.shell("pkill -TERM -f main.js");
  rmSync(file);
});

test.each(TRANSFERS)("64 MiB arrive whole by $policy with one percent lost", async (transfer) => {
  const { policy, from, to } = transfer;
  const report = JSON.parse(await outcome(from, "send"));
  await outcome(to, "recv");
  const [arrived] = guests[to].run(`sha256sum ${out}/file`).split(" ");
  expect(arrived).toBe(sent);
  expect(report).toMatchObject({ bytes: BYTES, policy, sha256: sent });
  const [, dropped] = /dropped (\d+)/.exec(guests[from].run("tc -s qdisc show dev eth0")) ?? [];
  expect(Number(dropped)).toBeGreaterThan(BYTES / 4096 / 500);
});
