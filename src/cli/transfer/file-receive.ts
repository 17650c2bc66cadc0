/** The receiving end of a file transfer (file-protocol.ts has the exchange). */
import { describeFailure, SdrError } from "../../base/errors.ts";
import { MemoryRegion } from "../../sdk/region.ts";
import {
  type ReceiveReport,
  reliableReceive,
  reliableWrite,
  type Transfer,
} from "../../sdk/reliable.ts";
import type { Connection } from "../../sdk/rendezvous-exchange.ts";
import { toSdrError } from "../failure.ts";
import { Progress } from "../progress.ts";
import {
  decodeNote,
  decodeOffer,
  encodeNote,
  endCounters,
  inFlight,
  MESSAGE,
  messageBytes,
  type Offer,
  peerError,
  StreamHash,
  segmentCount,
} from "./file-protocol.ts";
import { FileSink } from "./file-sink.ts";

export interface ReceiveFileOptions {
  readonly folder: string;
  readonly force: boolean;
  readonly signal: AbortSignal;
}

export interface ReceiveFileReport {
  readonly path: string;
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly policy: string;
  readonly peer: string;
  readonly rttNs: number;
  /** First START to the last segment's last chunk; 0 within one progress report. */
  readonly durationNs: number;
}

/** Receives the file that a connection's client offers. Whatever fails, nothing is left behind. */
export async function receiveFile(
  connection: Connection,
  options: ReceiveFileOptions,
): Promise<ReceiveFileReport> {
  const { qp, context, path } = connection;
  const { signal, folder, force } = options;
  const onAbort = () => void qp.close();
  signal.addEventListener("abort", onAbort, { once: true });
  let sink: FileSink | undefined;
  try {
    signal.throwIfAborted();
    const offer = decodeOffer(connection.meta);
    const receiving = new FileReceiving(connection, offer, signal);
    try {
      sink = await FileSink.create({ folder, force, name: offer.name, bytes: offer.bytes });
      const { sha256, durationNs } = await receiving.run(sink);
      await sink.commit();
      // From here on the file is there: a sender that cannot be told changes nothing about that.
      await receiving.tell({ sha256, counters: endCounters(qp) }).catch(() => {});
      const { name, bytes, policy } = offer;
      const report = {
        path: sink.path,
        name,
        bytes,
        sha256,
        policy: policy.name,
        peer: path.remoteAddress,
      };
      const rttNs = Math.round(qp.path.rttNs);
      return { ...report, rttNs, durationNs };
    } catch (error) {
      if (!signal.aborted)
        await receiving.tell({ error: describeFailure(toSdrError(error)) }).catch(() => {});
      throw error;
    } finally {
      receiving.stop();
    }
  } catch (error) {
    throw signal.aborted ? toSdrError(signal.reason) : error;
  } finally {
    await sink?.discard();
    signal.removeEventListener("abort", onAbort);
    await qp.close(); // in good order: the peer has the last ACK, and knows that this end is gone
    context.close();
  }
}

class FileReceiving {
  private readonly connection: Connection;
  private readonly offer: Offer;
  private readonly signal: AbortSignal;
  private readonly regions: MemoryRegion[];
  private readonly receives: Transfer<ReceiveReport>[] = [];
  private readonly hash = new StreamHash();
  private readonly progress: Progress;
  private stopped = false;
  private told = false;

  constructor(connection: Connection, offer: Offer, signal: AbortSignal) {
    this.connection = connection;
    this.offer = offer;
    this.signal = signal;
    this.progress = new Progress({ label: offer.name, total: Math.max(1, offer.bytes) });
    const count = Math.min(inFlight(offer.segmentBytes), segmentCount(offer) + 1);
    this.regions = Array.from({ length: count }, () => MemoryRegion.allocate(messageBytes(offer)));
  }

  /** Data into the sink, in order; resolves when the trailer's hash is that of what was written. */
  async run(sink: FileSink): Promise<{ sha256: string; durationNs: number }> {
    const { qp } = this.connection;
    const messages = segmentCount(this.offer) + 1;
    for (let index = 0; index < Math.min(this.regions.length, messages); index++) this.post(index);
    const startNs = qp.nowNs();
    let position = 0;
    let durationNs = 0;
    for (let index = 0; index < messages; index++) {
      const { bytes, immediate } = (await this.receives[index]) as ReceiveReport;
      const data = (this.regions[index % this.regions.length] as MemoryRegion).data.subarray(
        0,
        bytes,
      );
      if (immediate === MESSAGE.trailer) return { sha256: this.check(data, position), durationNs };
      this.checkSegment(index, bytes, immediate);
      durationNs = qp.nowNs() - startNs;
      await Promise.all([sink.write(data), this.hash.update(data, this.signal)]);
      position += bytes;
      this.progress.update(position);
      if (index + this.regions.length < messages) this.post(index + this.regions.length);
    }
    throw new SdrError(
      "PEER_INCOMPATIBLE",
      "the sender sent no trailer",
      "use the same version on both ends",
    );
  }

  private post(index: number): void {
    const region = this.regions[index % this.regions.length] as MemoryRegion;
    const receive = reliableReceive(this.connection.qp, region, this.offer.policy);
    this.receives[index] = receive;
    if (this.progress.active) void this.watch(receive, index);
  }

  private async watch(receive: Transfer<ReceiveReport>, index: number): Promise<void> {
    const { bytes, segmentBytes } = this.offer;
    for await (const { chunksDone, chunkCount } of receive.progress()) {
      if (this.stopped) return;
      const begun = Math.min(segmentBytes, bytes - index * segmentBytes);
      if (begun > 0)
        this.progress.update(index * segmentBytes + (begun * chunksDone) / Math.max(1, chunkCount));
    }
  }

  private checkSegment(index: number, bytes: number, immediate: number | undefined): void {
    const { segmentBytes, bytes: total } = this.offer;
    const expected = Math.min(segmentBytes, total - index * segmentBytes);
    if (immediate === MESSAGE.segment && bytes === expected && index < segmentCount(this.offer))
      return;
    throw new SdrError(
      "PEER_INCOMPATIBLE",
      `message ${index} has ${bytes} B and kind ${immediate}, not a segment of ${expected} B`,
      "use the same version on both ends",
    );
  }

  /** The trailer against what was received. */
  private check(note: Uint8Array, position: number): string {
    const { sha256, error } = decodeNote(note);
    if (error !== undefined) throw peerError("the sender failed", error);
    const own = this.hash.digest();
    if (position === this.offer.bytes && sha256 === own) return own;
    throw new SdrError(
      "INTEGRITY",
      `${position} of ${this.offer.bytes} B arrived with SHA-256 ${own}, sent was ${sha256 ?? "none"}`,
      "send it again; if it happens again, check the memory and disks of both machines",
    );
  }

  /** The verdict, once. */
  async tell(verdict: Parameters<typeof encodeNote>[0]): Promise<void> {
    if (this.told) return;
    this.told = true;
    await reliableWrite(this.connection.qp, encodeNote(verdict), this.offer.policy);
  }

  stop(): void {
    this.stopped = true;
    this.progress.end();
  }
}
