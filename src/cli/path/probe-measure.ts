/** The measuring end of sdr probe (probe-protocol.ts has the exchange). */
import { SdrError } from "../../base/errors.ts";
import { standardDeviation, summarize } from "../../base/statistics.ts";
import { fitLoss, fitLossBySize, type LossFit } from "../../link/fit.ts";
import type { LinkProfile } from "../../link/profile.ts";
import type { QueuePairAttributes } from "../../sdk/attributes.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import { MemoryRegion } from "../../sdk/region.ts";
import { reliableReceive, reliableWrite } from "../../sdk/reliable.ts";
import { connect } from "../../sdk/rendezvous.ts";
import type { Connection, ContextSource } from "../../sdk/rendezvous-exchange.ts";
import { toSdrError } from "../failure.ts";
import type { Endpoint } from "../options.ts";
import { Progress } from "../progress.ts";
import { type EndSettings, openContext } from "../transfer/options.ts";
import {
  answerBytes,
  checkServer,
  decodeAnswer,
  ECHO_BYTES,
  ECHO_MESSAGES,
  ECHO_PACKET_BYTES,
  encodeOffer,
  PROBE_LIMITS,
  PROBE_POLICY,
  type ProbeOffer,
  rounds,
} from "./probe-protocol.ts";

export interface MeasureOptions
  extends Pick<EndSettings, "link" | "udpPort" | "peerTimeoutNs">,
    Partial<Pick<EndSettings, "secret" | "seed">> {
  readonly to: Endpoint;
  /** Ascending. */
  readonly payloads: readonly number[];
  /** Sizes that the path does not take are left out of the report, rather than refused. */
  readonly leaveOut: boolean;
  /** Of each size. */
  readonly packets: number;
  readonly rateBps: number;
  readonly signal: AbortSignal;
  /** The path takes these payloads; measuring begins. */
  readonly onConnected?: (payloads: readonly number[]) => void;
}

export interface RttReport {
  readonly samples: number;
  /** Echoes that did not come back in time. */
  readonly lost: number;
  readonly minNs: number;
  readonly medianNs: number;
  readonly p99Ns: number;
  readonly maxNs: number;
  /** Standard deviation. */
  readonly jitterNs: number;
}

export interface SizeReport {
  readonly payloadBytes: number;
  readonly fit: LossFit;
  /** One byte a packet, 1 is lost. */
  readonly trace: Uint8Array;
}

export interface ProbeReport {
  readonly rtt: RttReport;
  readonly sizes: readonly SizeReport[];
  /** Payloads that did not get through, and why. */
  readonly leftOut: readonly { readonly payloadBytes: number; readonly reason: string }[];
  /** One way: half the median round trip, and the loss of all sizes. */
  readonly link: LinkProfile;
  readonly bySize: boolean;
}

/** An echo that takes longer counts as lost. */
const ECHO_MS_MIN = 100;
const ECHO_RTTS = 4;

/** Errors: PEER_UNREACHABLE, PEER_INCOMPATIBLE, INVALID_ARGUMENT (a payload above the MTU), ABORTED, and connect's. */
export async function measure(options: MeasureOptions): Promise<ProbeReport> {
  const open: Connection[] = [];
  const closeAll = () => Promise.all(open.map(({ qp }) => qp.close()));
  const onAbort = () => void closeAll();
  options.signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await measureOver(open, options);
  } catch (error) {
    throw options.signal.aborted ? toSdrError(options.signal.reason) : error;
  } finally {
    options.signal.removeEventListener("abort", onAbort);
    await closeAll();
    open[0]?.context.close();
  }
}

async function measureOver(open: Connection[], options: MeasureOptions): Promise<ProbeReport> {
  const { signal, payloads, packets } = options;
  const echo = await connectFor({ kind: "echo" }, options, (path) => openContext(path, options), {
    chunkBytes: ECHO_PACKET_BYTES,
    packetBytes: ECHO_PACKET_BYTES,
    maxMessageBytes: ECHO_BYTES,
    maxMessages: ECHO_MESSAGES,
  });
  open.push(echo);
  const { context } = echo;
  const leftOut: { payloadBytes: number; reason: string }[] = [];
  const taken: { payloadBytes: number; qp: QueuePair }[] = [];
  for (const payloadBytes of payloads) {
    const count = rounds(packets, payloadBytes)[0] as number;
    try {
      const connection = await connectFor({ kind: "loss", packets }, options, context, {
        packetBytes: payloadBytes,
        chunkBytes: payloadBytes,
        maxMessageBytes: count * payloadBytes,
        maxMessages: 4,
        rateBps: options.rateBps,
      });
      open.push(connection);
      taken.push({ payloadBytes, qp: connection.qp });
    } catch (error) {
      if (signal.aborted) throw error;
      const problem = payloadError(payloadBytes, toSdrError(error), context.capabilities);
      if (!options.leaveOut) throw problem;
      leftOut.push({ payloadBytes, reason: problem.message });
    }
  }
  if (taken.length === 0)
    throw new SdrError("PEER_UNREACHABLE", "no payload gets through", "give --payload with less");
  options.onConnected?.(taken.map(({ payloadBytes }) => payloadBytes));
  const rtt = await measureEchoes(echo.qp, signal);
  const sizes = await measureLosses(taken, options);
  const { link: loss, bySize } = fitLossBySize(sizes);
  // No jitter: a link draws each packet's delay by itself, and so reorders, which a path that queues does not.
  const delayNs = 1000 * Math.round(rtt.medianNs / 2 / 1000);
  const link: LinkProfile = { delayNs, ...loss };
  return { rtt, sizes, leftOut, link, bySize };
}

async function connectFor(
  offer: ProbeOffer,
  { to, secret, signal, peerTimeoutNs }: MeasureOptions,
  source: ContextSource,
  attributes: QueuePairAttributes,
): Promise<Connection> {
  let connection: Connection;
  try {
    connection = await connect(source, {
      ...to,
      signal,
      attributes: { ...attributes, maxParityBytes: 0, peerTimeoutNs },
      meta: encodeOffer(offer),
      ...(secret === undefined ? {} : { secret }),
    });
  } catch (error) {
    throw nobodyListens(error, to);
  }
  try {
    checkServer(connection.meta);
  } catch (error) {
    await connection.qp.close();
    if (typeof source === "function") connection.context.close();
    throw error;
  }
  return connection;
}

/** What to do when the other end is not there. */
function nobodyListens(error: unknown, { host, port }: Endpoint): unknown {
  const refused = error instanceof SdrError && error.code === "PEER_UNREACHABLE";
  const cause = refused ? (error.cause as NodeJS.ErrnoException | undefined)?.code : undefined;
  if (cause === undefined) return error;
  return new SdrError(
    "PEER_UNREACHABLE",
    `${host} port ${port} cannot be reached: ${cause}`,
    "start sdr probe --listen there, and check name, port and firewall",
    { cause: error },
  );
}

function payloadError(
  payloadBytes: number,
  error: SdrError,
  { packetBytesMin, packetBytesMax }: { packetBytesMin: number; packetBytesMax: number },
): SdrError {
  if (payloadBytes >= packetBytesMin && payloadBytes <= packetBytesMax) {
    const unanswered = error.code === "PEER_UNREACHABLE" || error.code === "DEADLINE_EXCEEDED";
    if (!unanswered) return error;
    return new SdrError(
      error.code,
      `packets of ${payloadBytes} B do not get through: the path's MTU is lower, or it fragments`,
      "give --payload without that size",
      { cause: error },
    );
  }
  const small = payloadBytes < packetBytesMin;
  return new SdrError(
    "INVALID_ARGUMENT",
    small
      ? `a payload of ${payloadBytes} B is less than the ${packetBytesMin} B of the smallest packet`
      : `a payload of ${payloadBytes} B is more than the ${packetBytesMax} B that this machine's MTU has room for`,
    `give --payload of ${packetBytesMin} to ${packetBytesMax} B`,
    { cause: error },
  );
}

/** A promise that resolves from outside, or after a time. */
class Echo {
  sentNs = 0;
  rttNs: number | undefined;
  private readonly wake: () => void;
  readonly back: Promise<void>;

  constructor() {
    let wake = () => {};
    this.back = new Promise((resolve) => {
      wake = resolve;
    });
    this.wake = wake;
  }

  /** Errors: none. */
  async wait(ms: number): Promise<void> {
    const timer = setTimeout(this.wake, ms);
    await this.back;
    clearTimeout(timer);
  }

  /** Comes back once; a late one still counts. */
  arrive(nowNs: number): void {
    if (this.sentNs > 0) this.rttNs ??= nowNs - this.sentNs;
    this.wake();
  }
}

/** One packet there and back at a time, on an otherwise idle path. */
async function measureEchoes(qp: QueuePair, signal: AbortSignal): Promise<RttReport> {
  const { echoes, echoesCold, echoSecondsMax } = PROBE_LIMITS;
  const there = MemoryRegion.allocate(echoes * ECHO_BYTES);
  const back = MemoryRegion.allocate(echoes * ECHO_BYTES);
  const numbers = new DataView(there.data.buffer, there.data.byteOffset);
  const answers = new DataView(back.data.buffer, back.data.byteOffset);
  const all = Array.from({ length: echoes }, () => new Echo());
  const watch = async (index: number): Promise<void> => {
    const offset = index * ECHO_BYTES;
    const receive = qp.postReceive({ region: back, offset, maxBytes: ECHO_BYTES });
    for await (const { chunksDone } of receive) {
      if (chunksDone === 0) continue;
      // Where one was lost on the way, the next one's answer is here. Untrusted: may be no number of ours.
      all[answers.getUint32(offset)]?.arrive(qp.nowNs());
      return;
    }
  };
  const watching = Array.from({ length: echoes }, (_, index) => watch(index));
  for (const one of watching) one.catch(() => {});
  const startNs = qp.nowNs();
  let sent = 0;
  for (const [index, echo] of all.entries()) {
    if (sent > echoesCold && qp.nowNs() - startNs > echoSecondsMax * 1e9) break;
    const offset = index * ECHO_BYTES;
    numbers.setUint32(offset, index);
    const handle = qp.startSend({ bytes: ECHO_BYTES, signal });
    await handle.ready;
    echo.sentNs = qp.nowNs();
    handle.continue({ region: there, offset, chunk: 0, bytes: ECHO_BYTES });
    handle.end();
    sent++;
    await echo.wait(Math.max(ECHO_MS_MIN, (ECHO_RTTS * qp.path.rttNs) / 1e6));
  }
  const counted = all.slice(echoesCold, sent);
  const times = counted.flatMap(({ rttNs }) => (rttNs === undefined ? [] : [rttNs]));
  if (times.length === 0)
    throw new SdrError("PEER_UNREACHABLE", `none of ${sent} packets came back`, "try again");
  const { min, p50, p99, max } = summarize(times);
  return {
    samples: times.length,
    lost: counted.length - times.length,
    minNs: min,
    medianNs: p50,
    p99Ns: p99,
    maxNs: max,
    jitterNs: standardDeviation(times),
  };
}

/** Rounds of all sizes in turn, so that a path that changes meanwhile does so for all of them. */
async function measureLosses(
  taken: readonly { payloadBytes: number; qp: QueuePair }[],
  { packets, signal, to }: MeasureOptions,
): Promise<SizeReport[]> {
  using progress = new Progress({
    label: to.host,
    total: packets * taken.length,
    format: (amount) => `${amount} packets`,
  });
  const sizes = taken.map(({ payloadBytes, qp }) => ({
    payloadBytes,
    qp,
    rounds: rounds(packets, payloadBytes),
    trace: new Uint8Array(packets),
    done: 0,
  }));
  const most = Math.max(...sizes.map((size) => (size.rounds[0] as number) * size.payloadBytes));
  const region = MemoryRegion.allocate(most);
  const roundsMax = Math.max(...sizes.map((size) => size.rounds.length));
  for (let round = 0; round < roundsMax; round++) {
    for (const size of sizes) {
      const count = size.rounds[round];
      if (count === undefined) continue;
      const lost = size.trace.subarray(size.done, size.done + count);
      await measureRound(size.qp, region, lost, signal);
      size.done += count;
      progress.update(sizes.reduce((sum, { done }) => sum + done, 0));
    }
  }
  return sizes.map(({ payloadBytes, trace }) => ({ payloadBytes, trace, fit: fitLoss(trace) }));
}

async function measureRound(
  qp: QueuePair,
  region: MemoryRegion,
  lost: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const target = MemoryRegion.allocate(answerBytes(lost.length));
  const answer = reliableReceive(qp, target, PROBE_POLICY, { signal });
  answer.catch(() => {}); // what ends the connection ends what follows, too
  const bytes = lost.length * qp.attributes.packetBytes;
  await qp.send(region, { bytes, signal }).injected;
  await reliableWrite(qp, Uint8Array.of(0), PROBE_POLICY, { signal });
  const { bytes: answered } = await answer;
  decodeAnswer(target.data.subarray(0, answered), lost);
}
