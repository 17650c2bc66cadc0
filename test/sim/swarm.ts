/**
 * Runs one scenario of the swarm on a stage: in virtual time, or on real sockets. Phase 1: safety under faults; no end
 * ever sees a wrong byte, and no completed buffer changes. Phase 2: the links heal, and everything that was not given
 * up must complete.
 */

import { Random } from "../../src/base/random.ts";
import {
  Context,
  EmulatedWorld,
  type LinkProfile,
  MemoryRegion,
  type Policy,
  parseLink,
  type QueuePair,
  type ReceiveHandle,
  type ReceiveReport,
  reliableReceive,
  reliableWrite,
  SdrError,
  type SendHandle,
  type WriteReport,
} from "../../src/sdk/index.ts";
import { MESSAGE_BYTES_MAX, type MessagePlan, policyOf, type Scenario } from "./scenario.ts";

/** Time from the healing within which everything must have settled. */
export const LIVENESS_NS = 60e9;
/** A silent peer counts as gone only long after any outage a scenario has. */
const PEER_TIMEOUT_NS = 30e9;
const STEP_NS_MIN = 10_000;
const STEP_NS_MAX = 10e6;
const GUARD_BYTES = 37;
const GUARD = 0xc3;
const SCRIBBLE = 0x5a;

export interface SwarmOutcome {
  readonly messages: number;
  readonly completed: number;
  readonly givenUp: number;
  readonly bytes: number;
  readonly virtualNs: number;
}

/** Two ends, the links between them, and their time. */
export interface Stage {
  readonly contexts: readonly [Context, Context];
  nowNs(): number;
  /** Lets at most this much time pass; returns early when `stop` says so. */
  advance(durationNs: number, stop: () => boolean): Promise<void>;
  /** Replaces what the end with this queue pair sends over. */
  setLink(way: 0 | 1, link: LinkProfile, qp: QueuePair): void;
  close(): void;
}

export function emulatedStage(scenario: Scenario): Stage {
  const { seed, progressIntervalNs, links } = scenario;
  const world = new EmulatedWorld({ seed, progressIntervalNs });
  const [a, b] = links.map((link) => Context.emulated(world, parseLink(link))) as [
    Context,
    Context,
  ];
  return {
    contexts: [a, b],
    nowNs: () => world.nowNs(),
    advance: (durationNs) => world.advance(durationNs),
    setLink: (way, link) => world.setLink([a, b][way]!.transport, link),
    close() {
      a.close();
      b.close();
      world.close();
    },
  };
}

/** Timers of the scenario itself. */
class Clock {
  private readonly waiting: { atNs: number; wake: () => void }[] = [];
  private readonly stage: Stage;

  constructor(stage: Stage) {
    this.stage = stage;
  }

  get nowNs(): number {
    return this.stage.nowNs();
  }

  sleep(ns: number): Promise<void> {
    return new Promise((resolve) => this.at(this.nowNs + ns, resolve));
  }

  at(atNs: number, wake: () => void): void {
    if (atNs !== Number.POSITIVE_INFINITY) this.waiting.push({ atNs: Math.ceil(atNs), wake });
  }

  /** Lets time pass until `work` settles; throws when it has not by `limitNs`. */
  async run(what: () => string, work: Promise<unknown>, limitNs: number): Promise<void> {
    let settled = false;
    const mark = () => {
      settled = true;
    };
    work.then(mark, mark);
    // In steps that grow, as new timers may come up at any time and a settled run need not wait for the next.
    for (let stepNs = STEP_NS_MIN; !settled; stepNs = Math.min(2 * stepNs, STEP_NS_MAX)) {
      this.waiting.sort((x, y) => x.atNs - y.atNs);
      const { nowNs } = this;
      if (nowNs >= limitNs) throw new Error(`${what()} did not settle by ${limitNs} ns`);
      const next = this.waiting[0];
      if (next !== undefined && next.atNs <= nowNs) {
        this.waiting.shift();
        next.wake();
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      const untilNs = Math.min(next?.atNs ?? limitNs, limitNs, nowNs + stepNs);
      await this.stage.advance(untilNs - nowNs, () => settled);
    }
  }
}

type Result<Report> = { readonly report: Report } | { readonly code: string };

async function outcome<Report>(work: Promise<Report>): Promise<Result<Report>> {
  try {
    return { report: await work };
  } catch (error) {
    if (error instanceof SdrError) return { code: error.code };
    throw error;
  }
}

/** One planned message: its memory, what became of each end, and what must hold of it. */
class Message {
  readonly plan: MessagePlan;
  readonly source: Uint8Array;
  readonly sent: Uint8Array;
  readonly target: Uint8Array;
  readonly name: string;
  private kept: Uint8Array | undefined;
  sending: Result<WriteReport | undefined> | undefined;
  receiving: Result<ReceiveReport | "arrived" | "early"> | undefined;

  constructor(plan: MessagePlan, name: string) {
    this.plan = plan;
    this.name = name;
    const around = GUARD_BYTES + plan.bytes + GUARD_BYTES;
    this.source = new Random(plan.seed).fill(new Uint8Array(plan.bytes));
    this.sent = this.source.slice();
    this.target = new Uint8Array(around).fill(GUARD);
  }

  get receiveBytes(): number {
    return this.plan.isTooLarge ? this.plan.bytes - 1 : this.plan.bytes;
  }

  fail(what: string): never {
    throw new Error(`${this.name}: ${what}`);
  }

  /** The receive is over: from now on no byte may change. */
  seal(): void {
    this.kept = this.target.slice();
  }

  checkWhole(when: string): void {
    const { bytes } = this.plan;
    const { target } = this;
    const data = target.subarray(GUARD_BYTES, GUARD_BYTES + bytes);
    if (Buffer.compare(data, this.sent) !== 0) this.fail(`wrong data ${when}`);
    if (!this.guardsHold()) this.fail(`a guard byte changed ${when}`);
  }

  private guardsHold(): boolean {
    const { target } = this;
    const before = target.subarray(0, GUARD_BYTES);
    const after = target.subarray(target.length - GUARD_BYTES);
    return before.every((byte) => byte === GUARD) && after.every((byte) => byte === GUARD);
  }

  /** At the very end, whatever became of the message. */
  checkFinally(): void {
    const { kept, target, sent } = this;
    if (kept === undefined) this.fail("its receive never ended");
    if (Buffer.compare(kept, target) !== 0) this.fail("a byte changed after the receive had ended");
    if (!this.guardsHold()) this.fail("a guard byte changed");
    for (let i = 0; i < sent.length; i++) {
      const byte = target[GUARD_BYTES + i];
      if (byte !== GUARD && byte !== sent[i])
        this.fail(`byte ${i} is ${byte}, sent was ${sent[i]}`);
    }
    this.checkCodes();
    if (this.plan.policy === "" || this.sending === undefined || this.receiving === undefined)
      return;
    if ("report" in this.sending && "report" in this.receiving)
      this.checkFallbacks(
        this.sending.report as WriteReport,
        this.receiving.report as ReceiveReport,
      );
  }

  /** Nothing is sent again that was not asked for. */
  private checkFallbacks(write: WriteReport, receive: ReceiveReport): void {
    if (!write.policy.startsWith("ec-")) return;
    if (receive.fallbacks === 0 && write.chunksRetransmitted > 0)
      this.fail("chunks were sent again without a fallback");
    if (write.fallbacks > receive.fallbacks) this.fail("more blocks repaired than fell back");
  }

  private checkCodes(): void {
    const { sending, receiving, plan } = this;
    if (sending === undefined || receiving === undefined) this.fail("an end never settled");
    const codes = [sending, receiving].map((end) => ("code" in end ? end.code : "ok"));
    const allowed = this.allowedCodes();
    if (codes.some((code) => !allowed.has(code)))
      this.fail(`ended with ${codes.join(" and ")}; allowed: ${[...allowed].join(", ")}`);
    if (plan.policy !== "" && codes[0] === "ok" && codes[1] !== "ok")
      this.fail(`the sender knows of a delivery that the receiver reports as ${codes[1]}`);
  }

  private allowedCodes(): Set<string> {
    const { plan } = this;
    const never = Number.POSITIVE_INFINITY;
    const allowed = new Set<string>();
    const aborts = plan.senderAbortNs !== never || plan.receiverAbortNs !== never;
    const deadlines = plan.senderTimeoutNs !== never || plan.receiverTimeoutNs !== never;
    if (!plan.isMismatched && !plan.isTooLarge) allowed.add("ok");
    if (aborts) allowed.add("ABORTED");
    if (deadlines) allowed.add("DEADLINE_EXCEEDED");
    if (plan.isMismatched) allowed.add("PEER_INCOMPATIBLE");
    if (plan.isTooLarge) allowed.add("TOO_LARGE");
    // A receive completed before its sender began ends the send; one given up may be completed already.
    if (plan.policy === "") for (const code of ["ok", "CLOSED"]) allowed.add(code);
    return allowed;
  }

  checkReports(write: WriteReport): void {
    const { bytes, policy } = this.plan;
    const isSane =
      write.bytes === bytes &&
      write.policy === policyOf(policy).name &&
      Number.isInteger(write.chunksRetransmitted) &&
      Number.isInteger(write.completionNs) &&
      write.completionNs >= 0;
    if (!isSane) this.fail(`an odd write report: ${JSON.stringify(write)}`);
  }

  checkReceived(report: ReceiveReport): void {
    const { bytes, immediate } = this.plan;
    const { chunks, chunksRecovered, parityUsed, parityWasted } = report;
    const parityMost = policyOf(this.plan.policy).parityChunks?.(chunks) ?? 0;
    const isSane =
      report.bytes === bytes &&
      report.immediate === immediate &&
      report.durationNs >= 0 &&
      chunksRecovered <= chunks &&
      parityUsed === chunksRecovered &&
      parityUsed + parityWasted <= parityMost;
    if (!isSane) this.fail(`an odd receive report: ${JSON.stringify(report)}`);
  }
}

/** One direction: posts sends and receives in step with what is in flight, as an application would. */
class Direction {
  private readonly clock: Clock;
  private readonly scenario: Scenario;
  private readonly sender: QueuePair;
  private readonly receiver: QueuePair;
  /** Both ends' and all messages', by their texts: policies may remember what they saw of a path. */
  private readonly policies: Map<string, Policy>;
  readonly messages: readonly Message[];

  constructor(
    clock: Clock,
    scenario: Scenario,
    way: 0 | 1,
    sender: QueuePair,
    receiver: QueuePair,
  ) {
    this.clock = clock;
    this.scenario = scenario;
    this.sender = sender;
    this.receiver = receiver;
    const texts = new Set(scenario.messages[way].map(({ policy }) => policy));
    texts.delete("");
    this.policies = new Map([...texts].map((text) => [text, policyOf(text)]));
    this.messages = scenario.messages[way].map(
      (plan, i) => new Message(plan, `message ${i} of direction ${way}`),
    );
  }

  run(): Promise<unknown> {
    return Promise.all([
      this.post(
        (m) => m.plan.sendGapNs,
        (m) => this.send(m),
      ),
      this.post(
        (m) => m.plan.receiveGapNs,
        (m) => this.receive(m),
      ),
    ]);
  }

  private async post(
    gapOf: (message: Message) => number,
    begin: (message: Message) => Promise<void>,
  ): Promise<void> {
    const open: Promise<void>[] = [];
    for (const message of this.messages) {
      if (open.length === this.scenario.inFlight) await open.shift();
      if (gapOf(message) > 0) await this.clock.sleep(gapOf(message));
      const begun = begin(message);
      begun.catch(() => {}); // awaited below, in order
      open.push(begun);
    }
    await Promise.all(open);
  }

  private async send(message: Message): Promise<void> {
    const { plan, source } = message;
    const { immediate, senderTimeoutNs: timeoutNs } = plan;
    const region = MemoryRegion.register(source);
    if (plan.policy === "") {
      const handle = this.sender.send(region, immediate === undefined ? {} : { immediate });
      this.abortLater(plan.senderAbortNs, handle);
      message.sending = await outcome(handle.injected.then(() => undefined));
      return;
    }
    const policy = this.policies.get(plan.policy)!;
    const named = plan.isMismatched ? { ...policy, name: `x${policy.name}`.slice(0, 30) } : policy;
    const options = { ...(immediate === undefined ? {} : { immediate }), timeoutNs };
    const write = reliableWrite(this.sender, region, named, options);
    this.clock.at(this.clock.nowNs + plan.senderAbortNs, () => write.abort());
    message.sending = await outcome(write);
    if (!("report" in message.sending)) return;
    message.checkReports(message.sending.report!);
    message.checkWhole("when the sender learnt of its delivery");
    // The memory is the application's again: what is still under way must not matter.
    source.fill(SCRIBBLE);
  }

  private abortLater(afterNs: number, handle: SendHandle | ReceiveHandle): void {
    this.clock.at(this.clock.nowNs + afterNs, () => handle.abort());
  }

  private async receive(message: Message): Promise<void> {
    const { plan, target } = message;
    const region = MemoryRegion.register(target);
    const [offset, bytes] = [GUARD_BYTES, message.receiveBytes];
    if (plan.policy === "") return this.receiveRaw(message, region);
    const { receiverTimeoutNs: timeoutNs } = plan;
    const policy = this.policies.get(plan.policy)!;
    const receive = reliableReceive(this.receiver, region, policy, { offset, bytes, timeoutNs });
    this.clock.at(this.clock.nowNs + plan.receiverAbortNs, () => receive.abort());
    message.receiving = await outcome(receive);
    message.seal();
    if (!("report" in message.receiving)) return;
    message.checkReceived(message.receiving.report as ReceiveReport);
    message.checkWhole("when the receive completed");
  }

  /** Without a policy packets stay lost: the receive is completed at its time, with what is there. */
  private async receiveRaw(message: Message, region: MemoryRegion): Promise<void> {
    const { plan } = message;
    const maxBytes = message.receiveBytes;
    const handle = this.receiver.postReceive({ region, offset: GUARD_BYTES, maxBytes });
    this.abortLater(plan.receiverAbortNs, handle);
    this.clock.at(this.clock.nowNs + plan.completeNs, () => {
      handle.complete();
      if (message.receiving === undefined) message.seal();
    });
    const result = await outcome(handle.arrived.then(() => "arrived" as const));
    if ("report" in result) {
      message.checkWhole("when all had arrived");
      handle.complete();
    }
    message.receiving = result;
    message.seal();
  }
}

/** Most parity that any of the scenario's policies has for so many chunks. */
function parityChunksMax({ messages }: Scenario, chunkCount: number): number {
  const policies = new Set(messages.flat().map(({ policy }) => policy));
  policies.delete("");
  const counts = [...policies].map((text) => policyOf(text).parityChunks?.(chunkCount) ?? 0);
  return Math.max(0, ...counts);
}

function attributesOf(scenario: Scenario) {
  const { packetBytes, packetsPerChunk, split, maxMessages, generations } = scenario;
  const { maxInFlightBytes, rateBps } = scenario;
  const chunkBytes = packetBytes * packetsPerChunk;
  const maxMessageBytes = Math.min(MESSAGE_BYTES_MAX, packetBytes * 2 ** split[1]);
  return {
    packetBytes,
    chunkBytes,
    split,
    maxMessages,
    generations,
    maxMessageBytes,
    maxParityBytes: chunkBytes * parityChunksMax(scenario, Math.ceil(maxMessageBytes / chunkBytes)),
    peerTimeoutNs: PEER_TIMEOUT_NS,
    ...(maxInFlightBytes === undefined ? {} : { maxInFlightBytes }),
    ...(rateBps === undefined ? {} : { rateBps }),
  };
}

/** What no fault of a path may bring about. */
function checkCounters(qp: QueuePair): void {
  const { badQueue, badSlot, badPacket, badLength, framesMalformed, malformed } = qp.counters();
  const odd = { badQueue, badSlot, badPacket, badLength, framesMalformed, malformed };
  for (const [name, count] of Object.entries(odd))
    if (count > 0) throw new Error(`${count} counted as ${name}, which no link causes`);
}

/** Which ends are still open, and how long they have been. */
function unsettled(directions: readonly Direction[]): string {
  const open = directions.flatMap(({ messages }) =>
    messages.flatMap((m) => [
      ...(m.sending === undefined ? [`the send of ${m.name}`] : []),
      ...(m.receiving === undefined ? [`the receive of ${m.name}`] : []),
    ]),
  );
  return open.join(", ");
}

/** Runs a scenario; throws with the first thing that must not be. */
export async function runScenario(
  scenario: Scenario,
  makeStage: (scenario: Scenario) => Stage = emulatedStage,
): Promise<SwarmOutcome> {
  const { changes, healNs, healedLinks } = scenario;
  const stage = makeStage(scenario);
  try {
    const clock = new Clock(stage);
    const attributes = attributesOf(scenario);
    const [a, b] = stage.contexts;
    const [qa, qb] = [a.createQueuePair(attributes), b.createQueuePair(attributes)];
    const startNs = clock.nowNs;
    const limitNs = startNs + healNs + LIVENESS_NS;
    const connected = Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]);
    const set = (way: 0 | 1, link: string) => stage.setLink(way, parseLink(link), [qa, qb][way]!);
    for (const { atNs, way, link } of changes) clock.at(startNs + atNs, () => set(way, link));
    for (const way of [0, 1] as const) clock.at(startNs + healNs, () => set(way, healedLinks[way]));
    await clock.run(() => "connecting", connected, limitNs);
    await connected;
    const directions = [
      new Direction(clock, scenario, 0, qa, qb),
      new Direction(clock, scenario, 1, qb, qa),
    ];
    const work = Promise.all(directions.map((direction) => direction.run()));
    await clock.run(() => unsettled(directions), work, limitNs);
    await work;
    return await finish(clock, clock.nowNs - startNs, [qa, qb], directions);
  } finally {
    stage.close();
  }
}

async function finish(
  clock: Clock,
  virtualNs: number,
  qps: readonly QueuePair[],
  directions: readonly Direction[],
): Promise<SwarmOutcome> {
  const closed = Promise.all(qps.map((qp) => qp.close()));
  await clock.run(() => "closing", closed, Number.MAX_SAFE_INTEGER);
  await closed;
  for (const qp of qps) checkCounters(qp);
  const messages = directions.flatMap((direction) => direction.messages);
  for (const message of messages) message.checkFinally();
  const completed = messages.filter((m) => m.receiving !== undefined && "report" in m.receiving);
  return {
    messages: messages.length,
    completed: completed.length,
    givenUp: messages.length - completed.length,
    bytes: completed.reduce((sum, m) => sum + m.plan.bytes, 0),
    virtualNs,
  };
}
