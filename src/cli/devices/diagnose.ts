/** From facts to what they mean: which backends are available, why not, and what to do. Nothing is found out here. */
import type { DeviceFacts, HardwareFacts } from "./facts.ts";

/** Stable names of what is wrong. */
export type ReasonId =
  | "platform"
  | "addon-missing"
  | "addon-without-verbs"
  | "ffi-missing"
  | "library-missing"
  | "kernel-module"
  | "device-folder"
  | "permission"
  | "no-device"
  | "device-open"
  | "port-down"
  | "no-gid"
  | "no-uc"
  | "memlock"
  | "flexio-missing"
  | "no-dpa-device"
  | "addon-without-flexio"
  | "addon-without-dpa";

export interface Reason {
  readonly id: ReasonId;
  readonly what: string;
  readonly remedy: string;
}

export interface Backend {
  readonly available: boolean;
  /** Why not; or, where it is available, what will get in the way. */
  readonly reasons: readonly Reason[];
}

export interface DeviceReport extends DeviceFacts {
  readonly usable: boolean;
  readonly reasons: readonly Reason[];
}

export interface HardwareReport {
  readonly backends: {
    readonly emulated: Backend;
    readonly udp: Backend;
    readonly verbs: Backend;
    /** Which of the two runs the DPA program. */
    readonly dpa: Backend & { readonly implementation: "flexio" | "emulation" | "none" };
  };
  readonly devices: readonly DeviceReport[];
}

/** Registering the buffers of a modest transfer needs this. */
export const MEMLOCK_BYTES_MIN = 64 * 2 ** 20;

function reason(id: ReasonId, what: string, remedy: string): Reason {
  return { id, what, remedy };
}

function portReasons({ name, ports }: DeviceFacts): Reason[] {
  if (ports.some(({ state, gids }) => state === "active" && gids.length > 0)) return [];
  const active = ports.filter(({ state }) => state === "active");
  if (active.length > 0) {
    const what = `port ${active[0]?.port} of ${name} has no GID`;
    return [reason("no-gid", what, "give its network device an address: ip addr add …")];
  }
  const states = ports.map(({ port, state }) => `port ${port} is ${state}`).join(", ");
  return [
    reason(
      "port-down",
      `${name} has no active port: ${states || "it has none"}`,
      "ip link set its network device up, and see the cable, the peer and, on InfiniBand, the subnet manager",
    ),
  ];
}

const OPEN_REMEDIES: Readonly<Record<string, string>> = {
  EACCES: "run as a member of the group that owns /dev/infiniband/uverbs*, or change their mode",
  EPERM: "run as a member of the group that owns /dev/infiniband/uverbs*, or change their mode",
  ENOMEM: "raise the limit of locked memory: ulimit -l unlimited",
};

function deviceReasons(device: DeviceFacts): Reason[] {
  const { name, openError, uc } = device;
  if (openError !== null) {
    const remedy = OPEN_REMEDIES[openError] ?? "see dmesg, and whether ibv_devinfo shows it";
    return [reason("device-open", `${name} cannot be opened: ${openError}`, remedy)];
  }
  const found = portReasons(device);
  if (uc.can === false)
    found.push(
      reason(
        "no-uc",
        `${name} has no UC queue pairs (${uc.how})`,
        "use an InfiniBand or RoCE device; iWARP and EFA have none",
      ),
    );
  return found;
}

function libraryReasons({ koffiError, library }: HardwareFacts): Reason[] {
  if (koffiError !== null)
    return [reason("ffi-missing", `koffi cannot be loaded: ${koffiError}`, "npm install koffi")];
  if (library.error === null) return [];
  return [
    reason(
      "library-missing",
      `${library.path} cannot be loaded: ${library.error}`,
      "apt-get install libibverbs1 ibverbs-providers (dnf: libibverbs), or name another in SDR_IBVERBS",
    ),
  ];
}

function addonReasons({ addon }: HardwareFacts): Reason[] {
  if (addon.error !== null)
    return [
      reason(
        "addon-missing",
        `the native addon is missing: ${addon.error}`,
        "npm run build:native",
      ),
    ];
  if (addon.verbs !== false) return [];
  return [
    reason(
      "addon-without-verbs",
      "the native addon was built without rdma-core's headers",
      "apt-get install libibverbs-dev, then npm run build:native",
    ),
  ];
}

/** How to come by Soft-RoCE where there is no RDMA card. */
function softRoce({ rxeModule, netdev }: HardwareFacts): string {
  const make = `modprobe rdma_rxe && rdma link add rxe0 type rxe netdev ${netdev ?? "eth0"}`;
  if (rxeModule === "loaded" || rxeModule === "available") return `Soft-RoCE needs none: ${make}`;
  const virtual = "npm run test:rxe shows it in virtual machines";
  if (rxeModule === "missing")
    return `Soft-RoCE needs none, but this kernel has no rdma_rxe: install its full modules, then ${make}; ${virtual}`;
  return `Soft-RoCE needs none, if the kernel has rdma_rxe: ${make}; ${virtual}`;
}

function kernelReasons(facts: HardwareFacts): Reason[] {
  const { uverbs, deviceFolder, deniedFiles, devices } = facts;
  if (devices.some(({ openError }) => openError === null)) return []; // what works needs no more
  const found: Reason[] = [];
  if (!uverbs)
    found.push(
      reason("kernel-module", "the kernel module ib_uverbs is not loaded", "modprobe ib_uverbs"),
    );
  else if (!deviceFolder)
    found.push(
      reason(
        "device-folder",
        "there is no /dev/infiniband, though the kernel has ib_uverbs",
        "in a container: --device /dev/infiniband --cap-add IPC_LOCK; else start udev",
      ),
    );
  if (deniedFiles.length > 0)
    found.push(
      reason(
        "permission",
        `${deniedFiles.join(", ")} may not be opened`,
        "run as a member of the group that owns them, or change their mode",
      ),
    );
  if (devices.length === 0)
    found.push(reason("no-device", "there is no RDMA device", softRoce(facts)));
  return found;
}

function memlockReasons({ memlockBytes }: HardwareFacts): Reason[] {
  if (memlockBytes === null || memlockBytes >= MEMLOCK_BYTES_MIN) return [];
  return [
    reason(
      "memlock",
      `only ${Math.floor(memlockBytes / 1024)} KiB of memory may be locked, which registering buffers needs`,
      "ulimit -l unlimited, memlock in /etc/security/limits.conf, or LimitMEMLOCK=infinity of the service",
    ),
  ];
}

function verbsBackend(facts: HardwareFacts, devices: readonly DeviceReport[]): Backend {
  if (facts.platform !== "linux")
    return {
      available: false,
      reasons: [reason("platform", `RDMA needs Linux, this is ${facts.platform}`, "use Linux")],
    };
  const blocking = [...addonReasons(facts), ...libraryReasons(facts), ...kernelReasons(facts)];
  const usable = devices.some((device) => device.usable);
  const ofDevices = usable ? [] : devices.flatMap(({ reasons }) => reasons);
  return {
    available: blocking.length === 0 && usable,
    reasons: [...blocking, ...ofDevices, ...memlockReasons(facts)],
  };
}

function dpaBackend(facts: HardwareFacts): HardwareReport["backends"]["dpa"] {
  const { addon, flexioLibrary, devices } = facts;
  const reasons: Reason[] = [];
  if (!devices.some(({ dpa }) => dpa.can === true))
    reasons.push(
      reason(
        "no-dpa-device",
        "there is no BlueField-3 or ConnectX-8",
        "the DPA program runs on those only; docs/hardware-run.md has the steps",
      ),
    );
  if (flexioLibrary === null)
    reasons.push(
      reason(
        "flexio-missing",
        "libflexio is not installed",
        "install DOCA 2.5 or newer with doca-flexio",
      ),
    );
  if (addon.flexio !== true)
    reasons.push(
      reason(
        "addon-without-flexio",
        "this build's DPA transport runs under emulation only",
        "docs/dpa.md says what there is for cards, and how to try it",
      ),
    );
  if (reasons.length === 0) return { implementation: "flexio", available: true, reasons };
  if (addon.error === null && addon.dpaEmulation)
    return { implementation: "emulation", available: true, reasons };
  const none = reason(
    "addon-without-dpa",
    "this build has no DPA transport",
    "use --device udp or an RDMA device",
  );
  return { implementation: "none", available: false, reasons: [none, ...reasons] };
}

export function diagnose(facts: HardwareFacts): HardwareReport {
  const devices = facts.devices.map((device): DeviceReport => {
    const reasons = deviceReasons(device);
    return { ...device, reasons, usable: reasons.length === 0 };
  });
  const { error } = facts.addon;
  const plain: Backend = {
    available: error === null,
    reasons: error === null ? [] : addonReasons(facts),
  };
  return {
    backends: {
      emulated: plain,
      udp: plain,
      verbs: verbsBackend(facts, devices),
      dpa: dpaBackend(facts),
    },
    devices,
  };
}
