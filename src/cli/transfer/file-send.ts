/** The sending end of a file transfer (file-protocol.ts has the exchange). */
import { describeFailure, SdrError } from "../../base/errors.ts";
import type { Policy } from "../../reliability/policy.ts";
import { CHUNK_BYTES, type QueuePairAttributes } from "../../sdk/attributes.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import { MemoryRegion } from "../../sdk/region.ts";
import {
  reliableReceive,
  reliableWrite,
  type Transfer,
  type WriteReport,
} from "../../sdk/reliable.ts";
import { connect } from "../../sdk/rendezvous.ts";
import { DEFAULT_DEVICE } from "../device.ts";
import { toSdrError } from "../failure.ts";
import type { Endpoint } from "../options.ts";
import { Progress } from "../progress.ts";
import {
  decodeNote,
  type EndCounters,
  encodeNote,
  encodeOffer,
  endCounters,
  FILE_LIMITS,
  inFlight,
  MESSAGE,
  messageBytes,
  type Offer,
  peerError,
  StreamHash,
  segmentCount,
  type Verdict,
} from "./file-protocol.ts";
import type { FileSource } from "./file-source.ts";
import { openContext, type ShapeSettings, type TransferSettings } from "./options.ts";

export interface SendFileOptions
  extends ShapeSettings,
    Pick<TransferSettings, "link" | "udpPort" | "peerTimeoutNs">,
    Partial<Pick<TransferSettings, "secret" | "seed" | "device">> {
  readonly to: Endpoint;
  /** What the receiver is to call the file. */
  readonly name: string;
  readonly policy: Policy;
  readonly signal: AbortSignal;
  /** Before the progress bar. */
  readonly label: string;
}

export interface SendFileReport {
  readonly bytes: number;
  readonly sha256: string;
  readonly policy: string;
  readonly packetBytes: number;
  readonly chunkBytes: number;
  readonly chunks: number;
  readonly segments: number;
  readonly rttNs: number;
  /** First injection to the sender's learning that all of the file is delivered. */
  readonly completionNs: number;
  readonly chunksRetransmitted: number;
  readonly timeouts: number;
  readonly parityChunks: number;
  readonly fallbacks: number;
  /** What this end sent, and what the receiver did. */
  readonly sent: EndCounters;
  readonly received: EndCounters;
}

const NO_COUNTERS: EndCounters = {
  wireBytes: 0,
  packets: 0,
  controlFrames: 0,
  dropped: 0,
  duplicated: 0,
  reordered: 0,
  corrupted: 0,
};

/** Most parity that a message brings. A chunk size that the path is to decide lies within a third of the usual one. */
function parityBytes({ chunkBytes, policy }: SendFileOptions, largest: number): number {
  const [least, most] =
    chunkBytes === undefined
      ? [Math.floor((CHUNK_BYTES * 2) / 3), Math.ceil((CHUNK_BYTES * 4) / 3)]
      : [chunkBytes, chunkBytes];
  const bytes = (policy.parityChunks?.(Math.ceil(largest / least)) ?? 0) * most;
  if (bytes <= FILE_LIMITS.parityBytesMax) return bytes;
  throw new SdrError(
    "TOO_LARGE",
    `${policy.name} brings ${bytes} B of parity for a segment of ${largest} B, more than ${FILE_LIMITS.parityBytesMax}`,
    "use a smaller --segment or --chunk, or a code with less parity",
  );
}

function attributesOf(options: SendFileOptions, largest: number): QueuePairAttributes {
  const { packetBytes, chunkBytes, rateBps, peerTimeoutNs } = options;
  return {
    maxMessageBytes: largest,
    maxParityBytes: parityBytes(options, largest),
    maxMessages: FILE_LIMITS.messages,
    peerTimeoutNs,
    ...(packetBytes === undefined ? {} : { packetBytes }),
    ...(chunkBytes === undefined ? {} : { chunkBytes }),
    ...(rateBps === undefined ? {} : { rateBps }),
  };
}

/** Sends a file and waits until the receiver has it on its disk. Errors: the receiver's own, PEER_UNREACHABLE ... */
export async function sendFile(
  source: FileSource,
  options: SendFileOptions,
): Promise<SendFileReport> {
  const { to, policy, name, segmentBytes, channels, secret, signal } = options;
  const offer: Offer = { name, bytes: source.bytes, segmentBytes, policy };
  const { qp, context } = await connect((path) => openContext(path, options), {
    ...to,
    channels,
    signal,
    attributes: attributesOf(options, messageBytes(offer)),
    meta: { ...encodeOffer(offer), device: options.device?.kind ?? DEFAULT_DEVICE },
    ...(secret === undefined ? {} : { secret }),
  });
  const onAbort = () => void qp.close();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await new FileSending(source, offer, qp, options).run();
  } catch (error) {
    throw signal.aborted ? toSdrError(signal.reason) : error;
  } finally {
    signal.removeEventListener("abort", onAbort);
    await qp.close(); // in good order: the peer has the last ACK, and knows that this end is gone
    context.close();
  }
}

class FileSending {
  private readonly source: FileSource;
  private readonly offer: Offer;
  private readonly qp: QueuePair;
  private readonly options: SendFileOptions;
  private readonly hash = new StreamHash();
  private readonly regions: MemoryRegion[];
  private readonly writes: Transfer<WriteReport>[] = [];
  private readonly progress: Progress;
  /** Chunks acknowledged of each segment, for the progress bar. */
  private readonly chunksDone: number[] = [];
  private stopped = false;
  /** What went wrong with the file itself: it goes before what the receiver or the connection says after it. */
  private failed: SdrError | undefined;

  constructor(source: FileSource, offer: Offer, qp: QueuePair, options: SendFileOptions) {
    this.source = source;
    this.offer = offer;
    this.qp = qp;
    this.options = options;
    const count = Math.min(inFlight(offer.segmentBytes), segmentCount(offer));
    this.regions = Array.from({ length: count }, () => MemoryRegion.allocate(messageBytes(offer)));
    this.progress = new Progress({ label: options.label, total: Math.max(1, offer.bytes) });
  }

  async run(): Promise<SendFileReport> {
    const note = MemoryRegion.allocate(FILE_LIMITS.noteBytesMax);
    const verdict = reliableReceive(this.qp, note, this.offer.policy).then(({ bytes }) =>
      decodeNote(note.data.subarray(0, bytes)),
    );
    verdict.catch(() => {});
    try {
      const sending = this.send();
      const sendingEnds = sending.then(
        () => undefined,
        () => undefined,
      );
      // The receiver may have failed before all is sent: its verdict then comes first.
      const early = await Promise.race([sendingEnds, verdict]);
      if (early?.error !== undefined) throw peerError("the receiver failed", early.error);
      const reports = await sending.catch((error: unknown) => this.explain(error, verdict));
      return this.conclude(reports, await verdict);
    } catch (error) {
      throw this.failed ?? error;
    } finally {
      this.stopped = true;
      this.progress.end();
    }
  }

  /**
   * The receiver gave a write up, or has just been told that the file failed here. Either way its verdict is under way:
   * this end stays for it, as a receiver still at work on earlier segments would only learn that its peer is gone.
   */
  private async explain(error: unknown, verdict: Promise<Verdict>): Promise<never> {
    const told = await verdict.catch(() => undefined);
    throw told?.error === undefined ? error : peerError("the receiver failed", told.error);
  }

  private async send(): Promise<WriteReport[]> {
    const count = segmentCount(this.offer);
    for (let index = 0; index < count && this.failed === undefined; index++) {
      await this.writes[index - this.regions.length];
      if (this.stopped) break;
      try {
        await this.sendSegment(index);
      } catch (error) {
        // Only of the file: a write reports its own errors when it is awaited.
        this.failed = toSdrError(error);
      }
    }
    const { failed } = this;
    const trailer =
      failed === undefined ? { sha256: this.hash.digest() } : { error: describeFailure(failed) };
    const last = reliableWrite(this.qp, encodeNote(trailer), this.offer.policy, {
      immediate: MESSAGE.trailer,
    });
    const reports = await Promise.all(this.writes);
    await last;
    if (failed !== undefined) throw failed;
    return reports;
  }

  private async sendSegment(index: number): Promise<void> {
    const { segmentBytes, bytes: total, policy } = this.offer;
    const region = this.regions[index % this.regions.length] as MemoryRegion;
    const position = index * segmentBytes;
    const bytes = Math.min(segmentBytes, total - position);
    const piece = region.data.subarray(0, bytes);
    await this.source.read(piece, position);
    await this.hash.update(piece, this.options.signal);
    const write = reliableWrite(this.qp, region, policy, { bytes, immediate: MESSAGE.segment });
    this.writes.push(write);
    if (this.progress.active) void this.watch(write, index);
  }

  private async watch(write: Transfer<WriteReport>, index: number): Promise<void> {
    for await (const { chunksDone } of write.progress()) {
      this.chunksDone[index] = chunksDone;
      const chunks = this.chunksDone.reduce((sum, done) => sum + done, 0);
      if (this.stopped) return;
      this.progress.update(Math.min(this.offer.bytes, chunks * this.qp.attributes.chunkBytes));
    }
  }

  private conclude(reports: readonly WriteReport[], verdict: Verdict): SendFileReport {
    const { qp, offer } = this;
    if (verdict.error !== undefined) throw peerError("the receiver failed", verdict.error);
    if (verdict.sha256 === undefined) {
      throw new SdrError(
        "PEER_INCOMPATIBLE",
        "the receiver's verdict is empty",
        "use the same version on both ends",
      );
    }
    const startNs = Math.min(...reports.map((report) => report.startNs));
    const endNs = Math.max(...reports.map((report) => report.startNs + report.completionNs));
    const sum = (of: (report: WriteReport) => number) =>
      reports.reduce((total, report) => total + of(report), 0);
    return {
      bytes: offer.bytes,
      sha256: verdict.sha256,
      policy: offer.policy.name,
      packetBytes: qp.attributes.packetBytes,
      chunkBytes: qp.attributes.chunkBytes,
      chunks: sum((report) => report.chunks),
      segments: reports.length,
      rttNs: Math.round(qp.path.rttNs),
      completionNs: endNs - startNs,
      chunksRetransmitted: sum((report) => report.chunksRetransmitted),
      timeouts: sum((report) => report.timeouts),
      parityChunks: sum((report) => report.parityChunks),
      fallbacks: sum((report) => report.fallbacks),
      sent: endCounters(qp),
      received: verdict.counters ?? NO_COUNTERS,
    };
  }
}
