/**
 * What erasure-coding policies must do beyond what every policy must: recover what parity can recover without a word
 * to the sender, repair the rest, and say truly which was which.
 */
import { describe, expect, test } from "vitest";
import {
  MemoryRegion,
  type Policy,
  parsePolicy,
  type ReceiveReport,
  reliableReceive,
  reliableWrite,
  type WriteReport,
} from "../../src/sdk/index.ts";
import {
  caseIf,
  codeOf,
  codeThrown,
  expectArrived,
  type FixtureMaker,
  packetBytesOf,
  source,
  target,
  withPair,
} from "./fixture.ts";
import { begin, finish } from "./policy.ts";

const CODES = ["ec-mds(8,3)", "ec-xor(8,4)"];
/**
 * What is on its way has a sixteenth of this to come in before it is asked for: with much of it, no case here hangs on
 * how soon a busy machine runs a thread.
 */
const PATIENT_NS = 2e9;
/** Where nothing is to be asked for at all. */
const VERY_PATIENT_NS = 20e9;

interface Outcome {
  readonly write: WriteReport;
  readonly receive: ReceiveReport;
}

/** One message of `chunks` chunks, of which the sender's link drops what `drops` say. */
async function carry(
  maker: FixtureMaker,
  policy: Policy,
  chunks: number,
  drops: string,
  rtoFloorNs = PATIENT_NS,
): Promise<Outcome> {
  let outcome: Outcome | undefined;
  const attributes = maker.capabilities.virtualTime ? {} : { rtoFloorNs };
  const options = { forward: `delay 500us ${drops}`, seed: 3, attributes };
  await withPair(maker, options, async (pair) => {
    const bytes = chunks * pair.chunkBytes - pair.packetBytes - 1;
    const one = begin(pair, policy, bytes, 17);
    const [write, receive] = await pair.run(Promise.all([one.write, one.receive]));
    expectArrived(one.to, one.from);
    outcome = { write, receive };
  });
  return outcome as Outcome;
}

export function erasureCompliance(maker: FixtureMaker): void {
  describe.each(CODES)(`erasure coding, %s, on ${maker.name}`, (text) => {
    const policy = parsePolicy(text);
    const perChunk = (maker.attributes.chunkBytes ?? 65_536) / packetBytesOf(maker);
    recoveryCases(maker, policy, perChunk);
    refusalCases(maker, policy, text);
  });
  phantomCase(maker);
}

function recoveryCases(maker: FixtureMaker, policy: Policy, perChunk: number): void {
  test("a clean path costs parity and nothing else", async () => {
    const { write, receive } = await carry(maker, policy, 40, "", VERY_PATIENT_NS);
    expect(write).toMatchObject({ chunksRetransmitted: 0, fallbacks: 0, nacksReceived: 0 });
    expect(receive).toMatchObject({ fallbacks: 0, parityUsed: receive.chunksRecovered });
  });

  // The parity that saves a block comes after the next block's data: every loss here lies before that.
  test.each([1, 2, 3])("a burst of %i chunks is recovered without a repair", async (burst) => {
    const first = 9 * perChunk + 1;
    const drops = `drop data ${first}-${first + burst * perChunk - 1}`;
    const { write, receive } = await carry(maker, policy, 40, drops, VERY_PATIENT_NS);
    expect(write).toMatchObject({ chunksRetransmitted: 0, fallbacks: 0 });
    expect(receive.chunksRecovered).toBe(burst);
    expect(receive.parityUsed).toBeGreaterThanOrEqual(burst);
  });

  test("more than parity can recover is repaired, and counted as that", async () => {
    const first = 8 * perChunk + 1;
    const drops = `drop data ${first}-${first + 6 * perChunk - 1}`;
    const { write, receive } = await carry(maker, policy, 40, drops);
    expect(write.fallbacks).toBe(1);
    expect(write.nacksReceived).toBeGreaterThan(0);
    expect(write.chunksRetransmitted).toBeGreaterThan(0);
    expect(receive.fallbacks).toBe(1);
  });

  test("a block without any of its chunks is repaired", async () => {
    const { write } = await carry(maker, policy, 8, `drop data 1-${16 * perChunk}`);
    expect(write.chunksRetransmitted).toBeGreaterThanOrEqual(8);
  });
}

function refusalCases(maker: FixtureMaker, policy: Policy, text: string): void {
  test("a peer with other parameters is refused on both ends, and the next message works", () =>
    withPair(maker, {}, async (pair) => {
      const bytes = 20 * pair.chunkBytes;
      const other = parsePolicy(text.replace("(8,", "(7,"));
      const [from, to] = [source(bytes, 1), target(bytes)];
      const receive = reliableReceive(pair.qb, to.region, other, { offset: to.offset, bytes });
      const write = reliableWrite(pair.qa, from.region, policy, { offset: from.offset, bytes });
      const codes = await pair.run(Promise.all([codeOf(write), codeOf(receive)]));
      expect(codes).toEqual(["PEER_INCOMPATIBLE", "PEER_INCOMPATIBLE"]);
      await finish(pair, begin(pair, policy, bytes, 2), policy);
    }));

  test("a receive whose parity has no room is TOO_LARGE", () =>
    withPair(maker, { attributes: { maxParityBytes: 0 } }, async ({ qb, chunkBytes }) => {
      const { region } = target(8 * chunkBytes);
      expect(codeThrown(() => qb.postReceive({ region, parityChunks: 1 }))).toBe("TOO_LARGE");
      expect(codeThrown(() => reliableReceive(qb, region, policy))).toBe("TOO_LARGE");
    }));
}

function phantomCase(maker: FixtureMaker): void {
  const { phantom } = maker.capabilities;
  caseIf(phantom, "no phantom regions", `phantom blocks recover on ${maker.name}`, () =>
    withPair(maker, { forward: "delay 500us loss 3%", seed: 5 }, async (pair) => {
      const policy = parsePolicy("ec-mds(8,4)");
      const region = MemoryRegion.phantom(200 * pair.chunkBytes);
      const work = [
        reliableReceive(pair.qb, region, policy),
        reliableWrite(pair.qa, region, policy),
      ] as const;
      const [receive] = await pair.run(Promise.all(work));
      expect(receive.chunksRecovered).toBeGreaterThan(0);
    }),
  );
}
