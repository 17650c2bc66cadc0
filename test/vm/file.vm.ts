/**
 * Files by `sdr send` and `sdr recv` with real loss: here Node, the addon and the transport all run inside the guests.
 * The file lies on the host, which makes it from a seed, and is read through the shared file system.
 */
import { createHash } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { Random } from "../../src/base/random.ts";
import { ADDRESSES, clearPath, deviceArguments, folder, guests, impair, root } from "./guests.ts";

const BYTES = 64 << 20;
const POLICIES = ["sr-nack", "ec-mds(32,8)"];
const PORT = 7000;
const WAIT_MS_MAX = 60_000;
const LOOK_MS = 200;
const CLI = `'${process.execPath}' '${join(root, "dist", "cli", "main.js")}'`;

const file = join(folder, "file");
const bytes = new Uint8Array(BYTES);
new Random(64, "file").fill(bytes);
writeFileSync(file, bytes);
const sent = createHash("sha256").update(bytes).digest("hex");

afterAll(() => {
  clearPath();
  rmSync(file);
});

/** Begins a command of `sdr` in a guest; its output goes to NAME.out there, its status to NAME.status. */
function start(end: 0 | 1, name: string, args: string): void {
  guests[end].run(
    `rm -f /run/${name}.*; (${CLI} ${args} > /run/${name}.out 2> /run/${name}.err; ` +
      `echo $? > /run/${name}.status) > /dev/null 2>&1 &`,
  );
}

async function until(what: string, command: string, end: 0 | 1): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  while (guests[end].shell(command).status !== 0) {
    if (performance.now() > deadline) throw new Error(`not within ${WAIT_MS_MAX} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

async function ended(end: 0 | 1, name: string): Promise<string> {
  await until(`sdr ${name} to end`, `test -s /run/${name}.status`, end);
  const { text } = guests[end].shell(`cat /run/${name}.status /run/${name}.err`);
  expect(text.trim(), `status and errors of sdr ${name}`).toBe("0");
  return guests[end].run(`cat /run/${name}.out`);
}

test.each(POLICIES)("64 MiB arrive whole by %s with 1 %% loss", async (policy) => {
  clearPath();
  impair("loss 1% limit 20000");
  const device = deviceArguments.join(" ");
  const out = "/run/received";
  guests[1].run(`rm -rf ${out}; mkdir ${out}`);
  const receive = `recv ${PORT} --host ${ADDRESSES[1]} --out ${out} --json ${device}`;
  start(1, "recv", receive);
  const listening = `grep -q ':${PORT.toString(16).toUpperCase()} ' /proc/net/tcp`;
  await until("sdr recv to listen", `${listening} || test -s /run/recv.status`, 1);
  start(0, "send", `send ${file} ${ADDRESSES[1]}:${PORT} --policy '${policy}' --json ${device}`);
  const report = JSON.parse(await ended(0, "send"));
  await ended(1, "recv");
  const [arrived] = guests[1].run(`sha256sum ${out}/file`).split(" ");
  expect(arrived).toBe(sent);
  process.stdout.write(`${policy}: ${JSON.stringify(report)}\n`);
});
