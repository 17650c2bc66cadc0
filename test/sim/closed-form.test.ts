/**
 * Mean completion times of whole emulated transfers (packets, links, control frames and all) against the paper's
 * formula in the regime where it is exact. Tolerance: 2 % of the formula and the 99.9 % confidence interval of the
 * trials' mean.
 */
import { describe, expect, test } from "vitest";
import { Random } from "../../src/base/random.ts";
import {
  Context,
  EmulatedWorld,
  MemoryRegion,
  type Policy,
  parseLink,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../../src/sdk/index.ts";
import {
  chunkwise,
  meanCompletionNs,
  packetwise,
  type SelectiveRepeatModel,
} from "./closed-form.ts";

const CHUNK_BYTES = 65_536;
const PACKET_BYTES = 4096;
/** Chunks of one packet: what the paper's formula is about to the letter. */
const LARGE_PACKET_BYTES = 65_000;
const RATE_BPS = 400e9;
const RTT_NS = 25e6;
const TOLERANCE = 0.02;
/** Standard errors on either side of the mean: 99.9 %. */
const CONFIDENCE = 3.29;
const SEED = 20260;

/** The formula evaluated literally, by drawing: the check of the checker. */
function drawnMeanNs(
  model: SelectiveRepeatModel,
  trials: number,
): { meanNs: number; errorNs: number } {
  const { chunks, chunkNs, rttNs, rtoNs, notIn } = model;
  const random = new Random(SEED, "closed form");
  const times = Array.from({ length: trials }, () => {
    let worstNs = 0;
    for (let i = 1; i <= chunks; i++) {
      let lost = 0;
      while (random.chance(notIn(lost + 1) / notIn(lost))) lost++;
      worstNs = Math.max(worstNs, i * chunkNs + lost * (rtoNs + chunkNs));
    }
    return worstNs + rttNs;
  });
  return meanAndError(times);
}

function meanAndError(values: readonly number[]): { meanNs: number; errorNs: number } {
  const meanNs = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - meanNs) ** 2, 0);
  return { meanNs, errorNs: Math.sqrt(squares / (values.length - 1) / values.length) };
}

interface Point {
  readonly packetBytes: number;
  readonly packets: number;
  readonly chunks: number;
  readonly packetLoss: number;
}

/** Completion times of `trials` messages of phantom memory, one after the other on one connection. */
async function emulate(policy: Policy, point: Point, trials: number): Promise<number[]> {
  const { packetBytes, packets, chunks, packetLoss } = point;
  const chunkBytes = packetBytes * packets;
  const bytes = chunks * chunkBytes;
  const world = new EmulatedWorld({ seed: SEED });
  const forward = parseLink(`rate 400gbit delay 12.5ms loss ${packetLoss}`);
  using from = Context.emulated(world, forward);
  using to = Context.emulated(world, parseLink("delay 12.5ms"));
  const attributes = { packetBytes, chunkBytes, maxMessageBytes: bytes, maxMessages: 1 };
  const [qa, qb] = [from.createQueuePair(attributes), to.createQueuePair(attributes)];
  await world.run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
  const [source, target] = [MemoryRegion.phantom(bytes), MemoryRegion.phantom(bytes)];
  const times: number[] = [];
  for (let trial = 0; trial < trials; trial++) {
    const receive = reliableReceive(qb, target, policy);
    const write = reliableWrite(qa, source, policy);
    const [report] = await world.run(Promise.all([write, receive]));
    times.push(report.completionNs);
  }
  return times;
}

function inPackets(packetBytes: number, packets: number): (chunks: number, loss: number) => Point {
  return (chunks, packetLoss) => ({ packetBytes, packets, chunks, packetLoss });
}
const whole = inPackets(LARGE_PACKET_BYTES, 1);
const split = inPackets(PACKET_BYTES, CHUNK_BYTES / PACKET_BYTES);
const points = [
  whole(1, 1e-2),
  whole(16, 1e-2),
  whole(256, 1e-3),
  whole(256, 2e-2),
  whole(2048, 1e-4),
  whole(2048, 1e-2),
  split(16, 1e-3),
  split(256, 1e-5),
  split(256, 1e-3),
  split(2048, 1e-6),
  split(2048, 1e-5),
  split(2048, 1e-4),
];
const policies = [
  { name: "sr-rto", rtoNs: 3 * RTT_NS },
  { name: "sr-nack", rtoNs: RTT_NS },
];
/** Chunks emulated at each point, so that small messages have many trials. */
const CHUNKS_PER_POINT = 300_000;
const TRIALS_MAX = 2000;

function modelOf(point: Point, rtoNs: number): SelectiveRepeatModel {
  const { packetBytes, packets, chunks, packetLoss } = point;
  const chunkNs = (packetBytes * packets * 8e9) / RATE_BPS;
  const notIn = packets === 1 ? chunkwise(packetLoss) : packetwise(packetLoss, packets);
  return { chunks, chunkNs, rttNs: RTT_NS, rtoNs, notIn };
}

describe("the formula", () => {
  test("without loss is M t + RTT", () => {
    const model = modelOf(split(256, 0), 3 * RTT_NS);
    expect(meanCompletionNs(model)).toBeCloseTo(256 * model.chunkNs + RTT_NS, 3);
  });

  test("of one chunk is t + RTT + O P / (1 - P)", () => {
    const model = modelOf(whole(1, 0.05), 3 * RTT_NS);
    const { chunkNs, rtoNs } = model;
    const p = 0.05;
    const repairNs = ((rtoNs + chunkNs) * p) / (1 - p);
    expect(meanCompletionNs(model)).toBeCloseTo(chunkNs + RTT_NS + repairNs, 0);
  });

  test.each([whole(1, 0.1), whole(60, 0.05), split(7, 0.02), split(60, 5e-3)])(
    "equals the mean of draws: $chunks chunks of $packets packets",
    (point) => {
      const model = modelOf(point, 3 * RTT_NS);
      const { meanNs, errorNs } = drawnMeanNs(model, 20_000);
      expect(Math.abs(meanNs - meanCompletionNs(model))).toBeLessThan(4 * errorNs);
    },
  );
});

describe.each(policies)("$name emulated at 400 Gbit/s and 25 ms", ({ name, rtoNs }) => {
  test.each(points)(
    "takes the formula's mean time: $chunks chunks of $packets packets, packet loss $packetLoss",
    async (point) => {
      const { chunks, packets, packetLoss } = point;
      const trials = Math.min(TRIALS_MAX, Math.ceil(CHUNKS_PER_POINT / chunks));
      const wantedNs = meanCompletionNs(modelOf(point, rtoNs));
      const { meanNs, errorNs } = meanAndError(await emulate(parsePolicy(name), point, trials));
      const percent = (part: number) => `${((part / wantedNs) * 100).toFixed(2)} %`;
      process.stdout.write(
        `${name}, ${chunks} chunks of ${packets} packets, packet loss ${packetLoss}, ${trials} trials, seed ${SEED}: ` +
          `emulated ${(meanNs / 1e6).toFixed(3)} ms, formula ${(wantedNs / 1e6).toFixed(3)} ms, ` +
          `${percent(meanNs - wantedNs)}, standard error ${percent(errorNs)}\n`,
      );
      const allowedNs = TOLERANCE * wantedNs + CONFIDENCE * errorNs;
      expect(Math.abs(meanNs - wantedNs)).toBeLessThanOrEqual(allowedNs);
    },
  );
});
