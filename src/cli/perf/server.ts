/**
 * The listening end of sdr perf. It serves one client at a time, whose runs come one after the other; each run's
 * connections share a context. Others are told that it is busy.
 */
import { SdrError } from "../../base/errors.ts";
import type { Context } from "../../sdk/context.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import { listen, type RendezvousServer } from "../../sdk/rendezvous.ts";
import type { Connection, RendezvousPath } from "../../sdk/rendezvous-exchange.ts";
import { openDevice } from "../device.ts";
import { toSdrError } from "../failure.ts";
import type { TransferSettings } from "../transfer/options.ts";
import { realClock } from "./clock.ts";
import { Control } from "./control.ts";
import { decodeOffer, encodeServer, type Offer } from "./protocol.ts";
import { type RunResult, resultOf } from "./result.ts";
import { closeSession, explain, runSession } from "./session.ts";
import { PERF_LIMITS, type RunShape, ringOf } from "./shape.ts";

export interface ServerOptions extends TransferSettings {
  readonly port: number;
  readonly host?: string | undefined;
  readonly onResult: (result: RunResult) => void;
  readonly onRefused: (error: SdrError, peer: string) => void;
  /** A client's run failed; the server goes on where it is to serve several. */
  readonly onFailed: (error: SdrError) => void;
}

/** A client that has no run under way is gone after so long. */
const BETWEEN_RUNS_MS = 30_000;

type ControlOffer = Extract<Offer, { kind: "control" }>;

/** A run that a client has announced; its connections share the context. */
interface Run {
  readonly offer: ControlOffer;
  context: Context | undefined;
}

export class PerfServer {
  private readonly options: ServerOptions;
  private server!: RendezvousServer;
  private readonly runs = new Map<string, Run>();
  /** Which run a connection that is being made belongs to. */
  private readonly byPath = new WeakMap<RendezvousPath, Run>();
  /** Who is served, and whether one of its runs has begun. */
  private client: string | undefined;
  private serving = false;

  private constructor(options: ServerOptions) {
    this.options = options;
  }

  get port(): number {
    return this.server.port;
  }

  /** Errors: those of listen. */
  static async open(options: ServerOptions): Promise<PerfServer> {
    const { port, host, secret, peerTimeoutNs, onRefused } = options;
    const made = new PerfServer(options);
    made.server = await listen((path) => made.contextFor(path), {
      port,
      ...(host === undefined ? {} : { host }),
      ...(secret === undefined ? {} : { secret }),
      attributes: { peerTimeoutNs },
      limits: {
        maxMessageBytes: PERF_LIMITS.bytesMax,
        maxParityBytes: PERF_LIMITS.parityBytesMax,
        maxMessages: ringOf({ depth: PERF_LIMITS.depthMax }),
        channels: PERF_LIMITS.channelsMax,
      },
      meta: (offered: unknown, path: RendezvousPath) => {
        made.byPath.set(path, made.runOf(decodeOffer(offered, options.device)));
        return encodeServer(options.device);
      },
      onRefused: (error, peer) => {
        if (!made.serving) made.client = undefined; // it may have been the one to be served
        onRefused(error, peer);
      },
    });
    return made;
  }

  private runOf(offer: Offer): Run {
    if (offer.kind === "data") {
      const run = this.runs.get(offer.session);
      if (run !== undefined && offer.index < run.offer.shape.queuePairs) return run;
      throw new SdrError("PEER_INCOMPATIBLE", "the client's run is not known here", "");
    }
    if (this.client !== undefined && this.client !== offer.client)
      throw new SdrError("BUSY", "the server has another client", "try again when that is done");
    this.client = offer.client;
    const run: Run = { offer, context: undefined };
    this.runs.set(offer.session, run);
    return run;
  }

  private contextFor(path: RendezvousPath): Context {
    const run = this.byPath.get(path) as Run;
    run.context ??= openDevice(this.options.device, { ...this.options, ...path });
    return run.context;
  }

  /** Serves one client, or with `keep` one after the other until the signal. Errors: those of the client's runs. */
  async serve(signal: AbortSignal, keep: boolean): Promise<void> {
    try {
      for (;;) {
        try {
          await this.serveClient(signal);
        } catch (error) {
          if (signal.aborted) throw toSdrError(signal.reason);
          if (!keep) throw error;
          this.options.onFailed(toSdrError(error));
        }
        if (!keep) return;
      }
    } catch (error) {
      if (!(keep && signal.aborted)) throw error;
    } finally {
      await this.server.close();
    }
  }

  private async serveClient(signal: AbortSignal): Promise<void> {
    this.client = undefined;
    this.serving = false;
    for (const { context } of this.runs.values()) context?.close(); // of a client that was given up
    this.runs.clear();
    for (;;) {
      const connection = await this.accept(signal, this.serving ? BETWEEN_RUNS_MS : undefined);
      const offer = decodeOffer(connection.meta, this.options.device);
      if (offer.kind === "data" || offer.client !== this.client) {
        connection.qp[Symbol.dispose](); // of a client that was given up
        continue;
      }
      this.serving = true;
      await this.run(offer, connection, signal);
      this.runs.delete(offer.session); // the client may have announced the next one meanwhile
      if (offer.last) return;
    }
  }

  /** Errors: the signal's; PEER_UNREACHABLE after that time. */
  private async accept(signal: AbortSignal, timeoutMs: number | undefined): Promise<Connection> {
    if (timeoutMs === undefined) return this.server.accept({ signal });
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      return await this.server.accept({ signal: AbortSignal.any([signal, timeout]) });
    } catch (error) {
      if (!timeout.aborted || signal.aborted) throw error;
      throw new SdrError("PEER_UNREACHABLE", "the client began no further run", "see its message");
    }
  }

  private async run(
    { session: id, shape }: ControlOffer,
    { qp, context }: Connection,
    signal: AbortSignal,
  ): Promise<void> {
    const qps: QueuePair[] = [];
    const onAbort = () => void Promise.all([qp, ...qps].map((one) => one.close()));
    signal.addEventListener("abort", onAbort, { once: true });
    const control = new Control(qp);
    try {
      signal.throwIfAborted();
      await this.collect(id, shape, { control, qps, signal });
      const session = { context, control, qps, shape, clock: realClock(context) };
      const directions = await runSession(session, "server");
      this.options.onResult(resultOf({ shape, context, qps, directions }));
    } catch (error) {
      throw explain(error);
    } finally {
      signal.removeEventListener("abort", onAbort);
      await closeSession({ control, qps, context });
    }
  }

  /** The run's data queue pairs, as they are connected. */
  private async collect(
    id: string,
    { queuePairs }: RunShape,
    run: { readonly control: Control; readonly qps: QueuePair[]; readonly signal: AbortSignal },
  ): Promise<void> {
    const { control, qps, signal } = run;
    const gone = new AbortController();
    control.failure.catch((error: unknown) => gone.abort(error));
    while (qps.length < queuePairs) {
      const either = AbortSignal.any([signal, gone.signal]);
      const connection = await this.server.accept({ signal: either });
      const offer = decodeOffer(connection.meta, this.options.device);
      if (offer.kind === "data" && offer.session === id && offer.index === qps.length)
        qps.push(connection.qp);
      else connection.qp[Symbol.dispose]();
    }
  }
}
