/** The listening end of sdr probe (probe-protocol.ts has the exchange). */
import { setTimeout as sleep } from "node:timers/promises";
import { SdrError } from "../../base/errors.ts";
import { Context } from "../../sdk/context.ts";
import type { ReceiveHandle } from "../../sdk/receive-handle.ts";
import { MemoryRegion } from "../../sdk/region.ts";
import { reliableReceive, reliableWrite } from "../../sdk/reliable.ts";
import { listen, type RendezvousServer } from "../../sdk/rendezvous.ts";
import type { Connection, RendezvousPath } from "../../sdk/rendezvous-exchange.ts";
import { toSdrError } from "../failure.ts";
import type { EndSettings } from "../transfer/options.ts";
import {
  decodeOffer,
  ECHO_BYTES,
  ECHO_MESSAGES,
  encodeAnswer,
  encodeServer,
  PROBE_LIMITS,
  PROBE_POLICY,
  roundPackets,
  rounds,
} from "./probe-protocol.ts";

/** Packets that were overtaken by the note are waited for: so long without a new one, and so often at most. */
const QUIET_MS_MIN = 20;
const QUIET_LOOKS_MAX = 50;

export interface ServeProbesOptions
  extends Pick<EndSettings, "link" | "udpPort" | "peerTimeoutNs">,
    Partial<Pick<EndSettings, "secret" | "seed">> {
  readonly port: number;
  readonly host?: string;
  /** Told of each connection that ended, in good order or not, and of those that were refused. */
  readonly onProbed?: (probed: Probed) => void;
  readonly onFailed?: (error: SdrError, peer: string) => void;
}

/** What one client's connection measured, as this end saw it. */
export interface Probed {
  readonly peer: string;
  /** Undefined: echoes. */
  readonly payloadBytes?: number;
  readonly packets: number;
  readonly lost: number;
}

export class ProbeServer {
  private readonly server: RendezvousServer;
  private readonly options: ServeProbesOptions;
  private readonly underWay = new Set<Promise<void>>();

  private constructor(server: RendezvousServer, options: ServeProbesOptions) {
    this.server = server;
    this.options = options;
  }

  get port(): number {
    return this.server.port;
  }

  /** Errors: those of listen. */
  static async open(options: ServeProbesOptions): Promise<ProbeServer> {
    const { port, host, secret, peerTimeoutNs, onFailed } = options;
    const ports = new UdpPorts(options);
    const server = await listen((path) => ports.open(path), {
      port,
      ...(host === undefined ? {} : { host }),
      ...(secret === undefined ? {} : { secret }),
      attributes: { peerTimeoutNs },
      limits: {
        maxMessageBytes: PROBE_LIMITS.roundBytesMax,
        maxParityBytes: 0,
        maxMessages: ECHO_MESSAGES,
        channels: 1,
      },
      meta: (offered: unknown) => {
        decodeOffer(offered);
        return encodeServer();
      },
      onRefused: (error, remote) => onFailed?.(error, remote),
    });
    return new ProbeServer(server, options);
  }

  /** Answers probes until the signal; then all connections are closed. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      for (;;) {
        const connection = await this.server.accept({ signal });
        const work = this.serve(connection, signal).finally(() => this.underWay.delete(work));
        this.underWay.add(work);
        if (this.underWay.size >= PROBE_LIMITS.connectionsMax) await Promise.race(this.underWay);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      await Promise.all(this.underWay);
      await this.server.close();
    }
  }

  private async serve(connection: Connection, signal: AbortSignal): Promise<void> {
    const { qp, context, path } = connection;
    const onAbort = () => void qp.close();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      signal.throwIfAborted();
      const offer = decodeOffer(connection.meta);
      const peer = path.remoteAddress;
      const probed =
        offer.kind === "echo"
          ? await serveEchoes(connection)
          : await serveLosses(connection, offer.packets);
      this.options.onProbed?.({ peer, ...probed });
    } catch (error) {
      if (!signal.aborted) this.options.onFailed?.(toSdrError(error), path.remoteAddress);
    } finally {
      signal.removeEventListener("abort", onAbort);
      await qp.close();
      context.close();
    }
  }
}

/** Contexts on the first free port from a given one on, a connection each. */
class UdpPorts {
  private readonly options: Pick<ServeProbesOptions, "udpPort" | "link" | "seed">;

  constructor(options: Pick<ServeProbesOptions, "udpPort" | "link" | "seed">) {
    this.options = options;
  }

  open({ localAddress }: RendezvousPath): Context {
    const { udpPort, link, seed } = this.options;
    const seeded = seed === undefined ? {} : { seed };
    for (let port = udpPort; ; port++) {
      try {
        return Context.udp({ address: localAddress, port, link, ...seeded });
      } catch (error) {
        const taken = error instanceof SdrError && error.code === "ADDRESS_IN_USE";
        const last = port === 0 || port >= udpPort + PROBE_LIMITS.connectionsMax || port === 65535;
        if (!taken || last) throw error;
      }
    }
  }
}

/** Sends each packet back at once, until the client closes. */
async function serveEchoes({ qp }: Connection): Promise<Omit<Probed, "peer">> {
  const count = PROBE_LIMITS.echoes;
  const region = MemoryRegion.allocate(count * ECHO_BYTES);
  let echoed = 0;
  const echo = async (index: number): Promise<void> => {
    const offset = index * ECHO_BYTES;
    const receive = qp.postReceive({ region, offset, maxBytes: ECHO_BYTES });
    try {
      // Its packet is enough; `arrived` would wait for START too.
      for await (const { chunksDone } of receive) {
        if (chunksDone === 0) continue;
        qp.send(region, { offset, bytes: ECHO_BYTES });
        echoed++;
        return;
      }
    } catch (error) {
      // The client is done, or gone: `last` tells which.
      if (receive.state !== "failed") throw error;
    }
  };
  const echoes = Array.from({ length: count }, (_, index) => echo(index));
  // Nothing comes for this one: it ends when the client closes, or is gone.
  const last = qp.postReceive({ region: MemoryRegion.allocate(ECHO_BYTES) });
  await last.arrived.catch((error: SdrError) => {
    if (error.code !== "PEER_CLOSED") throw error;
  });
  await Promise.all(echoes);
  return { packets: echoed, lost: 0 };
}

async function serveLosses({ qp }: Connection, packets: number): Promise<Omit<Probed, "peer">> {
  const { packetBytes: payloadBytes, packetsPerChunk } = qp.attributes;
  if (packetsPerChunk !== 1)
    throw new SdrError("PEER_INCOMPATIBLE", "the client's chunks are not packets", "");
  const most = Math.min(packets, roundPackets(payloadBytes));
  const region = MemoryRegion.allocate(most * payloadBytes);
  const note = MemoryRegion.allocate(1);
  let lost = 0;
  for (const count of rounds(packets, payloadBytes)) {
    const receive = qp.postReceive({ region, maxBytes: count * payloadBytes });
    await reliableReceive(qp, note, PROBE_POLICY);
    await quiet(receive, Math.max(QUIET_MS_MIN, (2 * qp.path.rttNs) / 1e6));
    const answer = encodeAnswer(receive.bitmap, count);
    lost += count - receive.bitmap.count();
    receive.complete();
    await reliableWrite(qp, answer, PROBE_POLICY);
  }
  return { payloadBytes, packets, lost };
}

/** Until nothing more comes in. */
async function quiet(receive: ReceiveHandle, ms: number): Promise<void> {
  let before = -1;
  for (let looks = 0; looks < QUIET_LOOKS_MAX; looks++) {
    const arrived = receive.bitmap.count();
    if (arrived === before || arrived === receive.bitmap.chunkCount) return;
    before = arrived;
    await sleep(ms);
  }
}
