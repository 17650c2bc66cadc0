/**
 * A convenience rendezvous: two queue pairs exchange their infos over one TCP connection and connect
 * (rendezvous-exchange.ts). Here are the TCP sockets, the server, and the deadline of every attempt.
 */
import { connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import { check, describeFailure, SdrError } from "../base/errors.ts";
import { abortError, MessageChannel } from "./rendezvous-channel.ts";
import {
  type Connection,
  type ConnectOptions,
  type ContextSource,
  checkMeta,
  clientSide,
  discard,
  type ListenOptions,
  plainAddress,
  RENDEZVOUS_LIMITS,
  serverSide,
} from "./rendezvous-exchange.ts";
import { RefusedByPeer } from "./rendezvous-messages.ts";
import { checkSignal, watchAbort } from "./settle.ts";

/**
 * Connects a new queue pair to one that a server at host:port makes. Errors: PEER_UNREACHABLE, ACCESS_DENIED,
 * PEER_INCOMPATIBLE, PEER_CLOSED, DEADLINE_EXCEEDED, ABORTED, INVALID_ARGUMENT, or what the server refused with.
 */
export async function connect(source: ContextSource, options: ConnectOptions): Promise<Connection> {
  const { host, port, timeoutMs = RENDEZVOUS_LIMITS.timeoutMs, signal } = options;
  check(typeof host === "string" && host !== "", "the host is empty", "give a name or an address");
  check(
    Number.isInteger(port) && port >= 1 && port <= 65535,
    `port ${port} is not valid`,
    "use 1 to 65535",
  );
  const meta = checkMeta(options.meta);
  const limit = new Deadline(signal, timeoutMs);
  const socket = await openTcp(host, port, limit);
  return withSocket(socket, limit, (channel) =>
    clientSide({ channel, socket, source, options, meta }),
  );
}

/** Opens a port for rendezvous. Errors: ADDRESS_IN_USE, ACCESS_DENIED, INVALID_ARGUMENT, ENVIRONMENT. */
export async function listen(
  source: ContextSource,
  options: ListenOptions,
): Promise<RendezvousServer> {
  const { host, port } = options;
  check(
    Number.isInteger(port) && port >= 0 && port <= 65535,
    `port ${port} is not valid`,
    "use 0 to 65535",
  );
  checkTimeout(options.timeoutMs ?? RENDEZVOUS_LIMITS.timeoutMs);
  if (typeof options.meta !== "function") checkMeta(options.meta);
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => reject(listenError(cause, host ?? "*", port)));
    server.listen({ port, ...(host === undefined ? {} : { host }) }, resolve);
  });
  return new RendezvousServer(server, source, options);
}

/** Accepts connections until closed. */
export class RendezvousServer implements AsyncDisposable {
  private readonly server: Server;
  private readonly source: ContextSource;
  private readonly options: ListenOptions;
  private readonly stop = new AbortController();
  private readonly ready: Connection[] = [];
  private readonly waiting: ((connection: Connection | undefined) => void)[] = [];
  private underWay = 0;

  /** @internal Made by listen. */
  constructor(server: Server, source: ContextSource, options: ListenOptions) {
    this.server = server;
    this.source = source;
    this.options = options;
    server.on("connection", (socket) => this.serve(socket));
    server.on("error", () => {}); // of a single connection; the server goes on
  }

  get port(): number {
    const address = this.server.address();
    return typeof address === "object" && address !== null ? address.port : this.options.port;
  }

  /** The next connection whose rendezvous succeeded. Errors: ABORTED, CLOSED. */
  async accept(options: { signal?: AbortSignal } = {}): Promise<Connection> {
    const { signal } = options;
    if (signal?.aborted) throw abortError(signal);
    const next = this.ready.shift();
    if (next !== undefined) return next;
    if (this.stop.signal.aborted) throw closed();
    let take: (connection: Connection | undefined) => void = () => {};
    const onAbort = () => {
      const index = this.waiting.indexOf(take);
      if (index < 0) return; // it has just been given a connection
      this.waiting.splice(index, 1);
      take(undefined);
    };
    const connection = await new Promise<Connection | undefined>((resolve) => {
      take = resolve;
      this.waiting.push(take);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
    signal?.removeEventListener("abort", onAbort);
    if (connection !== undefined) return connection;
    throw signal?.aborted ? abortError(signal) : closed();
  }

  private serve(socket: Socket): void {
    const remote = plainAddress(socket.remoteAddress ?? "");
    if (this.underWay + this.ready.length >= RENDEZVOUS_LIMITS.connectionsMax) {
      socket.destroy();
      this.options.onRefused?.(
        new SdrError(
          "BUSY",
          `${RENDEZVOUS_LIMITS.connectionsMax} connections wait already`,
          "accept them",
        ),
        remote,
      );
      return;
    }
    this.underWay++;
    const { source, options } = this;
    const limit = new Deadline(this.stop.signal, options.timeoutMs ?? RENDEZVOUS_LIMITS.timeoutMs);
    withSocket(socket, limit, (channel) =>
      serverSide({ channel, socket, source, options, stop: this.stop.signal }),
    )
      .then((connection) => this.deliver(connection))
      .catch((error: unknown) => {
        if (!this.stop.signal.aborted) options.onRefused?.(toSdrError(error), remote);
      })
      .finally(() => {
        this.underWay--;
      });
  }

  private deliver(connection: Connection): void {
    const take = this.waiting.shift();
    if (this.stop.signal.aborted) discard(this.source, connection);
    else if (take === undefined) this.ready.push(connection);
    else take(connection);
  }

  /** Stops listening and ends what is under way; connections already accepted live on. */
  async close(): Promise<void> {
    if (this.stop.signal.aborted) return;
    this.stop.abort(closed());
    for (const connection of this.ready.splice(0)) discard(this.source, connection);
    for (const take of this.waiting.splice(0)) take(undefined);
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

// ---- sockets ----

function checkTimeout(timeoutMs: number): void {
  check(
    Number.isSafeInteger(timeoutMs) && timeoutMs > 0 && timeoutMs < 2 ** 31,
    `timeoutMs ${timeoutMs} is not valid`,
    "use whole milliseconds above 0",
  );
}

/** A caller's signal, if any, and a time limit as one signal; leaves nothing with the caller's once it is over. */
class Deadline {
  readonly signal: AbortSignal;
  private readonly watching: readonly (() => void)[];

  constructor(given: AbortSignal | undefined, timeoutMs: number) {
    checkTimeout(timeoutMs);
    checkSignal(given);
    const controller = new AbortController();
    this.signal = controller.signal;
    if (given?.aborted) controller.abort(given.reason);
    const sources = [given, AbortSignal.timeout(timeoutMs)];
    this.watching = sources.map((source) =>
      watchAbort(source, () => controller.abort(source?.reason)),
    );
  }

  over(): void {
    for (const stop of this.watching) stop();
  }
}

/** Runs one side over a socket; an error is told to the peer, and the socket is closed in every case. */
async function withSocket(
  socket: Socket,
  limit: Deadline,
  side: (channel: MessageChannel) => Promise<Connection>,
): Promise<Connection> {
  socket.setNoDelay(true);
  const { signal } = limit;
  const channel = new MessageChannel(socket, signal);
  // A peer that reads nothing would keep a socket that is only ended.
  signal.addEventListener("abort", () => channel.destroy(), { once: true });
  socket.once("close", () => limit.over());
  try {
    const connection = await side(channel);
    channel.end();
    return connection;
  } catch (error) {
    const known =
      signal.aborted && !(error instanceof SdrError) ? abortError(signal) : toSdrError(error);
    if (!(known instanceof RefusedByPeer)) channel.send({ error: describeFailure(known) });
    channel.end();
    throw known;
  }
}

async function openTcp(host: string, port: number, limit: Deadline): Promise<Socket> {
  const { signal } = limit;
  const socket = connectTcp({ host, port });
  let onAbort = () => {};
  try {
    await new Promise<void>((resolve, reject) => {
      onAbort = () => reject(abortError(signal));
      if (signal.aborted) onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      socket.once("connect", resolve);
      socket.once("error", (cause: NodeJS.ErrnoException) =>
        reject(
          new SdrError(
            "PEER_UNREACHABLE",
            `${host} port ${port} cannot be reached: ${cause.code ?? cause.message}`,
            "see that the peer listens there, and the name and port",
            { cause },
          ),
        ),
      );
    });
    return socket;
  } catch (error) {
    socket.on("error", () => {});
    socket.destroy();
    limit.over();
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function listenError(cause: NodeJS.ErrnoException, host: string, port: number): SdrError {
  const where = `${host} TCP port ${port}`;
  switch (cause.code) {
    case "EADDRINUSE":
      return new SdrError(
        "ADDRESS_IN_USE",
        `${where} is in use`,
        "choose another port, or 0 for a free one",
        { cause },
      );
    case "EACCES":
      return new SdrError("ACCESS_DENIED", `${where} may not be opened`, "use a port above 1023", {
        cause,
      });
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EINVAL":
      return new SdrError(
        "INVALID_ARGUMENT",
        `${host} is not an address of this machine`,
        "use one of its own addresses",
        { cause },
      );
    default:
      return new SdrError(
        "ENVIRONMENT",
        `listening on ${where} failed: ${cause.code ?? cause.message}`,
        "check the machine's network",
        { cause },
      );
  }
}

function closed(): SdrError {
  return new SdrError("CLOSED", "the rendezvous server was closed", "");
}

function toSdrError(error: unknown): SdrError {
  if (error instanceof SdrError) return error;
  return new SdrError(
    "ENVIRONMENT",
    `the rendezvous failed: ${error instanceof Error ? error.message : String(error)}`,
    "",
    { cause: error },
  );
}
