/** Programs that run whole inside the guests: begun in the background, and waited for. */
import { guests } from "./guests.ts";

/** Bounds a hang; busy machines take minutes. */
export const WAIT_MS_MAX = 240_000;
/** Between looks, each a command that takes the guest's one processor from the program. */
const LOOK_MS = 200;

/** Begins a program in a guest; there, what it prints goes to /run/NAME.out and NAME.err, its status to NAME.status. */
export function start(end: 0 | 1, name: string, command: string): void {
  guests[end].run(
    `rm -f /run/${name}.*; (${command} > /run/${name}.out 2> /run/${name}.err; ` +
      `echo $? > /run/${name}.status) > /dev/null 2>&1 &`,
  );
}

/** What a program has said so far, its status first. */
const said = (end: 0 | 1, name: string) =>
  guests[end].shell(`cd /run; cat ${name}.status ${name}.out ${name}.err`).text;

/** Waits until a shell command succeeds in a guest; fails with what program NAME said when that ends before. */
async function until(end: 0 | 1, name: string, command: string): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  for (;;) {
    const isLast =
      guests[end].shell(`test -s /run/${name}.status`).status === 0 || performance.now() > deadline;
    if (guests[end].shell(command).status === 0) return;
    if (isLast) throw new Error(`${name} did not come to '${command}': ${said(end, name)}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Until the program listens on a TCP port. */
export const listening = (end: 0 | 1, name: string, port: number) =>
  until(end, name, `grep -q ':${port.toString(16).toUpperCase()} ' /proc/net/tcp`);

/** What the program said on standard output, once it has ended well. */
export async function outcome(end: 0 | 1, name: string): Promise<string> {
  await until(end, name, `grep -qx 0 /run/${name}.status`);
  return guests[end].run(`cat /run/${name}.out`);
}
