/**
 * What a compliance suite needs of a transport, and the helpers that every suite shares: connected queue pairs,
 * guarded memory and hashes of all of it. A suite knows no transport and no clock: time passes only through the
 * fixture, so the same cases run at once in virtual time and for real on sockets.
 */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { Random } from "../../src/base/random.ts";
import {
  type Capabilities,
  type Context,
  type LinkProfile,
  MemoryRegion,
  parseLink,
  type QueuePair,
  type QueuePairAttributes,
  SdrError,
} from "../../src/sdk/index.ts";

export interface FixtureOptions {
  /** What the first context sends over, and the second; both are made with these links. */
  readonly forward: LinkProfile;
  readonly backward: LinkProfile;
  readonly seed: number;
}

/** Two contexts that can reach each other, and their time. */
export interface Fixture {
  readonly a: Context;
  readonly b: Context;
  /** Lets time pass until `work` settles, and settles as it does; never waits for ever. */
  run<T>(work: Promise<T>): Promise<T>;
  /** Lets time pass until the condition holds; fails, naming `what`, when it does not in a bounded time. */
  until(what: string, condition: () => boolean): Promise<void>;
  /** Datagrams that matched no queue pair of the second context, where the transport has keys. */
  unknownDatagrams?(): number;
  close(): void;
}

export interface FixtureMaker {
  /** Shown in titles, e.g. "udp, 3 channels, no GSO". */
  readonly name: string;
  /** A reason not to run at all on this machine. */
  readonly unavailable?: string | undefined;
  readonly capabilities: Capabilities;
  /** For every queue pair of the suite, below what a case asks for: packet size, pacing. */
  readonly attributes: QueuePairAttributes;
  /** How many messages the longest case sends, where a message costs much. Default: thousands. */
  readonly messagesMax?: number;
  make(options: FixtureOptions): Fixture;
}

export function packetBytesOf(maker: FixtureMaker): number {
  return maker.attributes.packetBytes ?? maker.capabilities.packetBytesDefault;
}

export function chunkBytesOf(maker: FixtureMaker): number {
  const packetBytes = packetBytesOf(maker);
  return maker.attributes.chunkBytes ?? packetBytes * Math.round(65_536 / packetBytes);
}

export interface PairOptions {
  /** Texts as parseLink takes them. They apply from the moment the pair is connected. Default: none. */
  readonly forward?: string;
  readonly backward?: string;
  readonly seed?: number;
  readonly attributes?: QueuePairAttributes;
}

export interface Pair extends Fixture {
  readonly qa: QueuePair;
  readonly qb: QueuePair;
  readonly packetBytes: number;
  readonly chunkBytes: number;
}

/** Connects two queue pairs, hands them to `body`, and closes everything whatever happens. */
export async function withPair(
  maker: FixtureMaker,
  options: PairOptions,
  body: (pair: Pair) => Promise<void>,
): Promise<void> {
  const { forward = "none", backward = "none", seed = 1 } = options;
  const links = { forward: parseLink(forward), backward: parseLink(backward) };
  const fixture = maker.make({ ...links, seed });
  try {
    const attributes = { ...maker.attributes, ...options.attributes };
    const qa = fixture.a.createQueuePair(attributes);
    const qb = fixture.b.createQueuePair(attributes);
    await fixture.run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
    const { packetBytes, chunkBytes } = qa.attributes;
    await body({ ...bound(fixture), qa, qb, packetBytes, chunkBytes });
  } finally {
    fixture.close();
  }
}

function bound(fixture: Fixture): Fixture {
  return {
    a: fixture.a,
    b: fixture.b,
    run: (work) => fixture.run(work),
    until: (what, condition) => fixture.until(what, condition),
    unknownDatagrams: () => fixture.unknownDatagrams?.() ?? 0,
    close: () => fixture.close(),
  };
}

/** Bytes before and after the part of a buffer that messages may touch; odd, so that nothing is aligned. */
export const GUARD_BYTES = 61;
const GUARD = 0xa5;

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A region with guards around the part in use. */
export interface Guarded {
  readonly region: MemoryRegion;
  readonly offset: number;
  readonly bytes: number;
  /** The part in use. */
  readonly data: Uint8Array;
}

function guarded(bytes: number): Guarded {
  const region = MemoryRegion.register(new Uint8Array(GUARD_BYTES + bytes + GUARD_BYTES));
  region.data.fill(GUARD);
  const data = region.data.subarray(GUARD_BYTES, GUARD_BYTES + bytes);
  return { region, offset: GUARD_BYTES, bytes, data };
}

/** Memory to send from, full of seeded random bytes. */
export function source(bytes: number, seed: number): Guarded {
  const made = guarded(bytes);
  new Random(seed, "payload").fill(made.data);
  return made;
}

/** Memory to receive into; every byte has the guard's value. */
export function target(bytes: number): Guarded {
  return guarded(bytes);
}

/** What a target must hold once `from` has arrived in it: the payload, guard bytes everywhere else. */
export function expectArrived(to: Guarded, from: Guarded): void {
  const wanted = new Uint8Array(to.region.bytes).fill(GUARD);
  wanted.set(from.data, to.offset);
  expect(sha256(to.region.data)).toBe(sha256(wanted));
}

/** Every byte of a target is what was sent there, or untouched; guards too. For messages that ended early. */
export function expectNothingForeign(to: Guarded, from: Guarded): void {
  const all = to.region.data;
  for (let i = 0; i < all.length; i++) {
    const inside = i >= to.offset && i < to.offset + from.bytes;
    const sent = inside ? from.data[i - to.offset] : GUARD;
    if (all[i] !== GUARD && all[i] !== sent)
      throw new Error(`byte ${i - to.offset} is ${all[i]}, was sent as ${sent}`);
  }
}

/** The code of the SdrError that `work` rejects with, or what happened instead. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "no error";
  } catch (error) {
    return error instanceof SdrError ? error.code : `not an SdrError: ${String(error)}`;
  }
}

export function codeThrown(call: () => unknown): string {
  try {
    call();
    return "no error";
  } catch (error) {
    return error instanceof SdrError ? error.code : `not an SdrError: ${String(error)}`;
  }
}

/** Data packets that the sender's link has let through (duplication aside), and those the receiver has met. */
export function packetsLeft(pair: Pair): number {
  const { link } = pair.qa.counters();
  const passed = (link.offeredByKind[0] ?? 0) - (link.droppedByKind[0] ?? 0);
  return passed - packetsMet(pair.qb);
}

/** Of messages after everything that is under way, where nothing counts it. */
const LANDING_MESSAGES = 2;

/**
 * Lets time pass until no data packet is under way. Where some are discarded uncounted, that is the longest delay of
 * the link, and then whole messages that arrive behind whatever the last packets were.
 */
export async function everythingLanded(pair: Pair, delayNs: number): Promise<void> {
  // With one generation a transport that counts late packets may still have other means to keep them out.
  if (pair.b.capabilities.countsLate && pair.qb.attributes.generations > 1) {
    await pair.until("everything to land", () => packetsLeft(pair) <= 0);
    return;
  }
  const overNs = pair.a.nowNs() + delayNs;
  await pair.until("the link's longest delay", () => pair.a.nowNs() > overNs);
  for (let i = 0; i < LANDING_MESSAGES; i++) {
    const [from, to] = [source(pair.chunkBytes, i), target(pair.chunkBytes)];
    const { region, offset, bytes } = to;
    const receive = pair.qb.postReceive({ region, offset, maxBytes: bytes });
    const send = pair.qa.send(from.region, { offset: from.offset, bytes });
    await pair.run(Promise.all([send.injected, receive.arrived]));
    receive.complete();
    expectArrived(to, from);
  }
}

/** Data packets that a queue pair has taken or refused, by its own counts. */
export function packetsMet(qp: QueuePair): number {
  const c = qp.counters();
  const refused = c.badQueue + c.badSlot + c.badPacket + c.badLength;
  return c.packets + c.chunks + c.messages + c.duplicates + c.late + c.replayed + refused;
}

/** A case that runs only where `possible`; else it is listed as skipped and the reason printed. */
export function caseIf(
  possible: boolean,
  reason: string,
  title: string,
  body: () => Promise<void>,
): void {
  if (possible) {
    test(title, body);
    return;
  }
  process.stdout.write(`skipped "${title}": ${reason}\n`);
  test.skip(`${title} (${reason})`, () => {});
}
