/** Runs the compiled command line as a user would: child processes, their output and their end. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

export const MAIN = resolve(fileURLToPath(import.meta.url), "../../../../dist/cli/main.js");
/** Longest wait for a condition; far beyond what it takes. */
const WAIT_MS = 30_000;
const POLL_MS = 5;

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const running = new Set<Sdr>();

export class Sdr {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  stdout = "";
  stderr = "";
  private readonly ended: Promise<Ended>;

  constructor(command: string, args: readonly string[]) {
    this.child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.child.stdout.setEncoding("utf8").on("data", (text) => {
      this.stdout += text;
    });
    this.child.stderr.setEncoding("utf8").on("data", (text) => {
      this.stderr += text;
    });
    running.add(this);
    this.ended = once(this.child, "close").then(([status, signal]) => {
      running.delete(this);
      return { status, signal, stdout: this.stdout, stderr: this.stderr };
    });
  }

  end(): Promise<Ended> {
    return this.ended;
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

export function start(...args: string[]): Sdr {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is missing: run "npm run build:ts"`);
  return new Sdr(process.execPath, [MAIN, ...args]);
}

export function run(...args: string[]): Promise<Ended> {
  return start(...args).end();
}

/** `sdr recv 0` on loopback that is ready, and where to send to. */
export async function receiver(
  folder: string,
  ...args: string[]
): Promise<{ sdr: Sdr; to: string; port: number }> {
  return listening(start("recv", "0", "--host", "127.0.0.1", "--out", folder, ...args));
}

export async function listening(sdr: Sdr): Promise<{ sdr: Sdr; to: string; port: number }> {
  await until("the receiver listens", () => /listening.* port \d+/.test(sdr.stderr));
  const port = Number(/ port (\d+)/.exec(sdr.stderr)?.[1]);
  return { sdr, to: `127.0.0.1:${port}`, port };
}

/** Waits, bounded, until `holds`. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  for (let waited = 0; !holds(); waited += POLL_MS) {
    if (waited > WAIT_MS) throw new Error(`waited in vain until ${what}`);
    await new Promise((resume) => setTimeout(resume, POLL_MS));
  }
}

const folders: string[] = [];

export function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), "sdr-test-"));
  folders.push(folder);
  return folder;
}

/** Ends what a failed test left running, and removes its files. */
export async function cleanUp(): Promise<void> {
  const left = [...running];
  for (const sdr of left) sdr.kill("SIGKILL");
  for (const sdr of left) await sdr.end();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
}
