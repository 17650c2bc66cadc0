/** What every command shares: output, and ending on a signal. */
import { writeSync } from "node:fs";
import { SdrError } from "../base/errors.ts";

let documents = 0;

/** The command's one JSON document on stdout: a second one, of an error after the result, is left out. */
export function printJson(value: object): void {
  if (documents++ === 0) print(`${JSON.stringify(value, null, 2)}\n`);
}

export function print(text: string): void {
  process.stdout.write(text);
}

/** A line for people, beside the result. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Runs a command with a signal that SIGINT, SIGTERM and SIGHUP abort, so that it can put its things in order. A second
 * one ends the process at once.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) {
      writeSync(2, "sdr: ABORTED: interrupted twice\n");
      process.exit(1);
    }
    controller.abort(new SdrError("ABORTED", `interrupted by ${name}`, ""));
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  try {
    return await work(controller.signal);
  } finally {
    for (const name of SIGNALS) process.off(name, onSignal);
  }
}
