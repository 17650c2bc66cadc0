/** A report as lines for people. */
import { formatRate } from "../../base/units.ts";
import type { Backend, DeviceReport, HardwareReport, Reason } from "./diagnose.ts";
import type { Ability, GidFacts, PortFacts } from "./facts.ts";

/** Of a RoCE GID that maps an IPv4 address; else shortened as IPv6 addresses are. */
export function gidAddress(gid: string): string {
  const mapped = /^(?:0000:){5}ffff:([0-9a-f]{4}):([0-9a-f]{4})$/.exec(gid);
  if (mapped !== null) {
    const bytes = Buffer.from(`${mapped[1]}${mapped[2]}`, "hex");
    return [...bytes].join(".");
  }
  const groups = gid.split(":").map((group) => group.replace(/^0+(?=.)/, ""));
  const zeros = [...groups.join(":").matchAll(/(?:^|:)0(?::0)+(?=:|$)/g)].map(([run]) => run);
  const longest = zeros.reduce((best, run) => (run.length > best.length ? run : best), "");
  if (longest === "") return groups.join(":");
  return groups.join(":").replace(longest, "::").replace(/:{3,}/, "::");
}

const ANSWERS = new Map<boolean | null, string>([
  [true, "yes"],
  [false, "no"],
  [null, "not known"],
]);

function abilityLine(what: string, { can, how }: Ability): string {
  return `    ${what.padEnd(22)}${ANSWERS.get(can)?.padEnd(10)}${how}`;
}

function reasonLines(reasons: readonly Reason[], indent: string): string[] {
  return reasons.flatMap(({ what, remedy }) => [`${indent}${what}`, `${indent}  -> ${remedy}`]);
}

function gidLine({ index, type, gid, netdev }: GidFacts): string {
  const where = netdev === null || netdev === "" ? "" : ` on ${netdev}`;
  return `    GID ${String(index).padEnd(4)}${type.padEnd(9)}${gidAddress(gid)}${where}`;
}

function portLines({ port, state, linkLayer, activeMtu, maxMtu, rateBps, gids }: PortFacts) {
  const layer = linkLayer === "Ethernet" ? "Ethernet (RoCE)" : linkLayer;
  const most = maxMtu === null ? "" : ` (at most ${maxMtu})`;
  const mtu = activeMtu === null ? "MTU not known" : `MTU ${activeMtu}${most}`;
  const rate = rateBps === null ? "rate not known" : formatRate(rateBps);
  return [`  port ${port}: ${state}, ${layer}, ${mtu}, ${rate}`, ...gids.map(gidLine)];
}

function deviceLines(device: DeviceReport): string[] {
  const { name, driver, firmware, queuePairsMax, queueRequestsMax, completionsMax } = device;
  const limits =
    queuePairsMax === null
      ? ""
      : `, at most ${queuePairsMax} queue pairs of ${queueRequestsMax} requests, ${completionsMax} completions a queue`;
  return [
    `device ${name}: driver ${driver}${firmware === null ? "" : `, firmware ${firmware}`}${limits}`,
    ...device.ports.flatMap(portLines),
    "  can",
    abilityLine("UC", device.uc),
    abilityLine("write with immediate", device.writeWithImmediate),
    abilityLine("null key", device.nullKey),
    abilityLine("indirect keys", device.indirectKeys),
    abilityLine("dmabuf", device.dmabuf),
    abilityLine("DPA", device.dpa),
    device.usable ? `  usable: --device ${name}` : "  not usable:",
    ...reasonLines(device.reasons, "    "),
  ];
}

function backendLine(name: string, { available }: Backend, detail = ""): string {
  return `${name.padEnd(10)}${available ? "yes" : "no"}${detail}`;
}

export function reportText({ backends, devices }: HardwareReport): string {
  const { emulated, udp, verbs, dpa } = backends;
  const ways = {
    flexio: ", on the card, by FlexIO",
    emulation: ", emulated on this machine's processors",
    none: "",
  };
  const lines = [
    backendLine("emulated", emulated),
    ...reasonLines(emulated.reasons, "  "),
    backendLine("udp", udp),
    backendLine("verbs", verbs),
    ...reasonLines(verbs.reasons, "  "),
    backendLine("dpa", dpa, ways[dpa.implementation]),
    ...reasonLines(dpa.reasons, "  "),
    ...devices.flatMap((device) => ["", ...deviceLines(device)]),
  ];
  return `${lines.join("\n")}\n`;
}
