/**
 * The emulated transport: contexts of one world share a virtual clock that `run` drives. Nothing here looks at a
 * real clock; the same seed gives the same run.
 */
import { randomUUID } from "node:crypto";
import { check, SdrError } from "../base/errors.ts";
import { checkLink, type LinkProfile, PACKET_KINDS, type PacketKindName } from "../link/profile.ts";
import {
  addon,
  type NativeQp,
  type NativeQpConfig,
  type NativeWorld,
  PACKET_RECORD,
  PACKET_RECORD_NUMBERS,
  STATUS,
} from "./native.ts";
import {
  type Capabilities,
  checkSeed,
  createNativeQp,
  Pump,
  type QpListener,
  type Transport,
  type TransportInfo,
  type TransportQp,
} from "./transport.ts";

/** What a world is made of besides its contexts. */
export interface EmulatedWorldOptions {
  /** All randomness of the world comes from it. Default 1. */
  readonly seed?: number;
  /** How long progress of a receive may be held back to report several chunks at once. Default 10 µs. */
  readonly progressIntervalNs?: number;
}

/** What became of one packet, one copy of it, or one control datagram. */
export interface PacketRecord {
  /** Its last bit left the link's serialiser. */
  readonly departNs: number;
  /** Undefined: lost on the way. */
  readonly arriveNs: number | undefined;
  /** Tells the world's queue pairs apart: who sent it. */
  readonly qp: number;
  readonly kind: PacketKindName;
  /** Of data: the message, and the packet's number in it; parity is numbered behind the chunks that were posted for. */
  readonly message: number;
  readonly packet: number;
}

/** Most packets that a world keeps records of at a time. */
export const PACKET_RECORDS_MAX = 2 ** 22;

/** Synchronous steps between two looks at whether user code waits; bounds how long `run` keeps the thread. */
const STEPS_PER_TURN_MAX = 4096;

/** Contexts that share a virtual clock. Nothing happens in it but during run() and advance(). */
export class EmulatedWorld implements Disposable {
  /** @internal */
  readonly pump = new Pump();
  private readonly qps = new Map<number, EmulatedQp>();
  /** @internal Tells this world's infos from another's. */
  readonly id = randomUUID();
  private readonly handle: NativeWorld;
  private woken = false;
  /** Work of other threads that time waits for, and what to do with its results, in order. */
  private work: { begin: () => Promise<unknown>; take: (result: never) => void }[] = [];
  private running = false;
  private closed = false;

  constructor(options: EmulatedWorldOptions = {}) {
    const { seed = 1, progressIntervalNs = 10_000 } = options;
    checkSeed(seed);
    check(
      Number.isSafeInteger(progressIntervalNs) && progressIntervalNs >= 0,
      `progressIntervalNs ${progressIntervalNs} is not valid`,
      "use whole nanoseconds, 0 or more",
    );
    this.handle = addon().createWorld(seed, progressIntervalNs);
  }

  /** @internal Errors: CLOSED. */
  get native(): NativeWorld {
    if (!this.closed) return this.handle;
    throw new SdrError("CLOSED", "the world is closed", "make a new one");
  }

  /** Lets its memory go at once, not when it is collected. Close its contexts first. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.handle.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Virtual nanoseconds since the world began. Errors: CLOSED. */
  nowNs(): number {
    return this.native.nowNs();
  }

  /**
   * A transport whose queue pairs send over `link` (one link each, from this world's randomness). Throws
   * INVALID_ARGUMENT for a link that checkLink refuses.
   */
  transport(link: LinkProfile): Transport {
    checkLink(link);
    return new EmulatedTransport(this, link);
  }

  /** Replaces the impairments of everything connected that contexts of `transport` send from now on. */
  setLink(transport: Transport, link: LinkProfile): void {
    checkLink(link);
    for (const qp of this.qps.values()) if (qp.transport === transport) qp.native.setLink(link);
  }

  /**
   * Keeps records of the next packets on all links, at most `recordsMax` (0: no more), for takeRecords().
   * Errors: INVALID_ARGUMENT, CLOSED.
   */
  recordPackets(recordsMax = PACKET_RECORDS_MAX): void {
    check(
      Number.isInteger(recordsMax) && recordsMax >= 0 && recordsMax <= PACKET_RECORDS_MAX,
      `recordsMax ${recordsMax} is not valid`,
      `use a whole number from 0 to ${PACKET_RECORDS_MAX}`,
    );
    this.native.recordPackets(recordsMax);
  }

  /** The records since the last call, in the order in which packets were offered to links. Errors: CLOSED. */
  takeRecords(): PacketRecord[] {
    const numbers = this.native.takeRecords();
    return Array.from({ length: numbers.length / PACKET_RECORD_NUMBERS }, (_, index) => {
      const at = (place: keyof typeof PACKET_RECORD) =>
        numbers[index * PACKET_RECORD_NUMBERS + PACKET_RECORD[place]] as number;
      return {
        departNs: at("departNs"),
        arriveNs: at("arriveNs") < 0 ? undefined : at("arriveNs"),
        qp: at("qp"),
        kind: PACKET_KINDS[at("kind")] ?? "other",
        message: at("message"),
        packet: at("packet"),
      };
    });
  }

  /**
   * Lets virtual time pass until `work` settles, and settles as it does. User code runs between steps, at the virtual
   * time of what woke it. Rejects with DEADLOCK when nothing is left that could settle it.
   */
  async run<T>(work: Promise<T> | (() => Promise<T>)): Promise<T> {
    check(!this.running, "the world is already running", "await the first run before the next");
    this.running = true;
    let settled = false;
    try {
      const promise = typeof work === "function" ? work() : work;
      const mark = () => {
        settled = true;
      };
      promise.then(mark, mark);
      await turn();
      while (!settled) {
        const alive = this.steps(Number.POSITIVE_INFINITY);
        const worked = await this.finishWork();
        await turn();
        if (!settled && !alive && !worked && !this.woken) throw deadlock(this.nowNs());
      }
      return await promise;
    } finally {
      this.running = false;
    }
  }

  /** Lets `durationNs` of virtual time pass. */
  async advance(durationNs: number): Promise<void> {
    const until = this.nowNs() + durationNs;
    while (this.nowNs() < until) {
      this.steps(until);
      await this.finishWork();
      await turn();
    }
  }

  /** Some synchronous steps up to `limitNs`; stops early when user code was woken. False: nothing is left to happen. */
  private steps(limitNs: number): boolean {
    this.woken = false;
    for (let i = 0; i < STEPS_PER_TURN_MAX && !this.woken && this.work.length === 0; i++) {
      const timeout = this.pump.nextTimeoutNs();
      const target = Math.ceil(Math.min(timeout, limitNs));
      const count = this.native.advance(target);
      const now = this.native.nowNs();
      if (count > 0) this.pump.dispatch(this.native.events, count, now);
      else if (target === Number.POSITIVE_INFINITY) return false;
      if (timeout <= now) this.pump.expire(now);
      if (now >= limitNs) return true;
    }
    return true;
  }

  /**
   * Work begins here and not when it is asked for, and its results are delivered in that order once all of them are
   * there: what threads do to bitmaps meanwhile is seen by nobody, and the same seed gives the same run.
   */
  private async finishWork(): Promise<boolean> {
    const worked = this.work.length > 0;
    while (this.work.length > 0 && !this.closed) {
      const batch = this.work;
      this.work = [];
      const results = await Promise.all(batch.map(({ begin }) => begin()));
      for (const [index, { take }] of batch.entries()) take(results[index] as never);
    }
    return worked;
  }

  /** @internal */
  awaitWork<T>(begin: () => Promise<T>, then: (result: T) => void): void {
    this.work.push({ begin, take: then });
  }

  /** @internal */
  userWoken(): void {
    this.woken = true;
  }

  /** @internal */
  addQp(qp: EmulatedQp, listener: QpListener): void {
    this.qps.set(qp.native.id, qp);
    this.pump.add(qp.native.id, listener);
  }

  /** @internal */
  removeQp(qp: EmulatedQp): void {
    this.qps.delete(qp.native.id);
    this.pump.remove(qp.native.id);
  }

  /** @internal */
  qp(id: number): EmulatedQp | undefined {
    return this.qps.get(id);
  }
}

/** One macrotask: all microtasks that user code queued have run after it. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function deadlock(nowNs: number): SdrError {
  return new SdrError(
    "DEADLOCK",
    `nothing is left to happen at ${nowNs} ns, and what was awaited has not settled`,
    "post what the other end waits for, or set a deadline",
  );
}

class EmulatedTransport implements Transport {
  readonly world: EmulatedWorld;
  readonly link: LinkProfile;
  readonly capabilities: Capabilities = {
    name: "emulated",
    virtualTime: true,
    phantom: true,
    dmabuf: false,
    hardware: false,
    zeroCopySend: true,
    countsCorrupted: true,
    countsLate: true,
    gso: false,
    gro: false,
    packetBytesMin: 64,
    packetBytesMax: 65_000,
    packetBytesDefault: 4096,
    channels: 64,
    receiveBufferBytes: Number.POSITIVE_INFINITY,
  };

  constructor(world: EmulatedWorld, link: LinkProfile) {
    this.world = world;
    this.link = link;
  }

  nowNs(): number {
    return this.world.nowNs();
  }

  createQp(config: NativeQpConfig, listener: QpListener): TransportQp {
    const native = createNativeQp(() => this.world.native.createQp(config), config);
    const qp = new EmulatedQp(this, native);
    this.world.addQp(qp, listener);
    return qp;
  }

  rearm(): void {} // every step looks at the timers

  userWoken(): void {
    this.world.userWoken();
  }

  awaitWork<T>(begin: () => Promise<T>, then: (result: T) => void): void {
    this.world.awaitWork(begin, then);
  }

  close(): void {}
}

class EmulatedQp implements TransportQp {
  readonly transport: EmulatedTransport;
  readonly native: NativeQp;
  private wanted: number | undefined;

  constructor(transport: EmulatedTransport, native: NativeQp) {
    this.transport = transport;
    this.native = native;
  }

  info(): TransportInfo {
    return { transport: "emulated", world: this.transport.world.id, qp: this.native.id };
  }

  connect(peer: TransportInfo): void {
    const { world } = this.transport;
    const other =
      typeof peer.qp === "number" && peer.world === world.id ? world.qp(peer.qp) : undefined;
    if (peer.transport !== "emulated" || other === undefined || other === this) {
      throw new SdrError(
        "PEER_INCOMPATIBLE",
        "the peer's info is not of an open queue pair of this world",
        "exchange infos within one EmulatedWorld",
      );
    }
    this.wanted = other.native.id;
    if (other.wanted !== this.native.id) return; // the second of the two connects both
    const there = world.native.addLink(this.transport.link);
    const back = world.native.addLink(other.transport.link);
    const status = world.native.connect(this.native, other.native, there, back);
    if (status !== STATUS.ok) {
      throw new SdrError(
        "PEER_INCOMPATIBLE",
        `the two queue pairs do not match (status ${status})`,
        "give both the same packetBytes, chunkBytes, split, generations and channels",
      );
    }
  }

  close(): void {
    this.transport.world.removeQp(this);
    this.native.close();
  }
}
