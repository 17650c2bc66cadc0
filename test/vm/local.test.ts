/**
 * The transport suite over agents on this machine: what carries calls to a guest carries them to a child process here,
 * so that its own mistakes show without virtual machines.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import { Context } from "../../src/sdk/index.ts";
import { transportCompliance } from "../compliance/transport.ts";
import { beginServing, remoteMaker } from "./fixture.ts";
import { Guest } from "./remote.ts";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = mkdtempSync(join(tmpdir(), "sdr-agents-"));
const processes: ChildProcess[] = [];

async function startAgent(name: string): Promise<Guest> {
  const paths = [join(folder, `rpc${name}`), join(folder, `wake${name}`)] as const;
  const agent = spawn(join(root, "build-native", "agent"), ["--unix", ...paths], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  processes.push(agent);
  await once(agent.stdout!, "data"); // it says that it is listening
  return Guest.connect(...paths);
}

beginServing();
const guests = [await startAgent("1"), await startAgent("2")] as const;

transportCompliance(
  remoteMaker({
    name: "udp between two agents",
    guests,
    attributes: { packetBytes: 1024, chunkBytes: 4096, rateBps: 400e6 },
    open: (_end, link, seed) => Context.udp({ link, seed }),
  }),
);

afterAll(async () => {
  for (const guest of guests) guest.close();
  await Promise.all(processes.map((one) => one.exitCode === null && once(one, "exit")));
  rmSync(folder, { recursive: true, force: true });
});
