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

const BYTES = 64 << 20;
/** At the same time, as most of each is one end's processor at a time: its Node's start, its hash of the file. */
const TRANSFERS = [
  { policy: "sr-nack", from: 0, to: 1 },
  { policy: "ec-mds(32,8)", from: 1, to: 0 },
] as const;
const PORT = 7000;
/** About what emulated processors take in; faster, most of it would be lost at the receiver. */
const RATE = "100mbit";
const WAIT_MS_MAX = 240_000;
const LOOK_MS = 200;
const CLI = `'${process.execPath}' '${join(root, "dist", "cli", "main.js")}'`;

const file = join(folder, "file");
const bytes = new Uint8Array(BYTES);
new Random(64, "file").fill(bytes);
writeFileSync(file, bytes);
const sent = createHash("sha256").update(bytes).digest("hex");

/** Begins a command of `sdr` in a guest; its output goes to NAME.out there, its status to NAME.status. */
function start(end: 0 | 1, name: string, args: string): void {
  guests[end].run(
    `rm -f /run/${name}.*; (${CLI} ${args} > /run/${name}.out 2> /run/${name}.err; ` +
      `echo $? > /run/${name}.status) > /dev/null 2>&1 &`,
  );
}

/** What a command has said so far, its status first. */
const said = (end: 0 | 1, name: string) =>
  guests[end].shell(`cd /run; cat ${name}.status ${name}.out ${name}.err`).text;

/** Waits until a shell command succeeds in a guest; fails with what `sdr NAME` said when that ends before. */
async function until(end: 0 | 1, name: string, command: string): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  for (;;) {
    const isLast =
      guests[end].shell(`test -s /run/${name}.status`).status === 0 || performance.now() > deadline;
    if (guests[end].shell(command).status === 0) return;
    if (isLast) throw new Error(`sdr ${name} did not come to '${command}': ${said(end, name)}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** On a busy machine a guest stands still for seconds, which is no sign of its end. */
const PEER_TIMEOUT = "60s";
const same = `--peer-timeout ${PEER_TIMEOUT} ${deviceArguments.join(" ")}`;
const out = "/run/received";

beforeAll(async () => {
  for (const { to } of TRANSFERS) {
    guests[to].run(`rm -rf ${out}; mkdir ${out}`);
    start(to, "recv", `recv ${PORT} --host ${ADDRESSES[to]} --out ${out} --force ${same}`);
  }
  impair("loss 1% limit 20000");
  for (const { policy, from, to } of TRANSFERS) {
    await until(to, "recv", `grep -q ':${PORT.toString(16).toUpperCase()} ' /proc/net/tcp`);
    const how = `--policy '${policy}' --packet 4096 --chunk 16KiB --rate ${RATE} --json ${same}`;
    start(from, "send", `send ${file} ${ADDRESSES[to]}:${PORT} ${how}`);
  }
}, WAIT_MS_MAX);

afterAll(() => {
  clearPath();
  for (const guest of guests) guest.shell("pkill -TERM -f main.js");
  rmSync(file);
});

test.each(TRANSFERS)("64 MiB arrive whole by $policy with one percent lost", async (transfer) => {
  const { policy, from, to } = transfer;
  await until(from, "send", "grep -qx 0 /run/send.status");
  await until(to, "recv", "grep -qx 0 /run/recv.status");
  const report = JSON.parse(guests[from].run("cat /run/send.out"));
  const [arrived] = guests[to].run(`sha256sum ${out}/file`).split(" ");
  expect(arrived).toBe(sent);
  expect(report).toMatchObject({ bytes: BYTES, policy, sha256: sent });
  const [, dropped] = /dropped (\d+)/.exec(guests[from].run("tc -s qdisc show dev eth0")) ?? [];
  expect(Number(dropped)).toBeGreaterThan(BYTES / 4096 / 500);
});
