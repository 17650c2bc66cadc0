/** Frames that no honest peer sends, that belong to other messages, or that come far too often. */
import { describe, expect, test } from "vitest";
import type { Random } from "../../../src/base/random.ts";
import { erasureCodingMds, erasureCodingXor } from "../../../src/reliability/erasure-coding.ts";
import type { ControlFrame } from "../../../src/reliability/frames.ts";
import { NO_CHUNK } from "../../../src/reliability/frames.ts";
import { goBackN } from "../../../src/reliability/go-back-n.ts";
import { hybrid } from "../../../src/reliability/hybrid.ts";
import {
  selectiveRepeatNack,
  selectiveRepeatRto,
} from "../../../src/reliability/selective-repeat.ts";
import type { World } from "./harness.ts";
import { simulate } from "./harness.ts";

const POLICIES = [
  goBackN(),
  selectiveRepeatRto(),
  selectiveRepeatNack(),
  erasureCodingMds(),
  erasureCodingXor({ k: 6, m: 2 }),
  hybrid(),
];
const CHUNKS = 500;
const ALL = 0xffffffff;

function ack(cumulative: number, selectiveBase = 0, words: number[] = []): ControlFrame {
  const selective = Uint32Array.from(words);
  const latest = { latestChunk: NO_CHUNK, delayNs: 0 };
  return { kind: "ack", message: 1, cumulative, ...latest, selectiveBase, selective };
}

/** Impossible: beyond the message, beyond what was sent, of kinds a session never gets. */
function nonsense(random: Random): ControlFrame {
  const far = random.int(CHUNKS + 1, ALL);
  return random.pick<ControlFrame>([
    ack(far),
    ack(0, far - 40, [ALL]),
    { kind: "nack", message: 1, ranges: [{ first: far, count: ALL - far }] },
    { kind: "cts", message: 1, maxBytes: far, policy: "sr-nack" },
    { kind: "start", message: 1, bytes: far, immediate: 1, policy: "gbn" },
    { kind: "ping", timeNs: far, padding: 3 },
    { kind: "close", message: 1, scope: "send", reason: 1 },
    { kind: "policy", message: 1, type: 200, payload: new Uint8Array(9) },
    { kind: "policy", message: 1, type: 64, payload: new Uint8Array(4).fill(random.int(1, 255)) },
    { kind: "policy", message: 1, type: 64, payload: new Uint8Array(random.int(0, 3)) },
    { ...(ack(0) as object), latestChunk: random.uint32(), delayNs: 1e15 } as ControlFrame,
  ]);
}

describe.each(POLICIES)("$name", (policy) => {
  test("nonsense from the peer changes nothing", () => {
    const scenario = { policy, chunkCount: CHUNKS, seed: 3, chunks: { loss: 0.02 } };
    const meddle = ({ sender, receiver, nowNs, random }: World) => {
      if (!receiver.complete) receiver.handleControl(nonsense(random), nowNs);
      // An ACK may well be for chunks not yet sent; then it must not be believed.
      sender.handleControl(nonsense(random), nowNs);
    };
    const outcome = simulate({ ...scenario, meddle });
    expect(outcome.sender.state).toBe("done");
    expect(outcome.senderPath.rttNs).toBeCloseTo(25e6, -3);
  });

  test("an ACK of chunks that were never handed out is not believed", () => {
    let checked = 0;
    const meddle = ({ sender, receiver, nowNs }: World) => {
      if (receiver.complete || sender.chunksAcknowledged > 0) return;
      sender.handleControl(ack(CHUNKS), nowNs);
      expect(sender.state).toBe("active");
      checked++;
    };
    simulate({ policy, chunkCount: CHUNKS, seed: 3, windowChunks: 100, meddle });
    expect(checked).toBeGreaterThan(100);
  });

  test("stale ACKs and NACKs of everything, all the time, neither stop it nor send a chunk twice within an RTT", () => {
    const everything = { kind: "nack", message: 1, ranges: [{ first: 0, count: ALL }] } as const;
    const meddle = ({ sender, nowNs, random }: World) => {
      for (let i = 0; i < 3; i++) sender.handleControl(everything, nowNs);
      sender.handleControl(
        { ...everything, ranges: [{ first: random.int(0, CHUNKS), count: 1 }] },
        nowNs,
      );
      sender.handleControl(ack(0), nowNs);
    };
    const scenario = { policy, chunkCount: CHUNKS, seed: 5, chunks: { loss: 0.1 } };
    const outcome = simulate({ ...scenario, meddle });
    expect(outcome.sender.counters.nacksReceived).toBeGreaterThan(1000);
    expect(outcome.leastResendNs).toBeGreaterThanOrEqual(0.9 * 25e6);
  });

  test("every frame of one message played back into another", () => {
    const first = simulate({ policy, chunkCount: CHUNKS, seed: 6, chunks: { loss: 0.1 } });
    let index = 0;
    const meddle = ({ sender, nowNs }: World) => {
      const frame = first.framesFromReceiver[index++ % first.framesFromReceiver.length];
      // ACKs of another message would be believed where they are possible: the driver sorts by message.
      if (frame?.kind === "nack") sender.handleControl(frame, nowNs);
    };
    const second = simulate({
      policy,
      chunkCount: CHUNKS + 1,
      seed: 7,
      chunks: { loss: 0.1 },
      meddle,
    });
    expect(second.sender.state).toBe("done");
    expect(second.leastResendNs).toBeGreaterThanOrEqual(0.9 * 25e6);
  });

  test("spurious timeouts, injections and progress reports are harmless", () => {
    const plain = simulate({ policy, chunkCount: 100, seed: 8 });
    const meddle = ({ sender, receiver, nowNs }: World) => {
      sender.handleTimeout(nowNs);
      receiver.handleTimeout(nowNs);
      sender.handleInjected(0, 100, nowNs + 0);
      sender.handleInjected(-5, 3, nowNs);
      sender.handleInjected(90, 1e9, nowNs);
      sender.handleInjected(-5, 3, nowNs, true);
      sender.handleInjected(90, 1e9, nowNs, true);
    };
    const outcome = simulate({ policy, chunkCount: 100, seed: 8, meddle });
    expect(outcome.trips).toEqual(plain.trips);
  });

  test("a request for zero chunks hands out none, and nothing is handed out after the end", () => {
    const { sender } = simulate({ policy, chunkCount: 4, seed: 1 });
    expect(sender.pollTransmit(10, 1e9)).toBeUndefined();
    expect(sender.nextTimeoutNs()).toBe(Infinity);
    sender.handleControl(ack(0), 1e9);
    expect(sender.state).toBe("done");
  });
});

test("a finished receiver answers a sender that goes on asking, but not each time", () => {
  const policy = selectiveRepeatNack();
  let asked = 0;
  const meddle = ({ receiver, nowNs }: World) => {
    if (!receiver.complete) return;
    for (let i = 0; i < 50; i++) receiver.handleControl(ack(0), nowNs);
    asked += 50;
  };
  const { framesFromReceiver } = simulate({ policy, chunkCount: 10, seed: 1, meddle });
  expect(asked).toBeGreaterThan(49);
  expect(framesFromReceiver.length).toBeLessThan(12);
});
