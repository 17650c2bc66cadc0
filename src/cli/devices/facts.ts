/** What was found out about the machine's RDMA: plain data. gather.ts fills it in, diagnose.ts judges it. */

/** Yes, no, or not to be told from here; and how that is known. */
export interface Ability {
  readonly can: boolean | null;
  readonly how: string;
}

export interface GidFacts {
  readonly index: number;
  readonly type: "IB" | "RoCE v1" | "RoCE v2" | "unknown";
  /** Eight groups of four hexadecimal digits. */
  readonly gid: string;
  /** The network device it belongs to, where the kernel tells. */
  readonly netdev: string | null;
}

export interface PortFacts {
  readonly port: number;
  readonly state: "down" | "init" | "armed" | "active" | "unknown";
  readonly linkLayer: "Ethernet" | "InfiniBand" | "unknown";
  readonly activeMtu: number | null;
  readonly maxMtu: number | null;
  readonly rateBps: number | null;
  readonly gids: readonly GidFacts[];
}

export interface DeviceFacts {
  readonly name: string;
  /** Of the kernel: mlx5_core, rxe; "unknown" where it does not tell. */
  readonly driver: string;
  /** Why it could not be opened: the name of the error. Null: it was. */
  readonly openError: string | null;
  readonly firmware: string | null;
  readonly vendorId: number | null;
  readonly partId: number | null;
  readonly queuePairsMax: number | null;
  readonly queueRequestsMax: number | null;
  readonly completionsMax: number | null;
  readonly ports: readonly PortFacts[];
  /** UC queue pairs, and with them writes with immediate. */
  readonly uc: Ability;
  readonly writeWithImmediate: Ability;
  readonly nullKey: Ability;
  readonly indirectKeys: Ability;
  readonly dmabuf: Ability;
  readonly dpa: Ability;
}

export interface HardwareFacts {
  readonly platform: string;
  readonly arch: string;
  readonly kernel: string;
  /** As SDR_IBVERBS names it, or the usual one. */
  readonly library: { readonly path: string; readonly error: string | null };
  /** Why koffi, which the libraries are called with, is not there. */
  readonly koffiError: string | null;
  readonly addon: {
    readonly error: string | null;
    /** Built with rdma-core's headers; null: it does not tell. */
    readonly verbs: boolean | null;
    /** Its DPA transport can run on a card, by FlexIO; null: it does not tell. */
    readonly flexio: boolean | null;
    readonly dpaEmulation: boolean;
  };
  /** The kernel module ib_uverbs: its class in /sys. */
  readonly uverbs: boolean;
  /** Whether the kernel has Soft-RoCE: loaded, to be loaded, not there; or not to be told. */
  readonly rxeModule: "loaded" | "available" | "missing" | "unknown";
  /** /dev/infiniband, and which of its uverbs files this user may not open. */
  readonly deviceFolder: boolean;
  readonly deniedFiles: readonly string[];
  /** Of RLIMIT_MEMLOCK; null: none, or it does not apply to this process. */
  readonly memlockBytes: number | null;
  readonly flexioLibrary: string | null;
  /** An Ethernet device that Soft-RoCE could go onto. */
  readonly netdev: string | null;
  readonly devices: readonly DeviceFacts[];
}
