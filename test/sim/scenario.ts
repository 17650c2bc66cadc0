/**
 * What one seed of the swarm stands for: every setting of a run, drawn from the seed alone. Which faults there are
 * at all is drawn before how strong they are, so that seeds differ in kind and not only in degree.
 */
import { Random } from "../../src/base/random.ts";
import {
  formatLink,
  hybridPolicy,
  type LinkProfile,
  type Policy,
  parsePolicy,
} from "../../src/sdk/index.ts";

export interface MessagePlan {
  readonly bytes: number;
  readonly seed: number;
  readonly immediate: number | undefined;
  /** A policy's text, as policyOf has it, or "" for a one-shot send without one. */
  readonly policy: string;
  /** Virtual time between the ends' posts of the message before and of this one. */
  readonly sendGapNs: number;
  readonly receiveGapNs: number;
  /** After this long in flight the end gives up; Infinity: never. */
  readonly senderAbortNs: number;
  readonly receiverAbortNs: number;
  readonly senderTimeoutNs: number;
  readonly receiverTimeoutNs: number;
  /** Policy-less only: the receive is completed this long after its post, or when all has arrived. */
  readonly completeNs: number;
  /** The receive is posted for fewer bytes than are sent. */
  readonly isTooLarge: boolean;
  /** The two ends name different policies. */
  readonly isMismatched: boolean;
}

export interface LinkChange {
  readonly atNs: number;
  readonly way: 0 | 1;
  readonly link: string;
}

export interface Scenario {
  readonly seed: number;
  readonly packetBytes: number;
  readonly packetsPerChunk: number;
  readonly split: readonly [number, number, number];
  readonly maxMessages: number;
  readonly generations: number;
  readonly maxInFlightBytes: number | undefined;
  readonly rateBps: number | undefined;
  readonly progressIntervalNs: number;
  /** Messages that a side keeps in flight; at most maxMessages. */
  readonly inFlight: number;
  readonly links: readonly [string, string];
  readonly changes: readonly LinkChange[];
  /** From here on both links are clean. */
  readonly healNs: number;
  readonly healedLinks: readonly [string, string];
  /** Of each direction. */
  readonly messages: readonly [readonly MessagePlan[], readonly MessagePlan[]];
}

export const MESSAGE_BYTES_MAX = 96 * 1024;
const MESSAGES_MAX = 14;
const PACKETS_MAX = 1500;
const HEAL_NS_MIN = 1e6;
const HEAL_NS_MAX = 2e9;

/** From `least` to `most` with a uniform logarithm: as likely small as large. */
function logUniform(random: Random, least: number, most: number): number {
  return least * (most / least) ** random.float();
}

function wholeLog(random: Random, least: number, most: number): number {
  return Math.round(logUniform(random, least, most));
}

/** Up to `most`, most often small. */
function share(random: Random, most: number): number {
  return Number((most * random.float() ** 2).toFixed(4));
}

function drawLoss(random: Random): LinkProfile {
  switch (random.int(0, 4)) {
    case 0:
      return { loss: "bernoulli", lossProbability: share(random, 0.4) };
    case 1:
      return {
        loss: "bernoulli",
        lossProbability: share(random, 0.3),
        lossCorrelation: share(random, 0.5),
      };
    case 2:
      return {
        loss: "gilbert_elliott",
        geP: share(random, 0.1) + 0.001,
        geR: share(random, 0.8) + 0.05,
        geLossBad: 0.5 + share(random, 0.5),
        geLossGood: share(random, 0.05),
      };
    case 3: {
      const trace = new Uint8Array(random.int(2, 200)).map(() => (random.chance(0.15) ? 1 : 0));
      return { loss: "trace", lossTrace: trace };
    }
    default:
      return {
        loss: "by_size",
        lossBySize: [
          [64, share(random, 0.05)],
          [4096, share(random, 0.4)],
        ],
      };
  }
}

/** Early packets of a kind, or some in the middle. */
function drawDrops(random: Random): LinkProfile {
  const drops = Array.from({ length: random.int(1, 4) }, () => {
    const first = random.chance(0.5) ? 1 : random.int(1, 40);
    return { kind: random.int(0, 9), first, last: first + random.int(0, 6) };
  });
  return { drops };
}

function drawDelay(random: Random): LinkProfile {
  const delayNs = wholeLog(random, 1000, 30e6);
  const link: LinkProfile = { delayNs };
  if (random.chance(0.5)) return link;
  const jitterNs = Math.max(1, Math.round(delayNs * random.float()));
  const distribution = random.pick(["uniform", "normal", "pareto", "paretonormal"] as const);
  const delayCorrelation = random.chance(0.3) ? share(random, 0.9) : 0;
  return { ...link, jitterNs, distribution, delayCorrelation };
}

function drawLink(random: Random): LinkProfile {
  const has = () => random.chance(0.4);
  let link: LinkProfile = {};
  if (random.chance(0.6)) link = { ...link, rateBps: wholeLog(random, 5e6, 100e9) };
  if (random.chance(0.8)) link = { ...link, ...drawDelay(random) };
  if (random.chance(0.6)) link = { ...link, ...drawLoss(random) };
  if (has()) link = { ...link, duplicateProbability: share(random, 0.5) };
  if (has()) link = { ...link, corruptProbability: share(random, 0.1) };
  if (link.delayNs !== undefined && has())
    link = { ...link, reorderProbability: share(random, 0.6), reorderGap: random.int(1, 5) };
  if (link.rateBps !== undefined && random.chance(0.25))
    link = { ...link, limitPackets: random.int(4, 400) };
  if (has()) link = { ...link, ...drawDrops(random) };
  return link;
}

function drawChanges(random: Random, healNs: number): LinkChange[] {
  if (random.chance(0.6)) return [];
  return Array.from({ length: random.int(1, 4) }, () => ({
    atNs: wholeLog(random, 1000, healNs),
    way: random.int(0, 1) as 0 | 1,
    link: random.chance(0.3) ? "loss 100%" : formatLink(drawLink(random)),
  })).sort((a, b) => a.atNs - b.atNs);
}

function drawBytes(random: Random, packetBytes: number, chunkBytes: number): number {
  const most = Math.min(MESSAGE_BYTES_MAX, PACKETS_MAX * packetBytes);
  const around = (center: number) => center + random.int(-1, 1);
  const draws = [
    () => 0,
    () => 1,
    () => around(packetBytes),
    () => around(chunkBytes),
    () => around(chunkBytes * random.int(1, 40)),
    () => around(packetBytes * random.int(1, 40)),
    () => wholeLog(random, 1, most),
    () => wholeLog(random, 1, most),
    () => random.int(0, most),
  ];
  return Math.max(0, Math.min(most, random.pick(draws)()));
}

function drawRetransmission(random: Random): string {
  const name = random.pick(["gbn", "sr-rto", "sr-nack"]);
  if (random.chance(0.7)) return name;
  const alpha = Number(logUniform(random, 0.2, 8).toFixed(2));
  if (name === "sr-rto") return `sr-rto(${alpha})`;
  if (name === "sr-nack")
    return `sr-nack(alpha=${alpha},reorder=${(share(random, 0.9) + 0.01).toFixed(2)})`;
  return name;
}

interface MessageSettings {
  readonly packetBytes: number;
  readonly chunkBytes: number;
  readonly healNs: number;
  /** How likely each kind of early end is. */
  readonly troubleChance: number;
  readonly rawChance: number;
}

function drawMessage(random: Random, settings: MessageSettings, policy: string): MessagePlan {
  const { packetBytes, chunkBytes, healNs, troubleChance, rawChance } = settings;
  const trouble = () => random.chance(troubleChance);
  const soon = () => (trouble() ? wholeLog(random, 1000, healNs) : Number.POSITIVE_INFINITY);
  const isRaw = random.chance(rawChance);
  const bytes = drawBytes(random, packetBytes, chunkBytes);
  return {
    bytes,
    seed: random.uint32(),
    immediate: random.chance(0.5) ? random.uint32() : undefined,
    policy: isRaw ? "" : policy,
    sendGapNs: random.chance(0.7) ? 0 : wholeLog(random, 100, 20e6),
    receiveGapNs: random.chance(0.7) ? 0 : wholeLog(random, 100, 20e6),
    senderAbortNs: soon(),
    receiverAbortNs: soon(),
    senderTimeoutNs: isRaw ? Number.POSITIVE_INFINITY : soon(),
    receiverTimeoutNs: isRaw ? Number.POSITIVE_INFINITY : soon(),
    completeNs: isRaw ? wholeLog(random, 1000, healNs) : Number.POSITIVE_INFINITY,
    isTooLarge: bytes > 0 && random.chance(troubleChance / 4),
    isMismatched: !isRaw && random.chance(troubleChance / 4),
  };
}

/** An erasure code of any shape whose parity has room beside the largest message; undefined where none has. */
function drawCode(random: Random, scenario: Scenario): string | undefined {
  const { chunks, room } = chunksAndRoom(scenario);
  const kind = random.pick(["mds", "xor"]);
  const isUsual = random.chance(0.2);
  const k = isUsual ? 32 : wholeLog(random, 1, 64);
  const most = Math.min(Math.floor(room / Math.ceil(chunks / k)), kind === "xor" ? k : 64);
  const m = Math.min(isUsual ? 8 : wholeLog(random, 1, 24), most);
  const beta = random.chance(0.8) ? "" : `,beta=${logUniform(random, 0.01, 4).toFixed(2)}`;
  return m < 1 ? undefined : `ec-${kind}(${k},${m}${beta})`;
}

/**
 * In half of the scenarios most messages go by erasure codes. From a stream of their own, so that the rest of a seed's
 * scenario does not depend on them, and seeds that once found something (swarm.test.ts) still stand for that.
 */
function withCodes(scenario: Scenario): Scenario {
  const random = new Random(scenario.seed, "erasure coding");
  if (random.chance(0.5)) return scenario;
  const shared = drawCode(random, scenario);
  const perMessage = random.chance(0.3);
  const recode = (plan: MessagePlan): MessagePlan => {
    const code = perMessage ? drawCode(random, scenario) : shared;
    const isKept = plan.policy === "" || code === undefined || random.chance(0.1);
    return isKept ? plan : { ...plan, policy: code };
  };
  const [forward, backward] = scenario.messages;
  return { ...scenario, messages: [forward.map(recode), backward.map(recode)] };
}

/** Chunks of data and of parity that addresses are left for, in the longest message. */
function chunksAndRoom({ packetBytes, packetsPerChunk, split }: Scenario) {
  const chunkBytes = packetBytes * packetsPerChunk;
  const addressable = packetBytes * 2 ** split[1];
  const chunks = Math.ceil(Math.min(MESSAGE_BYTES_MAX, addressable) / chunkBytes);
  return { chunks, room: Math.floor(addressable / chunkBytes) - chunks };
}

/** The hybrid scheme or the policy that chooses, with room for their parity; undefined where there is none. */
function drawHybrid(random: Random, scenario: Scenario): string | undefined {
  const { chunks, room } = chunksAndRoom(scenario);
  const isUsual = random.chance(0.3);
  const drawn = (least: number, most: number) => logUniform(random, least, most).toPrecision(2);
  const text = random.pick([
    isUsual ? "hybrid" : `hybrid(target=${drawn(1e-6, 0.5)})`,
    isUsual
      ? "auto"
      : `auto(objective=${random.pick([0.5, 0.9, 0.999])},overhead=${drawn(1e-3, 2)})`,
  ]);
  const parity = parsePolicy(text).parityChunks?.(chunks) ?? 0;
  return parity <= room ? text : undefined;
}

/** The hybrid scheme with blocks so small that these messages have many, which take turns. */
function drawBlocks(random: Random, scenario: Scenario): string | undefined {
  const { chunks, room } = chunksAndRoom(scenario);
  const rows = random.int(1, 12);
  const shape = [random.int(BLOCKS_K_MIN, 24), rows, random.int(0, rows), random.int(1, 9)];
  const text = `blocks(${shape.join(",")})`;
  const parity = policyOf(text).parityChunks?.(chunks) ?? 0;
  return parity <= room ? text : undefined;
}

/** Blocks of fewer chunks may have no room for a row. */
const BLOCKS_K_MIN = 4;

/** A policy from text as parsePolicy has it, or "blocks(k,rows,parity,interleave)": hybrid, of about that shape. */
export function policyOf(text: string): Policy {
  const numbers = /^blocks\((\d+),(\d+),(\d+),(\d+)\)$/.exec(text)?.slice(1).map(Number);
  if (numbers === undefined) return parsePolicy(text);
  const [k, rowsMost, parity, interleave] = numbers as [number, number, number, number];
  const policy: Policy = hybridPolicy(text, {
    target: 0.01,
    choose: (chunkCount) => {
      const room = policy.parityChunks?.(chunkCount) ?? 0;
      const rows = Math.min(rowsMost, Math.floor(room / Math.ceil(chunkCount / k)));
      return { k, rows, parity: Math.min(parity, rows), interleave };
    },
  });
  return policy;
}

/** In a third of the scenarios most messages go by these; from a stream of their own, as for erasure codes. */
function withHybrid(scenario: Scenario): Scenario {
  return withDrawn(scenario, "hybrid", 1 / 3, drawHybrid);
}

/** The same for a quarter of them. */
function withBlocks(scenario: Scenario): Scenario {
  return withDrawn(scenario, "blocks", 1 / 4, drawBlocks);
}

function withDrawn(
  scenario: Scenario,
  stream: string,
  chance: number,
  draw: (random: Random, scenario: Scenario) => string | undefined,
): Scenario {
  const random = new Random(scenario.seed, stream);
  if (random.chance(1 - chance)) return scenario;
  const shared = draw(random, scenario);
  const perMessage = random.chance(0.3);
  const change = (plan: MessagePlan): MessagePlan => {
    const policy = perMessage ? draw(random, scenario) : shared;
    const isKept = plan.policy === "" || policy === undefined || random.chance(0.1);
    return isKept ? plan : { ...plan, policy };
  };
  const [forward, backward] = scenario.messages;
  return { ...scenario, messages: [forward.map(change), backward.map(change)] };
}

export function drawScenario(seed: number): Scenario {
  const random = new Random(seed, "swarm");
  const packetBytes = random.pick([64, 128, 256, 512, 1024, 1400, 4096]);
  const packetsPerChunk = random.pick([1, 1, 2, 3, 4, 7, 16, 33]);
  const chunkBytes = packetBytes * packetsPerChunk;
  const healNs = wholeLog(random, HEAL_NS_MIN, HEAL_NS_MAX);
  const maxMessages = random.pick([1, 2, 3, 4, 8, 16]);
  const settings: MessageSettings = {
    packetBytes,
    chunkBytes,
    healNs,
    troubleChance: random.chance(0.5) ? 0 : share(random, 0.4),
    rawChance: random.chance(0.7) ? 0 : random.float(),
  };
  const policy = drawRetransmission(random);
  const perMessage = random.chance(0.3);
  const drawMessages = (count: number) =>
    Array.from({ length: count }, () =>
      drawMessage(random, settings, perMessage ? drawRetransmission(random) : policy),
    );
  const clean = () =>
    formatLink(random.chance(0.5) ? { delayNs: wholeLog(random, 1000, 30e6) } : {});
  const scenario = withCodes({
    seed,
    packetBytes,
    packetsPerChunk,
    split: random.pick([
      [10, 18, 4],
      [8, 22, 2],
      [16, 16, 0],
      [12, 12, 8],
      [5, 11, 16],
    ] as const),
    maxMessages,
    generations: random.pick([1, 2, 4, 7]),
    maxInFlightBytes: random.chance(0.3) ? wholeLog(random, 1, 64 * chunkBytes) : undefined,
    rateBps: random.chance(0.25) ? wholeLog(random, 5e6, 10e9) : undefined,
    progressIntervalNs: random.pick([0, 1000, 10_000, 1_000_000]),
    inFlight: random.int(1, maxMessages),
    links: [formatLink(drawLink(random)), formatLink(drawLink(random))],
    changes: drawChanges(random, healNs),
    healNs,
    healedLinks: [clean(), clean()],
    messages: [
      drawMessages(random.int(1, MESSAGES_MAX)),
      drawMessages(random.chance(0.5) ? 0 : random.int(1, MESSAGES_MAX)),
    ],
  });
  return withBlocks(withHybrid(scenario));
}

/** A text of every setting, a line each; what a failure prints. */
export function describeScenario(scenario: Scenario): string {
  const { messages, changes, ...settings } = scenario;
  const infinite = (_key: string, value: unknown) =>
    value === Number.POSITIVE_INFINITY ? "never" : value;
  const lines = Object.entries(settings).map(
    ([key, value]) => `  ${key}: ${JSON.stringify(value)}`,
  );
  for (const change of changes) lines.push(`  change: ${JSON.stringify(change)}`);
  for (const [way, plans] of messages.entries())
    for (const [i, plan] of plans.entries())
      lines.push(`  message ${i} of direction ${way}: ${JSON.stringify(plan, infinite)}`);
  return lines.join("\n");
}
