/** The two guests that test/vm/run.mjs has booted, as the suites meet them. */
import { join } from "node:path";
import { Guest } from "./remote.ts";

export const ADDRESSES = ["10.9.0.1", "10.9.0.2"] as const;

/** Connects to both agents. Once a process. */
export async function connectGuests(): Promise<readonly [Guest, Guest]> {
  const folder = process.env.SDR_VM_FOLDER;
  if (folder === undefined) throw new Error("no guests: use npm run test:rxe");
  const guest = (role: 1 | 2) =>
    Guest.connect(join(folder, `rpc${role}`), join(folder, `wake${role}`));
  return [await guest(1), await guest(2)];
}
