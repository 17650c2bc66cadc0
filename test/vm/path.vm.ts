/**
 * Between the guests with real impairments of their network (tc netem), with nothing injected by the project
 * itself; and with an end that goes away for real: a killed process, a link that is down.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parsePolicy, reliableReceive, reliableWrite } from "../../src/sdk/index.ts";
import {
  codeOf,
  expectArrived,
  expectNothingForeign,
  type Pair,
  packetsMet,
  sha256,
  source,
  target,
  withPair,
} from "../compliance/fixture.ts";
import { begin, finish } from "../compliance/policy.ts";
import { withDeadline } from "../compliance/real-time.ts";
import { inject, openStream } from "../compliance/transfers.ts";
import { clearPath, guests, impair, maker, restoreLink } from "./guests.ts";

const PATHS = [
  "",
  "loss 5%",
  "delay 5ms 4ms distribution normal",
  "delay 2ms reorder 25% 50%",
  "duplicate 10%",
  "loss gemodel 1% 20% 80% 0.1% delay 3ms 2ms duplicate 2%",
];
const POLICIES = ["sr-nack", "ec-mds"];
/** Busy machines have guests stand still for as long as a second. */
const PEER_TIMEOUT_NS = 3e9;
/** A peer that is gone is noticed after its timeout; this bounds how long the test waits for that. */
const NOTICE_MS_MAX = 60_000;
/** More than any packet of the case below stays on its way. */
const LONGEST_DELAY_NS = 300e6;

beforeEach(clearPath);
afterEach(clearPath);

describe.each(PATHS)("netem '%s'", (path) => {
  test.each(POLICIES)("%s transfers arrive whole, both ways at once", (name) =>
    withPair(maker, {}, async (pair) => {
      impair(path);
      const policy = parsePolicy(name);
      const bytes = 100 * pair.chunkBytes + 13;
      const both = ([0, 1] as const).map((way) => begin(pair, policy, bytes, 11 + way, { way }));
      for (const one of both) await finish(pair, one, policy);
      for (const one of both) expectArrived(one.to, one.from);
    }),
  );
});

test("packets that arrive after completion change no byte of the buffer", () =>
  withPair(maker, { forward: "rate 1mbit" }, async (pair) => {
    impair("delay 60ms 30ms duplicate 20% limit 20000");
    const bytes = 100 * pair.chunkBytes;
    const { from, to, receive, send } = await openStream(pair, bytes, 21);
    await inject(pair, send, from, 0, 100);
    await pair.until("some packets", () => packetsMet(pair.qb) > 5);
    receive.complete();
    // A card drops what comes with a revoked key and tells nobody: this is what must be still under way.
    expect(packetsMet(pair.qb)).toBeLessThan(bytes / pair.packetBytes);
    const hash = sha256(to.region.data);
    send.end();
    await pair.run(send.injected);
    const landedNs = pair.a.nowNs() + LONGEST_DELAY_NS;
    await pair.until("everything to land", () => pair.a.nowNs() > landedNs);
    expect(sha256(to.region.data)).toBe(hash);
    expectNothingForeign(to, from);
  }));

describe("a peer that goes away in the middle is PEER_UNREACHABLE", () => {
  const policy = parsePolicy("sr-nack");
  /**
   * Slow: four seconds of data, and little of it. QEMU holds back what is for a link that is down; a sender whose
   * device takes no more for that has rxe ask it again and again, on the guest's only processor.
   */
  const options = { forward: "rate 2mbit", attributes: { peerTimeoutNs: PEER_TIMEOUT_NS } };

  /** A transfer that has begun to arrive, and how it ends at each end. */
  async function underWay(pair: Pair, seed: number) {
    const [from, to] = [source(1 << 20, seed), target(1 << 20)];
    const { offset, bytes } = from;
    const receive = reliableReceive(pair.qb, to.region, policy, { offset, bytes });
    const write = reliableWrite(pair.qa, from.region, policy, { offset, bytes });
    const ends = { written: codeOf(write), received: codeOf(receive) };
    await pair.until("data to arrive", () => packetsMet(pair.qb) > 0);
    return ends;
  }

  test("its process is killed", () =>
    withPair(maker, options, async (pair) => {
      const { written } = await underWay(pair, 31);
      guests[1].kill();
      expect(await withDeadline("the death to be noticed", written, NOTICE_MS_MAX)).toBe(
        "PEER_UNREACHABLE",
      );
    }));

  test("its link goes down", async () => {
    try {
      await withPair(maker, options, async (pair) => {
        const { written, received } = await underWay(pair, 32);
        guests[1].run("ip link set eth0 down");
        const codes = Promise.all([written, received]);
        const [far, own] = await withDeadline("the silence to be noticed", codes, NOTICE_MS_MAX);
        expect(far).toBe("PEER_UNREACHABLE");
        // The end whose own link it is may learn that from its device first.
        expect(["PEER_UNREACHABLE", "ENVIRONMENT"]).toContain(own);
      });
    } finally {
      restoreLink();
    }
  });

  test("afterwards the guests reach each other again", () =>
    withPair(maker, {}, async (pair) => {
      await finish(pair, begin(pair, policy, 100_000, 33), policy);
    }));
});
