/** Finds out what the machine has: /sys, /dev, /proc, and libibverbs where it is there. Changes nothing. */
import {
  accessSync,
  constants,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
} from "node:fs";
import { networkInterfaces, release } from "node:os";
import { basename, join } from "node:path";
import { loadAddon } from "../../transport/loader.ts";
import type { Ability, DeviceFacts, GidFacts, HardwareFacts, PortFacts } from "./facts.ts";
import { VerbsLibrary } from "./verbs-library.ts";

const LIBRARY = "libibverbs.so.1";
const LIBRARY_VARIABLE = "SDR_IBVERBS";
const SYS = "/sys/class/infiniband";
const DEV = "/dev/infiniband";
/** Where DOCA and the stand-alone FlexIO put their library. */
const FLEXIO_FOLDERS = [
  ...["/opt/mellanox/flexio/lib", "/opt/mellanox/doca/lib/x86_64-linux-gnu"],
  ...["/opt/mellanox/doca/lib/aarch64-linux-gnu", "/usr/lib/x86_64-linux-gnu"],
  "/usr/lib/aarch64-linux-gnu",
];
const CAP_IPC_LOCK = 14n;
const PORTS_MAX = 16;
const GIDS_MAX = 256;
/** NVIDIA's part numbers of devices with a DPA. */
const DPA_PARTS: Readonly<Record<number, string>> = { 41692: "BlueField-3", 4131: "ConnectX-8" };
const MELLANOX_VENDORS = [0x02c9, 0x15b3];

function text(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}

function link(path: string): string | undefined {
  try {
    return basename(readlinkSync(path));
  } catch {
    return undefined;
  }
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] as string;
}

/** Soft-RoCE has no device below it, but names its network device. */
function driverOf(name: string): string {
  const folder = join(SYS, name);
  const known = link(join(folder, "device/driver"));
  if (known !== undefined) return known;
  if (existsSync(join(folder, "parent")) || /^rxe/.test(name)) return "rxe";
  return /^mlx5/.test(name) ? "mlx5_core" : "unknown";
}

const NO: (how: string) => Ability = (how) => ({ can: false, how });

/** What no exported call tells: by the driver. */
function driverAbilities(driver: string): Pick<DeviceFacts, "nullKey" | "indirectKeys"> {
  const how = `by its driver, ${driver}`;
  if (/^mlx5/.test(driver))
    return { nullKey: { can: true, how }, indirectKeys: { can: true, how } };
  if (driver === "unknown") {
    const unknown: Ability = { can: null, how: "the driver is not known" };
    return { nullKey: unknown, indirectKeys: unknown };
  }
  return { nullKey: NO(how), indirectKeys: NO(how) };
}

function dpaAbility(vendorId: number | null, partId: number | null): Ability {
  if (vendorId === null || partId === null)
    return { can: null, how: "its part number is not known" };
  const name = MELLANOX_VENDORS.includes(vendorId) ? DPA_PARTS[partId] : undefined;
  const part = `by its part number, ${partId}`;
  return name === undefined ? NO(part) : { can: true, how: `${part}: ${name}` };
}

function sysGids(name: string, port: number): GidFacts[] {
  const folder = join(SYS, name, "ports", String(port));
  const found: GidFacts[] = [];
  for (let index = 0; index < GIDS_MAX; index++) {
    const gid = text(join(folder, "gids", String(index)));
    if (gid === undefined) break;
    if (/^[0:]*$/.test(gid)) continue; // an empty place
    const type = text(join(folder, "gid_attrs/types", String(index)));
    const known = { "IB/RoCE v1": "RoCE v1", "RoCE v2": "RoCE v2", IB: "IB" } as const;
    found.push({
      index,
      gid,
      type: known[type as keyof typeof known] ?? "unknown",
      netdev: text(join(folder, "gid_attrs/ndevs", String(index))) ?? null,
    });
  }
  return found;
}

/** "400 Gb/sec (4X NDR)". */
function sysRate(name: string, port: number): number | null {
  const rate = text(join(SYS, name, "ports", String(port), "rate"));
  const parts = /^([\d.]+) Gb\/sec/.exec(rate ?? "");
  return parts === null ? null : Number(parts[1]) * 1e9;
}

function sysPort(name: string, port: number): Omit<PortFacts, "gids"> {
  const folder = join(SYS, name, "ports", String(port));
  const state = text(join(folder, "state"))
    ?.replace(/^\d+: /, "")
    .toLowerCase();
  const layer = text(join(folder, "link_layer"));
  return {
    port,
    state: (["down", "init", "armed", "active"] as const).find((one) => one === state) ?? "unknown",
    linkLayer: layer === "Ethernet" || layer === "InfiniBand" ? layer : "unknown",
    activeMtu: null,
    maxMtu: null,
    rateBps: null,
  };
}

/** A device of which only /sys tells. */
function closedDevice(name: string, openError: string): DeviceFacts {
  const driver = driverOf(name);
  const ports = list(join(SYS, name, "ports"))
    .map(Number)
    .filter(Number.isInteger);
  const closed: Ability = { can: null, how: "the device could not be opened" };
  return {
    name,
    driver,
    openError,
    firmware: text(join(SYS, name, "fw_ver")) || null,
    vendorId: null,
    partId: null,
    queuePairsMax: null,
    queueRequestsMax: null,
    completionsMax: null,
    ports: ports.map((port) => ({
      ...sysPort(name, port),
      rateBps: sysRate(name, port),
      gids: sysGids(name, port),
    })),
    uc: closed,
    writeWithImmediate: closed,
    dmabuf: closed,
    dpa: closed,
    ...driverAbilities(driver),
  };
}

function openDevices(library: VerbsLibrary): DeviceFacts[] {
  const found: DeviceFacts[] = [];
  library.withDevices((name, device) => {
    const facts = library.withContext(device, (open): DeviceFacts => {
      const driver = driverOf(name);
      const attributes = open.attributes();
      const table = open.gids();
      const count = Math.min(attributes?.ports ?? 1, PORTS_MAX);
      const ports = Array.from({ length: count }, (_, i): PortFacts => {
        const port = i + 1;
        const told = open.port(port) ?? sysPort(name, port);
        const gids = table
          ?.filter((entry) => entry.port === port)
          .map(({ gid, index, type }) => ({
            gid,
            index,
            type,
            netdev: netdevOf(name, port, index),
          }));
        return {
          ...told,
          rateBps: sysRate(name, port) ?? told.rateBps,
          gids: gids ?? sysGids(name, port),
        };
      });
      const { uc, dmabuf } = open.abilities();
      return {
        name,
        driver,
        openError: null,
        firmware: attributes?.firmware || null,
        vendorId: attributes?.vendorId ?? null,
        partId: attributes?.partId ?? null,
        queuePairsMax: attributes?.queuePairsMax ?? null,
        queueRequestsMax: attributes?.queueRequestsMax ?? null,
        completionsMax: attributes?.completionsMax ?? null,
        ports,
        uc,
        writeWithImmediate: uc.can === true ? { can: true, how: "UC queue pairs have it" } : uc,
        dmabuf,
        dpa: dpaAbility(attributes?.vendorId ?? null, attributes?.partId ?? null),
        ...driverAbilities(driver),
      };
    });
    found.push("error" in facts ? closedDevice(name, facts.error) : facts);
  });
  return found;
}

function netdevOf(name: string, port: number, index: number): string | null {
  return text(join(SYS, name, "ports", String(port), "gid_attrs/ndevs", String(index))) ?? null;
}

function deniedFiles(): string[] {
  return list(DEV)
    .filter((name) => name.startsWith("uverbs"))
    .map((name) => join(DEV, name))
    .filter((path) => {
      try {
        accessSync(path, constants.R_OK | constants.W_OK);
        return false;
      } catch {
        return true;
      }
    });
}

/** Null: no limit, or a process that may lock what it likes. */
export function readMemlock(limits: string, status: string): number | null {
  const capabilities = /^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1];
  if (capabilities !== undefined && ((BigInt(`0x${capabilities}`) >> CAP_IPC_LOCK) & 1n) === 1n)
    return null;
  const soft = /^Max locked memory\s+(\d+|unlimited)/m.exec(limits)?.[1];
  return soft === undefined || soft === "unlimited" ? null : Number(soft);
}

function rxeModule(kernel: string): HardwareFacts["rxeModule"] {
  if (existsSync("/sys/module/rdma_rxe")) return "loaded";
  const modules = text(`/lib/modules/${kernel}/modules.dep`);
  const builtIn = text(`/lib/modules/${kernel}/modules.builtin`);
  if (modules === undefined && builtIn === undefined) return "unknown";
  return /\/rdma_rxe\.ko/.test(`${modules}\n${builtIn}`) ? "available" : "missing";
}

function addonFacts(): HardwareFacts["addon"] {
  try {
    const addon = loadAddon() as Readonly<Record<string, unknown>>;
    const told = (name: string) => (typeof addon[name] === "boolean" ? addon[name] : null);
    return {
      error: null,
      verbs: told("hasVerbs"),
      flexio: told("hasFlexio"),
      dpaEmulation: typeof addon.createDpaContext === "function",
    };
  } catch (error) {
    return { error: messageOf(error), verbs: null, flexio: null, dpaEmulation: false };
  }
}

function flexioLibrary(): string | null {
  for (const folder of FLEXIO_FOLDERS) {
    const name = list(folder).find((entry) => /^libflexio\.so/.test(entry));
    if (name !== undefined) return join(folder, name);
  }
  return null;
}

function ethernetDevice(): string | null {
  const entries = Object.entries(networkInterfaces());
  const found = entries.find(([, addresses]) => addresses?.some(({ internal }) => !internal));
  return found?.[0] ?? null;
}

async function loadLibrary(path: string) {
  let koffi: typeof import("koffi");
  try {
    koffi = (await import("koffi")).default as unknown as typeof import("koffi");
  } catch (error) {
    return { koffiError: messageOf(error), library: undefined, error: "koffi is missing" };
  }
  try {
    return { koffiError: null, library: new VerbsLibrary(koffi, path), error: null };
  } catch (error) {
    return { koffiError: null, library: undefined, error: messageOf(error) };
  }
}

/** Errors: none; what could not be found out is null. */
export async function gather(): Promise<HardwareFacts> {
  const path = process.env[LIBRARY_VARIABLE] || LIBRARY;
  const { koffiError, library, error } = await loadLibrary(path);
  const kernel = release();
  let devices: DeviceFacts[] = [];
  let libraryError = error;
  try {
    if (library !== undefined) devices = openDevices(library);
  } catch (failure) {
    libraryError = messageOf(failure);
  }
  const known = new Set(devices.map(({ name }) => name));
  const others = list(SYS).filter((name) => !known.has(name));
  return {
    platform: process.platform,
    arch: process.arch,
    kernel,
    library: { path, error: libraryError },
    koffiError,
    addon: addonFacts(),
    uverbs: existsSync("/sys/class/infiniband_verbs"),
    rxeModule: rxeModule(kernel),
    deviceFolder: existsSync(DEV),
    deniedFiles: deniedFiles(),
    memlockBytes: readMemlock(text("/proc/self/limits") ?? "", text("/proc/self/status") ?? ""),
    flexioLibrary: flexioLibrary(),
    netdev: ethernetDevice(),
    devices: [...devices, ...others.map((name) => closedDevice(name, "not seen by libibverbs"))],
  };
}
