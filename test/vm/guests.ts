/** The two guests that test/vm/run.mjs has booted, as the suites meet them. Importing it connects to both agents. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Context } from "../../src/sdk/index.ts";
import { beginServing, remoteMaker } from "./fixture.ts";
import { Guest } from "./remote.ts";

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const ADDRESSES = ["10.9.0.1", "10.9.0.2"] as const;
export const DEVICE = "rxe0";
/** As test/vm/init.sh leaves it, and test/vm/guests.mjs gives them their addresses. */
const MTU = 4400;
const MAC = "52:54:00:00:00:0";

function sharedFolder(): string {
  const named = process.env.SDR_VM_FOLDER;
  if (named === undefined) throw new Error("no guests: use npm run test:rxe");
  return named;
}

/** Of the host, and seen by the guests under the same name. */
export const folder = sharedFolder();

const connect = (role: 1 | 2) =>
  Guest.connect(join(folder, `rpc${role}`), join(folder, `wake${role}`));

beginServing();
export const guests = [await connect(1), await connect(2)] as const;

/** The transport between them: Soft-RoCE on their network. */
export const maker = remoteMaker({
  name: "verbs (rxe) between two guests",
  guests,
  attributes: { packetBytes: 1024, chunkBytes: 4096, rateBps: 100e6 },
  open: (_end, link, seed) => Context.verbs({ device: DEVICE, link, seed }),
});

/** What `sdr send` and `sdr recv` are told to use the same. */
export const deviceArguments = ["--device", DEVICE];

/** Has both guests' network do this to what they send: terms of tc-netem; empty: nothing. */
export function impair(path: string): void {
  if (path === "") return;
  for (const guest of guests) guest.run(`tc qdisc replace dev eth0 root netem ${path}`);
}

export function clearPath(): void {
  for (const guest of guests) guest.shell("tc qdisc del dev eth0 root");
}

/** After the second guest's link was down. */
export function restoreLink(): void {
  guests[1].run(
    `ip link set eth0 mtu ${MTU} up && ` +
      `ip neigh replace ${ADDRESSES[0]} lladdr ${MAC}1 dev eth0 nud permanent`,
  );
}
