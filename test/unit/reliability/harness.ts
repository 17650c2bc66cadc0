/**
 * Two sessions of a policy joined by a chunk-level pipe in virtual time: a paced wire for chunks, a delay each
 * way, seeded loss, jitter and duplication of chunks and frames. Frames cross as bytes. Every run checks what
 * must hold for any policy: the window, ranges within the message, no timer spin, no read of the bitmap after
 * completion, and an end.
 */
import { Random } from "../../../src/base/random.ts";
import { ChunkBitmap } from "../../../src/reliability/bitmap.ts";
import { decodeFrames, encodeFrame } from "../../../src/reliability/codec.ts";
import type { ControlFrame } from "../../../src/reliability/frames.ts";
import type {
  Policy,
  ReceiveSession,
  SendSession,
  SessionParams,
} from "../../../src/reliability/policy.ts";
import { RttEstimator } from "../../../src/reliability/rtt.ts";

export interface Impairment {
  readonly loss?: number;
  /** Extra delay, uniform over 0 .. this; reorders. */
  readonly jitterNs?: number;
  readonly duplicate?: number;
}

export interface Scenario {
  readonly policy: Policy;
  readonly chunkCount: number;
  readonly seed: number;
  readonly rttNs?: number;
  /** T_inj: time one chunk takes on the wire. */
  readonly chunkNs?: number;
  readonly windowChunks?: number;
  readonly initialRttNs?: number;
  readonly rtoFloorNs?: number;
  readonly frameBytesMax?: number;
  /** Chunks that one poll may hand out; they are reported injected together. */
  readonly batchChunks?: number;
  /** How long the receiver gathers completed chunks before it is told. */
  readonly progressNs?: number;
  readonly chunks?: Impairment;
  readonly framesToSender?: Impairment;
  readonly framesToReceiver?: Impairment;
  /** Decides in place of `chunks.loss`: the n-th (from 1) trip of a chunk. */
  readonly losesChunk?: (chunk: number, trip: number) => boolean;
  /** Decides in place of `framesToSender.loss`: the n-th (from 0) frame. */
  readonly losesFrame?: (frame: ControlFrame, index: number) => boolean;
  /** Called after every step, to meddle. */
  readonly meddle?: (world: World) => void;
}

export interface World {
  readonly sender: SendSession;
  readonly receiver: ReceiveSession;
  readonly nowNs: number;
  readonly random: Random;
}

export interface Outcome {
  readonly completionNs: number;
  /** Trips of each chunk. */
  readonly trips: Uint16Array;
  readonly chunksInjected: number;
  /** Least time from a chunk's injection to its being handed out again; Infinity when none was. */
  readonly leastResendNs: number;
  readonly framesFromReceiver: ControlFrame[];
  readonly sender: SendSession;
  readonly receiver: ReceiveSession;
  readonly senderPath: RttEstimator;
  readonly steps: number;
}

export const CHUNK_BYTES = 65_536;
/** More steps a chunk than any healthy run takes. */
const STEPS_PER_CHUNK_MAX = 2_000;
const STEPS_MIN = 200_000;
const SPINS_MAX = 3;

type Action = () => void;

/** Binary heap of actions by (time, order of insertion). */
class Agenda {
  private readonly times: number[] = [];
  private readonly orders: number[] = [];
  private readonly actions: Action[] = [];
  private order = 0;

  get nextNs(): number {
    return this.times[0] ?? Infinity;
  }

  add(atNs: number, action: Action): void {
    let i = this.times.length;
    this.put(i, atNs, this.order++, action);
    while (i > 0) {
      const up = (i - 1) >> 1;
      if (!this.before(i, up)) return;
      this.swap(i, up);
      i = up;
    }
  }

  take(): Action {
    const first = this.actions[0] as Action;
    const last = this.times.length - 1;
    this.swap(0, last);
    this.times.pop();
    this.orders.pop();
    this.actions.pop();
    for (let i = 0; ; ) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2])
        if (child < last && this.before(child, least)) least = child;
      if (least === i) return first;
      this.swap(i, least);
      i = least;
    }
  }

  private put(i: number, atNs: number, order: number, action: Action): void {
    this.times[i] = atNs;
    this.orders[i] = order;
    this.actions[i] = action;
  }

  private before(a: number, b: number): boolean {
    const [ta, tb] = [this.times[a] as number, this.times[b] as number];
    return ta < tb || (ta === tb && (this.orders[a] as number) < (this.orders[b] as number));
  }

  private swap(a: number, b: number): void {
    const [t, o, f] = [this.times[a]!, this.orders[a]!, this.actions[a]!];
    this.put(a, this.times[b]!, this.orders[b]!, this.actions[b]!);
    this.put(b, t, o, f);
  }
}

class Simulation implements World {
  nowNs = 0;
  readonly random: Random;
  readonly sender: SendSession;
  readonly receiver: ReceiveSession;
  readonly senderPath: RttEstimator;
  readonly trips: Uint16Array;
  readonly framesFromReceiver: ControlFrame[] = [];
  leastResendNs = Infinity;
  chunksInjected = 0;
  steps = 0;
  private readonly agenda = new Agenda();
  private readonly scenario: Scenario;
  private readonly params: SessionParams;
  private readonly oneWayNs: number;
  private readonly chunkNs: number;
  private readonly lastInjectedNs: Float64Array;
  private readonly words: Uint32Array;
  private readonly bitmap: ChunkBitmap;
  private wireBusy = false;
  private handedOut = 0;
  private sequence = 0;
  private progressDue = false;
  private completionNs = -1;

  constructor(scenario: Scenario) {
    this.scenario = scenario;
    this.random = new Random(scenario.seed, scenario.policy.name);
    const { chunkCount, rttNs = 25e6, initialRttNs = rttNs } = scenario;
    this.oneWayNs = rttNs / 2;
    this.chunkNs = scenario.chunkNs ?? 1311;
    this.params = {
      messageBytes: chunkCount * CHUNK_BYTES,
      chunkBytes: CHUNK_BYTES,
      chunkCount,
      packetBytes: 4096,
      windowChunks: scenario.windowChunks ?? 1 << 20,
      frameBytesMax: scenario.frameBytesMax ?? 1400,
      rtoFloorNs: scenario.rtoFloorNs ?? 1,
      path: new RttEstimator({ initialRttNs, rateBps: (CHUNK_BYTES * 8e9) / this.chunkNs }),
      startNs: 0,
    };
    this.senderPath = this.params.path as RttEstimator;
    const { policy } = scenario;
    this.sender = policy.createSender(this.params);
    const receiverPath = new RttEstimator({ initialRttNs: rttNs });
    this.receiver = policy.createReceiver({
      ...this.params,
      path: receiverPath,
      startNs: this.oneWayNs,
    });
    this.trips = new Uint16Array(chunkCount);
    this.lastInjectedNs = new Float64Array(chunkCount);
    this.words = new Uint32Array((chunkCount + 31) >>> 5);
    this.bitmap = new ChunkBitmap(this.words, chunkCount);
    this.agenda.add(this.oneWayNs, () => this.receiver.handleProgress(this.bitmap, this.nowNs));
  }

  run(): Outcome {
    const limit = STEPS_MIN + STEPS_PER_CHUNK_MAX * this.scenario.chunkCount;
    this.drainSender();
    // Until both ends agree that it is over.
    while (this.sender.state === "active" || this.receiver.state === "active") {
      if (++this.steps > limit) this.violated(`no end after ${limit} steps`);
      this.step();
      this.drainReceiver();
      this.drainSender();
      this.scenario.meddle?.(this);
    }
    return this as unknown as Outcome;
  }

  private violated(what: string): never {
    const { policy, chunkCount, seed } = this.scenario;
    throw new Error(
      `${policy.name}, ${chunkCount} chunks, seed ${seed}, ${this.nowNs} ns: ${what}`,
    );
  }

  private step(): void {
    const { sender, receiver, agenda } = this;
    const timerNs = Math.min(sender.nextTimeoutNs(), receiver.nextTimeoutNs());
    if (agenda.nextNs === Infinity && timerNs === Infinity) this.violated("deadlock");
    if (agenda.nextNs <= timerNs) {
      this.nowNs = Math.max(this.nowNs, agenda.nextNs);
      agenda.take()();
      return;
    }
    this.nowNs = Math.max(this.nowNs, timerNs);
    for (const session of [sender, receiver]) {
      for (let spins = 0; session.nextTimeoutNs() <= this.nowNs; spins++) {
        if (spins === SPINS_MAX) this.violated("a timer that is due stays due");
        session.handleTimeout(this.nowNs);
      }
    }
  }

  private drainSender(): void {
    for (let frame = this.sender.pollControl(this.nowNs); frame !== undefined; ) {
      this.sendFrame(frame, this.scenario.framesToReceiver, false, (f) => this.toReceiver(f));
      frame = this.sender.pollControl(this.nowNs);
    }
    if (!this.wireBusy) this.transmit();
    if (this.sender.state === "done" && this.completionNs < 0) {
      this.completionNs = this.nowNs;
      this.sendDone();
    }
  }

  private transmit(): void {
    const { batchChunks = 1, chunkCount, losesChunk, chunks = {}, windowChunks } = this.scenario;
    const range = this.sender.pollTransmit(batchChunks, this.nowNs);
    if (range === undefined) return;
    const { first, count } = range;
    if (!(first >= 0 && count >= 1 && count <= batchChunks && first + count <= chunkCount))
      this.violated(`bad range ${first}+${count}`);
    this.wireBusy = true;
    for (let i = 0; i < count; i++) {
      const chunk = first + i;
      const trip = ++this.trips[chunk]!;
      if (trip === 1) this.handedOut++;
      else this.noteResend(chunk);
      const leftNs = this.nowNs + (i + 1) * this.chunkNs;
      const lost = losesChunk?.(chunk, trip) ?? this.random.chance(chunks.loss ?? 0);
      if (!lost) this.travel(leftNs, chunks, () => this.arrive(chunk));
    }
    const unacknowledged = this.handedOut - this.sender.chunksAcknowledged;
    if (windowChunks !== undefined && unacknowledged > windowChunks)
      this.violated(`${unacknowledged} chunks unacknowledged in a window of ${windowChunks}`);
    this.agenda.add(this.nowNs + count * this.chunkNs, () => {
      this.wireBusy = false;
      this.chunksInjected += count;
      this.lastInjectedNs.fill(this.nowNs, first, first + count);
      this.sender.handleInjected(first, count, this.nowNs);
    });
  }

  private noteResend(chunk: number): void {
    const ageNs = this.nowNs - this.lastInjectedNs[chunk]!;
    this.leastResendNs = Math.min(this.leastResendNs, ageNs);
  }

  private travel(leftNs: number, impairment: Impairment, action: Action): void {
    const { jitterNs = 0, duplicate = 0 } = impairment;
    const extraNs = () => (jitterNs === 0 ? 0 : this.random.int(0, jitterNs));
    this.agenda.add(leftNs + this.oneWayNs + extraNs(), action);
    if (this.random.chance(duplicate)) this.agenda.add(leftNs + this.oneWayNs + extraNs(), action);
  }

  private arrive(chunk: number): void {
    if (this.receiver.complete) return;
    const bit = 1 << (chunk & 31);
    if ((this.words[chunk >>> 5]! & bit) !== 0) return;
    this.words[chunk >>> 5]! |= bit;
    const { progressNs = 0 } = this.scenario;
    if (progressNs === 0) this.progress();
    else if (!this.progressDue) {
      this.progressDue = true;
      this.agenda.add(this.nowNs + progressNs, () => this.progress());
    }
  }

  private progress(): void {
    this.progressDue = false;
    this.receiver.handleProgress(this.bitmap, this.nowNs);
    if (!this.receiver.complete) return;
    if (this.bitmap.count() !== this.bitmap.chunkCount) this.violated("complete too early");
    Object.defineProperty(this.bitmap, "words", {
      get: () => this.violated("read the bitmap after completion"),
    });
  }

  private drainReceiver(): void {
    for (let frame = this.receiver.pollControl(this.nowNs); frame !== undefined; ) {
      const index = this.framesFromReceiver.push(frame) - 1;
      const lost = this.scenario.losesFrame?.(frame, index);
      this.sendFrame(frame, this.scenario.framesToSender, lost, (f) => this.toSender(f));
      frame = this.receiver.pollControl(this.nowNs);
    }
  }

  private sendFrame(
    frame: ControlFrame,
    impairment: Impairment = {},
    decided: boolean | undefined,
    deliver: (frame: ControlFrame) => void,
  ): void {
    const bytes = new Uint8Array(this.params.frameBytesMax);
    const length = encodeFrame(frame, this.sequence++, bytes, 0, 1);
    if (decided ?? this.random.chance(impairment.loss ?? 0)) return;
    this.travel(this.nowNs, impairment, () => {
      for (const decoded of decodeFrames(bytes.subarray(0, length))) deliver(decoded.frame);
    });
  }

  private toSender(frame: ControlFrame): void {
    if (this.sender.state === "active") this.sender.handleControl(frame, this.nowNs);
    else this.sendDone();
  }

  private toReceiver(frame: ControlFrame): void {
    if (frame.kind === "done") this.receiver.handleDone(this.nowNs);
    else this.receiver.handleControl(frame, this.nowNs);
  }

  /** As the queue pair does: once when done, and again for every frame that shows the receiver does not know. */
  private sendDone(): void {
    const lossy = this.scenario.framesToReceiver;
    this.sendFrame({ kind: "done", message: 1 }, lossy, undefined, (f) => this.toReceiver(f));
  }
}

export function simulate(scenario: Scenario): Outcome {
  return new Simulation(scenario).run();
}
