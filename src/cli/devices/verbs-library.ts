/**
 * Calls into libibverbs, by koffi: discovery needs no compiler and no headers. Only what the library exports can be
 * called; structures are read at the offsets that its ABI fixes (infiniband/verbs.h). From the main thread only.
 */
import { getSystemErrorName } from "node:util";
import type { LibraryHandle } from "koffi";
import type { Ability, GidFacts, PortFacts } from "./facts.ts";

type Koffi = typeof import("koffi");
/** koffi's pointers are bigints; null is NULL. */
type Pointer = bigint;

const DEVICES_MAX = 64;
const GIDS_MAX = 256;
const DEVICE_ATTRIBUTE_BYTES = 512;
const PORT_ATTRIBUTE_BYTES = 128;
const GID_ENTRY_BYTES = 32;
const QPT_UC = 3;
const PROBE_BYTES = 4096;

export interface DeviceAttributes {
  readonly firmware: string;
  readonly vendorId: number;
  readonly partId: number;
  readonly queuePairsMax: number;
  readonly queueRequestsMax: number;
  readonly completionsMax: number;
  readonly ports: number;
}

function mtuBytes(code: number): number | null {
  return code >= 1 && code <= 5 ? 128 << code : null;
}

const STATES: Readonly<Record<number, PortFacts["state"]>> = {
  1: "down",
  2: "init",
  3: "armed",
  4: "active",
  5: "active",
};
/** 0: as InfiniBand, before there was a choice. */
const LINK_LAYERS: Readonly<Record<number, PortFacts["linkLayer"]>> = {
  0: "InfiniBand",
  1: "InfiniBand",
  2: "Ethernet",
};
const WIDTHS: Readonly<Record<number, number>> = { 1: 1, 2: 4, 4: 8, 8: 12, 16: 2 };
/** Gbit/s a lane, with its encoding taken off as the kernel's rate file does. */
const SPEEDS: Readonly<Record<number, number>> = {
  ...{ 1: 2.5, 2: 5, 4: 10, 8: 10, 16: 14, 32: 25, 64: 50, 128: 100 },
};
const GID_TYPES: readonly GidFacts["type"][] = ["IB", "RoCE v1", "RoCE v2"];

/** "fe80:0000:…" of 16 bytes. */
export function gidText(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString("hex")
    .replace(/(.{4})(?!$)/g, "$1:");
}

/** struct ibv_device_attr. */
export function readDeviceAttributes(bytes: Buffer): DeviceAttributes {
  const end = bytes.indexOf(0);
  return {
    firmware: bytes.toString("latin1", 0, Math.min(64, end < 0 ? 64 : end)),
    vendorId: bytes.readUInt32LE(96),
    partId: bytes.readUInt32LE(100),
    queuePairsMax: bytes.readInt32LE(108),
    queueRequestsMax: bytes.readInt32LE(112),
    completionsMax: bytes.readInt32LE(132),
    ports: bytes.readUInt8(227),
  };
}

/** The part of struct ibv_port_attr that all versions share, without GIDs. */
export function readPortAttributes(port: number, bytes: Buffer): Omit<PortFacts, "gids"> {
  const width = WIDTHS[bytes.readUInt8(43)];
  const speed = SPEEDS[bytes.readUInt8(44)];
  return {
    port,
    state: STATES[bytes.readUInt32LE(0)] ?? "unknown",
    linkLayer: LINK_LAYERS[bytes.readUInt8(46)] ?? "unknown",
    activeMtu: mtuBytes(bytes.readUInt32LE(8)),
    maxMtu: mtuBytes(bytes.readUInt32LE(4)),
    rateBps: width === undefined || speed === undefined ? null : width * speed * 1e9,
  };
}

/** struct ibv_gid_entry, several. */
export function readGids(bytes: Buffer, count: number) {
  return Array.from({ length: count }, (_, i) => {
    const entry = bytes.subarray(i * GID_ENTRY_BYTES, (i + 1) * GID_ENTRY_BYTES);
    return {
      gid: gidText(entry.subarray(0, 16)),
      index: entry.readUInt32LE(16),
      port: entry.readUInt32LE(20),
      type: GID_TYPES[entry.readUInt32LE(24)] ?? ("unknown" as const),
    };
  });
}

function errorName(number: number): string {
  return number > 0 ? getSystemErrorName(-number) : "unknown error";
}

export class VerbsLibrary {
  private readonly koffi: Koffi;
  private readonly library: LibraryHandle;

  /** Throws a plain Error, with the dynamic loader's words, when it is not there. */
  constructor(koffi: Koffi, path: string) {
    this.koffi = koffi;
    this.library = koffi.load(path);
  }

  /** Undefined: the library does not export it. */
  private find(definition: string): ((...args: unknown[]) => unknown) | undefined {
    try {
      return this.library.func(definition);
    } catch {
      return undefined;
    }
  }

  private get(definition: string): (...args: unknown[]) => unknown {
    const found = this.find(definition);
    if (found === undefined) throw new Error(`the library has no ${definition}`);
    return found;
  }

  /** Calls `see` with each device's name and pointer, which is valid during the call only. */
  withDevices(see: (name: string, device: Pointer) => void): void {
    const list = this.get("void *ibv_get_device_list(_Out_ int *count)");
    const free = this.get("void ibv_free_device_list(void *list)");
    const nameOf = this.get("const char *ibv_get_device_name(void *device)");
    const count = [0];
    const devices = list(count) as Pointer | null;
    if (devices === null) return; // no kernel module, or no memory: /sys tells more
    try {
      for (let i = 0; i < Math.min(count[0] as number, DEVICES_MAX); i++) {
        const device = this.koffi.decode(devices, i * 8, "void *") as Pointer;
        see(String(nameOf(device)), device);
      }
    } finally {
      free(devices);
    }
  }

  /** Opens a device for the time of `use`; otherwise the name of the error. */
  withContext<T>(device: Pointer, use: (context: OpenDevice) => T): T | { error: string } {
    const open = this.get("void *ibv_open_device(void *device)");
    const close = this.get("int ibv_close_device(void *context)");
    const context = open(device) as Pointer | null;
    if (context === null) return { error: errorName(this.koffi.errno()) };
    try {
      return use(new OpenDevice(this.koffi, (text) => this.find(text), context));
    } finally {
      close(context);
    }
  }
}

type Find = (definition: string) => ((...args: unknown[]) => unknown) | undefined;

export class OpenDevice {
  private readonly koffi: Koffi;
  private readonly find: Find;
  private readonly context: Pointer;

  constructor(koffi: Koffi, find: Find, context: Pointer) {
    this.koffi = koffi;
    this.find = find;
    this.context = context;
  }

  attributes(): DeviceAttributes | undefined {
    const query = this.find("int ibv_query_device(void *context, void *attributes)");
    const bytes = Buffer.alloc(DEVICE_ATTRIBUTE_BYTES);
    return query?.(this.context, bytes) === 0 ? readDeviceAttributes(bytes) : undefined;
  }

  port(number: number): Omit<PortFacts, "gids"> | undefined {
    const query = this.find("int ibv_query_port(void *context, uint8_t port, void *attributes)");
    const bytes = Buffer.alloc(PORT_ATTRIBUTE_BYTES);
    return query?.(this.context, number, bytes) === 0
      ? readPortAttributes(number, bytes)
      : undefined;
  }

  /** Of all ports; undefined where the library or kernel is too old for the table. */
  gids(): ReturnType<typeof readGids> | undefined {
    const query = this.find(
      "intptr_t _ibv_query_gid_table(void *context, void *entries, size_t most, uint32_t flags, size_t bytes)",
    );
    const bytes = Buffer.alloc(GIDS_MAX * GID_ENTRY_BYTES);
    const count = Number(query?.(this.context, bytes, GIDS_MAX, 0, GID_ENTRY_BYTES) ?? -1);
    return count >= 0 ? readGids(bytes, Math.min(count, GIDS_MAX)) : undefined;
  }

  /** By making a UC queue pair, and a memory region of no file; with everything put away again. */
  abilities(): { uc: Ability; dmabuf: Ability } {
    const unknown: Ability = { can: null, how: "no protection domain could be made" };
    const allocate = this.find("void *ibv_alloc_pd(void *context)");
    const free = this.find("int ibv_dealloc_pd(void *domain)");
    const domain = allocate?.(this.context) as Pointer | null | undefined;
    if (domain === null || domain === undefined) return { uc: unknown, dmabuf: unknown };
    try {
      return { uc: this.tryUc(domain), dmabuf: this.tryDmabuf(domain) };
    } finally {
      free?.(domain);
    }
  }

  private tryUc(domain: Pointer): Ability {
    const createCq = this.find(
      "void *ibv_create_cq(void *context, int entries, void *user, void *channel, int vector)",
    );
    const destroyCq = this.find("int ibv_destroy_cq(void *queue)");
    const createQp = this.find("void *ibv_create_qp(void *domain, void *attributes)");
    const destroyQp = this.find("int ibv_destroy_qp(void *pair)");
    const queue = createCq?.(this.context, 16, null, null, 0) as Pointer | null | undefined;
    if (queue === null || queue === undefined || createQp === undefined)
      return { can: null, how: "no completion queue could be made" };
    try {
      // struct ibv_qp_init_attr: user, two queues, no shared one, five capacities, type, signal all.
      const bytes = Buffer.alloc(64);
      bytes.writeBigUInt64LE(BigInt(queue), 8);
      bytes.writeBigUInt64LE(BigInt(queue), 16);
      for (const [index, value] of [4, 4, 1, 1, 0, QPT_UC, 0].entries())
        bytes.writeUInt32LE(value, 32 + 4 * index);
      const pair = createQp(domain, bytes) as Pointer | null;
      if (pair === null)
        return { can: false, how: `a UC queue pair is refused: ${errorName(this.koffi.errno())}` };
      destroyQp?.(pair);
      return { can: true, how: "a UC queue pair was made" };
    } finally {
      destroyCq?.(queue);
    }
  }

  /** No file is -1: a kernel that knows dmabuf regions says EBADF, one that does not something else. */
  private tryDmabuf(domain: Pointer): Ability {
    const register = this.find(
      "void *ibv_reg_dmabuf_mr(void *domain, uint64_t offset, size_t bytes, uint64_t iova, int file, int access)",
    );
    if (register === undefined) return { can: false, how: "this libibverbs is too old" };
    const region = register(domain, 0, PROBE_BYTES, 0, -1, 1) as Pointer | null;
    const name = region === null ? errorName(this.koffi.errno()) : "accepted";
    const told = `registering file -1: ${name}`;
    if (name === "EBADF") return { can: true, how: told };
    const refused = ["EOPNOTSUPP", "EPROTONOSUPPORT", "ENOTSUP", "ENOSYS"].includes(name);
    return { can: refused ? false : null, how: told };
  }
}
