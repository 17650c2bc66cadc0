/**
 * Two sessions of a policy joined by a chunk-level pipe in virtual time: a paced wire for chunks and parity chunks, a
 * delay each way, seeded loss, jitter and duplication of chunks and frames; and coding tasks that take their time.
 * Frames cross as bytes. Every run checks what must hold for any policy: the window, ranges within the message, coding
 * by the rules, no timer spin, no read of the bitmaps after completion, and an end.
 */
import { Random } from "../../../src/base/random.ts";
import { ChunkBitmap } from "../../../src/reliability/bitmap.ts";
import { decodeFrames, encodeFrame } from "../../../src/reliability/codec.ts";
import type { ControlFrame } from "../../../src/reliability/frames.ts";
import type {
  ChunkRange,
  CodingTask,
  LossSample,
  Policy,
  ReceiveSession,
  SendSession,
  SessionParams,
} from "../../../src/reliability/policy.ts";
import { RttEstimator } from "../../../src/reliability/rtt.ts";
import { CodingRules, recover } from "./harness-coding.ts";

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
  /** What messages before this one showed the sender; absent: nothing. */
  readonly path?: RttEstimator;
  /** Rate that the sender is told; default: the wire's. */
  readonly rateBps?: number;
  /** What the sender knows of the path before; default: nothing. */
  readonly lossSamples?: readonly LossSample[];
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
  /** The same of a parity chunk. */
  readonly losesParity?: (chunk: number) => boolean;
  /** Decides in place of all of these: the n-th (from 0) chunk of any kind on the wire. */
  readonly losesNth?: (n: number) => boolean;
  /** Decides in place of `framesToSender.loss`: the n-th (from 0) frame. */
  readonly losesFrame?: (frame: ControlFrame, index: number) => boolean;
  /** The same of `framesToReceiver`, but for DONE. */
  readonly losesFrameToReceiver?: (frame: ControlFrame, index: number) => boolean;
  /** Time that a coding task takes; a number, or drawn up to it when `codingVaries`. Default 0. */
  readonly codingNs?: number;
  readonly codingVaries?: boolean;
  /** Coding tasks that an end has under way at most. Default 2. */
  readonly tasksMax?: number;
  /** Of these decodes nothing comes. */
  readonly failsDecode?: (task: CodingTask) => boolean;
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
  readonly framesFromSender: ControlFrame[];
  /** All that was handed out, in order. */
  readonly ranges: ChunkRange[];
  /** Data chunks that came by their first trip, and by a later one. */
  readonly chunksArrived: number;
  readonly chunksRepaired: number;
  readonly decodes: number;
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
  readonly framesFromSender: ControlFrame[] = [];
  readonly ranges: ChunkRange[] = [];
  chunksArrived = 0;
  chunksRepaired = 0;
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
  /** As a receiver that posted for more than was sent has them. */
  private readonly parityWords: Uint32Array;
  private readonly parityBitmap: ChunkBitmap;
  private readonly coding: CodingRules;
  private encoding = 0;
  private decoding = 0;
  private onWire = 0;
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
      path:
        scenario.path ??
        new RttEstimator({
          initialRttNs,
          rateBps: scenario.rateBps ?? (CHUNK_BYTES * 8e9) / this.chunkNs,
        }),
      startNs: 0,
    };
    this.senderPath = this.params.path as RttEstimator;
    for (const sample of scenario.lossSamples ?? []) this.senderPath.loss.sample(sample);
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
    const parityCount = policy.parityChunks?.(chunkCount + 70) ?? 0;
    this.parityWords = new Uint32Array((parityCount + 31) >>> 5);
    this.parityBitmap = new ChunkBitmap(this.parityWords, parityCount);
    this.coding = new CodingRules(chunkCount, (what) => this.violated(what));
    this.agenda.add(this.oneWayNs, () => this.progress());
  }

  get decodes(): number {
    return this.coding.decodes;
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
      const index = this.framesFromSender.push(frame) - 1;
      const lost = this.scenario.losesFrameToReceiver?.(frame, index);
      this.sendFrame(frame, this.scenario.framesToReceiver, lost, (f) => this.toReceiver(f));
      frame = this.sender.pollControl(this.nowNs);
    }
    this.encode();
    if (!this.wireBusy) this.transmit();
    if (this.sender.state === "done" && this.completionNs < 0) {
      this.completionNs = this.nowNs;
      this.sendDone();
    }
  }

  private codingNs(): number {
    const { codingNs = 0, codingVaries = false } = this.scenario;
    return codingVaries ? this.random.int(0, codingNs) : codingNs;
  }

  private encode(): void {
    while (this.encoding < (this.scenario.tasksMax ?? 2)) {
      const task = this.sender.pollTask?.(this.nowNs);
      if (task === undefined) return;
      this.coding.check("encode", task);
      this.encoding++;
      this.agenda.add(this.nowNs + this.codingNs(), () => {
        this.encoding--;
        this.coding.encodeDone(task);
        this.sender.handleTaskDone?.(task, this.nowNs);
      });
    }
  }

  private decode(): void {
    while (this.decoding < (this.scenario.tasksMax ?? 2)) {
      const task = this.receiver.pollTask?.(this.nowNs);
      if (task === undefined) return;
      this.coding.check("decode", task);
      if (this.recover(task) === undefined)
        this.violated(`block at ${task.first} is not decodable`);
      this.decoding++;
      this.agenda.add(this.nowNs + this.codingNs(), () => this.decoded(task));
    }
  }

  private recover(task: CodingTask) {
    const has = (words: Uint32Array) => (chunk: number) =>
      (words[chunk >>> 5]! >>> (chunk & 31)) % 2 === 1;
    return recover(task, has(this.words), has(this.parityWords));
  }

  private decoded(task: CodingTask): void {
    this.decoding--;
    const isVain = this.receiver.complete || this.scenario.failsDecode?.(task) === true;
    const { chunks, parityUsed } = (isVain ? undefined : this.recover(task)) ?? {
      chunks: [],
      parityUsed: 0,
    };
    for (const chunk of chunks) this.words[chunk >>> 5]! |= 1 << (chunk & 31);
    this.receiver.handleTaskDone?.(task, this.nowNs, chunks.length, parityUsed);
    if (!this.receiver.complete) this.progress();
  }

  private transmit(): void {
    const { batchChunks = 1, windowChunks } = this.scenario;
    const range = this.sender.pollTransmit(batchChunks, this.nowNs);
    if (range === undefined) return;
    const { first, count, parity = false } = range;
    this.checkRange(range, batchChunks);
    this.ranges.push(range);
    this.wireBusy = true;
    for (let i = 0; i < count; i++) {
      const leftNs = this.nowNs + (i + 1) * this.chunkNs;
      if (parity) this.transmitParity(first + i, leftNs);
      else this.transmitChunk(first + i, leftNs);
    }
    const unacknowledged = this.handedOut - this.sender.chunksAcknowledged;
    if (windowChunks !== undefined && unacknowledged > windowChunks)
      this.violated(`${unacknowledged} chunks unacknowledged in a window of ${windowChunks}`);
    this.agenda.add(this.nowNs + count * this.chunkNs, () => {
      this.wireBusy = false;
      this.chunksInjected += count;
      if (!parity) this.lastInjectedNs.fill(this.nowNs, first, first + count);
      this.sender.handleInjected(first, count, this.nowNs, parity);
    });
  }

  private checkRange(range: ChunkRange, batchChunks: number): void {
    const { policy, chunkCount } = this.scenario;
    const { first, count, parity = false } = range;
    const end = parity ? (policy.parityChunks?.(chunkCount) ?? 0) : chunkCount;
    if (!(first >= 0 && count >= 1 && count <= batchChunks && first + count <= end))
      this.violated(`bad range ${JSON.stringify(range)}`);
    if (parity) this.coding.checkParity(range);
  }

  private transmitChunk(chunk: number, leftNs: number): void {
    const { losesChunk, losesNth, chunks = {} } = this.scenario;
    const trip = ++this.trips[chunk]!;
    if (trip === 1) this.handedOut++;
    else this.noteResend(chunk);
    const decided = losesNth?.(this.onWire++) ?? losesChunk?.(chunk, trip);
    if (decided ?? this.random.chance(chunks.loss ?? 0)) return;
    this.travel(leftNs, chunks, () => this.arrive(chunk, trip));
  }

  private transmitParity(chunk: number, leftNs: number): void {
    const { losesParity, losesNth, chunks = {} } = this.scenario;
    const decided = losesNth?.(this.onWire++) ?? losesParity?.(chunk);
    if (decided ?? this.random.chance(chunks.loss ?? 0)) return;
    this.travel(leftNs, chunks, () => this.set(this.parityWords, chunk));
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

  private arrive(chunk: number, trip: number): void {
    if (!this.set(this.words, chunk)) return;
    if (trip === 1) this.chunksArrived++;
    else this.chunksRepaired++;
  }

  /** False when it was there, or nobody is interested any more. */
  private set(words: Uint32Array, chunk: number): boolean {
    if (this.receiver.complete) return false;
    const bit = 1 << (chunk & 31);
    if ((words[chunk >>> 5]! & bit) !== 0) return false;
    words[chunk >>> 5]! |= bit;
    const { progressNs = 0 } = this.scenario;
    if (progressNs === 0) this.progress();
    else if (!this.progressDue) {
      this.progressDue = true;
      this.agenda.add(this.nowNs + progressNs, () => this.progress());
    }
    return true;
  }

  private progress(): void {
    const { bitmap, parityBitmap, receiver } = this;
    this.progressDue = false;
    if (parityBitmap.chunkCount === 0) receiver.handleProgress(bitmap, this.nowNs);
    else receiver.handleProgress(bitmap, this.nowNs, parityBitmap);
    if (!receiver.complete) return;
    if (
      this.words.length > 0 &&
      new ChunkBitmap(this.words, bitmap.chunkCount).count() !== bitmap.chunkCount
    )
      this.violated("complete too early");
    for (const over of [bitmap, parityBitmap])
      Object.defineProperty(over, "words", {
        get: () => this.violated("read a bitmap after completion"),
      });
  }

  private drainReceiver(): void {
    for (let frame = this.receiver.pollControl(this.nowNs); frame !== undefined; ) {
      const index = this.framesFromReceiver.push(frame) - 1;
      const lost = this.scenario.losesFrame?.(frame, index);
      this.sendFrame(frame, this.scenario.framesToSender, lost, (f) => this.toSender(f));
      frame = this.receiver.pollControl(this.nowNs);
    }
    this.decode();
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
