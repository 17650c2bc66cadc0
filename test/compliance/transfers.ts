/** Transfers for the suites: posts, injections and what arrived, raw and under some policy. */
import { expect } from "vitest";
import {
  goBackN,
  type ReceiveHandle,
  reliableReceive,
  reliableWrite,
  type SendHandle,
} from "../../src/sdk/index.ts";
import { codeOf, type Guarded, type Pair, source, target } from "./fixture.ts";

export interface Sent {
  readonly from: Guarded;
  readonly to: Guarded;
  readonly receive: ReceiveHandle;
}

/** Sends `bytes` once, into a receive posted for exactly as many, and waits until all has arrived. */
export async function sendOnce(
  pair: Pair,
  bytes: number,
  seed: number,
  immediate?: number,
): Promise<Sent> {
  const { qa, qb, run } = pair;
  const from = source(bytes, seed);
  const to = target(bytes);
  const receive = qb.postReceive({ region: to.region, offset: to.offset, maxBytes: bytes });
  const options = { offset: from.offset, bytes, ...(immediate === undefined ? {} : { immediate }) };
  const send = qa.send(from.region, options);
  await run(Promise.all([send.injected, receive.arrived]));
  return { from, to, receive };
}

/** Starts a streaming send into a receive of the same size; both are open when it returns. */
export async function openStream(pair: Pair, bytes: number, seed: number) {
  const { qa, qb, run } = pair;
  const from = source(bytes, seed);
  const to = target(bytes);
  const receive = qb.postReceive({ region: to.region, offset: to.offset, maxBytes: bytes });
  const send = qa.startSend({ bytes });
  await run(send.ready);
  return { from, to, receive, send };
}

/** Injects chunks [first, first + count) of a stream, waiting while the transport is busy. */
export async function inject(
  pair: Pair,
  send: SendHandle,
  from: Guarded,
  first: number,
  count: number,
): Promise<void> {
  const { chunkBytes } = pair;
  const start = first * chunkBytes;
  const bytes = Math.min(count * chunkBytes, from.bytes - start);
  const request = { region: from.region, offset: from.offset + start, chunk: first, bytes };
  await pair.until("the transport to take chunks", () => send.continue(request) === "ok");
}

/** The chunk bitmap says exactly what the packet bits say: a chunk is in when all its packets are. */
export function expectBitsAgree(pair: Pair, receive: ReceiveHandle, bytes: number): number {
  const { chunkBytes, packetBytes } = pair;
  let packetsIn = 0;
  for (let chunk = 0; chunk < Math.ceil(bytes / chunkBytes); chunk++) {
    const inChunk = Math.min(chunkBytes, bytes - chunk * chunkBytes);
    const wanted = Math.ceil(inChunk / packetBytes);
    let found = 0;
    for (const word of receive.chunkExpand(chunk))
      for (let bits = word; bits > 0n; bits >>= 1n) found += Number(bits & 1n);
    expect(found).toBeLessThanOrEqual(wanted);
    expect(receive.bitmap.has(chunk), `chunk ${chunk} has ${found} of ${wanted} packets`).toBe(
      found === wanted,
    );
    packetsIn += found;
  }
  return packetsIn;
}

/** The policy of cases that need some policy and mean none in particular. */
export const SOME_POLICY = goBackN();

/** A write and its receive under a policy, not awaited. */
export function transferOf(pair: Pair, bytes: number, options = {}) {
  const [from, to] = [source(bytes, 81), target(bytes)];
  const { offset } = from;
  const receive = reliableReceive(pair.qb, to.region, SOME_POLICY, { offset, bytes, ...options });
  const write = reliableWrite(pair.qa, from.region, SOME_POLICY, { offset, bytes, ...options });
  return { from, to, receive, write, codes: Promise.all([codeOf(write), codeOf(receive)]) };
}
