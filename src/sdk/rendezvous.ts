/**
 * A convenience rendezvous: two queue pairs exchange their infos over one TCP connection and connect. The client
 * proposes the attributes, the server takes them over within its limits.
 *
 *   client                                server
 *   {sdr, version, nonce, secret}    ->
 *                                    <-   {sdr, version, nonce, secret}
 *   {body, proof}                    ->                       body: JSON text of Proposal
 *                                    <-   {body, proof}       body: JSON text of Answer
 *   {ready}                          ->
 *
 * `secret` says whether one is asked for. proof = HMAC-SHA256(secret, label, both nonces, the bodies so far): each
 * end shows that it knows the secret, for this connection and this content; without a secret there is none. The
 * secret guards who may connect and that infos and metadata are genuine; nothing is encrypted. An eavesdropper can try
 * out guesses of the secret offline: use a long random one. Either end may answer {error} instead.
 */
import { randomBytes } from "node:crypto";
import { connect as connectTcp, createServer, isIPv4, type Server, type Socket } from "node:net";
import { check, SdrError } from "../base/errors.ts";
import type { QueuePairAttributes } from "./attributes.ts";
import { LIMITS } from "./attributes.ts";
import type { Context } from "./context.ts";
import { readInfo } from "./info.ts";
import type { QueuePair } from "./queue-pair.ts";
import {
  abortError,
  type JsonObject,
  MessageChannel,
  notThisProtocol,
  parseBody,
} from "./rendezvous-channel.ts";
import {
  ERROR_TEXT_MAX,
  hello,
  infoOf,
  prove,
  RefusedByPeer,
  readHello,
  readSigned,
  receive,
} from "./rendezvous-messages.ts";

const NONCE_BYTES = 32;

export const RENDEZVOUS_LIMITS = {
  /** JSON text of the application's metadata. */
  metaBytesMax: 16 * 1024,
  /** Rendezvous under way or waiting for accept(), a server; further connections are closed at once. */
  connectionsMax: 64,
  /** From the TCP connection to the end of the exchange, unless told otherwise. */
  timeoutMs: 10_000,
  /** What a server takes over from a client, unless told otherwise. */
  maxMessageBytes: 2 ** 30,
  maxMessages: 64,
  channels: 64,
} as const;

/** Where the connection runs, for making a context that the peer can reach. */
export interface RendezvousPath {
  /** This end's numeric address on the TCP connection: the one to bind UDP sockets to. */
  readonly localAddress: string;
  readonly remoteAddress: string;
  /** How many channels the context must have: both ends alike. */
  readonly channels: number;
}

/**
 * The context to make the queue pair in, or what makes one once the path is known. A context that is made belongs to
 * the application from then on; it is closed here when the rendezvous fails.
 */
export type ContextSource = Context | ((path: RendezvousPath) => Context);

export interface Connection {
  readonly qp: QueuePair;
  readonly context: Context;
  /** The peer's metadata: any JSON, unchecked. Undefined: none. */
  readonly meta: unknown;
  readonly path: RendezvousPath;
}

export interface ListenOptions {
  /** Address to listen on. Default: all. */
  readonly host?: string;
  /** 0 takes a free one; see RendezvousServer.port. */
  readonly port: number;
  /** Peers must know it. Default: anybody may connect. */
  readonly secret?: string;
  /** This end's own share of the attributes; what both ends must have alike comes from the client. */
  readonly attributes?: Pick<
    QueuePairAttributes,
    "rateBps" | "peerTimeoutNs" | "maxInFlightBytes" | "rtoFloorNs"
  >;
  /** Most that is taken over from a client. */
  readonly limits?: {
    readonly maxMessageBytes?: number;
    readonly maxMessages?: number;
    readonly channels?: number;
  };
  /**
   * This end's metadata for the client, or what makes it from the client's, which is unchecked. Throwing an SdrError
   * refuses the client, who is told its code and message.
   */
  readonly meta?: unknown | ((peerMeta: unknown, path: RendezvousPath) => unknown);
  /** Told of every attempt that failed; the server goes on. */
  readonly onRefused?: (error: SdrError, remoteAddress: string) => void;
  readonly timeoutMs?: number;
}

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  /** Must be the server's; none when the server asks for none. */
  readonly secret?: string;
  readonly attributes?: QueuePairAttributes;
  /** Any JSON of at most 16 KiB, for the server's application. */
  readonly meta?: unknown;
  /** Channels of a context that is made; a ready context's own otherwise. Default 1. */
  readonly channels?: number;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/** Connects a new queue pair to one that a server at host:port makes. Errors: PEER_UNREACHABLE, ACCESS_DENIED,
 * PEER_INCOMPATIBLE, PEER_CLOSED, DEADLINE_EXCEEDED, ABORTED, INVALID_ARGUMENT, or what the server refused with. */
export async function connect(source: ContextSource, options: ConnectOptions): Promise<Connection> {
  const { host, port, timeoutMs = RENDEZVOUS_LIMITS.timeoutMs, signal } = options;
  check(typeof host === "string" && host !== "", "the host is empty", "give a name or an address");
  check(
    Number.isInteger(port) && port >= 1 && port <= 65535,
    `port ${port} is not valid`,
    "use 1 to 65535",
  );
  const meta = checkMeta(options.meta);
  const limit = withDeadline(signal, timeoutMs);
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
      this.waiting.splice(this.waiting.indexOf(take), 1);
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
    const limit = withDeadline(this.stop.signal, options.timeoutMs ?? RENDEZVOUS_LIMITS.timeoutMs);
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

// ---- the two sides ----

interface Side {
  readonly channel: MessageChannel;
  readonly socket: Socket;
  readonly source: ContextSource;
}

interface Proposal {
  readonly info: string;
  readonly maxMessageBytes: number;
  readonly channels: number;
  readonly meta?: unknown;
}

async function clientSide(
  side: Side & { options: ConnectOptions; meta: unknown },
): Promise<Connection> {
  const { channel, source, options, meta } = side;
  const { secret, signal } = options;
  const nonce = randomBytes(NONCE_BYTES).toString("hex");
  channel.send(hello(nonce, secret));
  const theirs = readHello(await receive(channel), secret);
  const channels =
    typeof source === "function" ? (options.channels ?? 1) : source.capabilities.channels;
  const path = pathOf(side.socket, channels);
  return withQueuePair(source, path, options.attributes, async (context, qp) => {
    const info = Buffer.from(qp.info()).toString("base64");
    const proposal: Proposal = {
      info,
      maxMessageBytes: qp.attributes.maxMessageBytes,
      channels,
      ...(meta === undefined ? {} : { meta }),
    };
    const asked = JSON.stringify(proposal);
    channel.send({ body: asked, ...prove(secret, "client", [nonce, theirs, asked]) });
    const answered = readSigned(await receive(channel), secret, "server", (body) => [
      nonce,
      theirs,
      asked,
      body,
    ]);
    const answer = parseBody(answered);
    const peerInfo = infoOf(answer);
    channel.send({ ready: true });
    await qp.connect(peerInfo, signal === undefined ? {} : { signal });
    return { qp, context, meta: answer.meta, path };
  });
}

async function serverSide(
  side: Side & { options: ListenOptions; stop: AbortSignal },
): Promise<Connection> {
  const { channel, source, options, stop } = side;
  const { secret } = options;
  const nonce = randomBytes(NONCE_BYTES).toString("hex");
  const message = await receive(channel);
  channel.send(hello(nonce, secret)); // before a complaint: the client sees what this end asks for
  const theirs = readHello(message, secret);
  const asked = readSigned(await receive(channel), secret, "client", (body) => [
    theirs,
    nonce,
    body,
  ]);
  const proposal = parseBody(asked);
  const { attributes, channels } = takeOver(proposal, options);
  const path = pathOf(side.socket, channels);
  const { meta } = options;
  const own = checkMeta(typeof meta === "function" ? await meta(proposal.meta, path) : meta);
  return withQueuePair(source, path, attributes, async (context, qp) => {
    const info = Buffer.from(qp.info()).toString("base64");
    const body = JSON.stringify({ info, ...(own === undefined ? {} : { meta: own }) });
    channel.send({ body, ...prove(secret, "server", [theirs, nonce, asked, body]) });
    const last = await receive(channel);
    if (last.ready !== true) throw notThisProtocol("does not confirm");
    await qp.connect(infoOf(proposal), { signal: stop });
    return { qp, context, meta: proposal.meta, path };
  });
}

/** The attributes both ends must have alike, from the client, within this server's limits. */
function takeOver(
  proposal: JsonObject,
  options: ListenOptions,
): { attributes: QueuePairAttributes; channels: number } {
  const { limits = {} } = options;
  const fields = readInfo(infoOf(proposal));
  const number = (name: string, value: unknown, most: number): number => {
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
      throw notThisProtocol(`proposes no valid ${name}`);
    if (value > most)
      throw new SdrError(
        "TOO_LARGE",
        `the client proposes ${name} ${value}, this server takes at most ${most}`,
        `propose at most ${most}`,
      );
    return value;
  };
  const { split } = fields;
  if (!Array.isArray(split) || split.length !== 3 || !split.every((bits) => Number.isInteger(bits)))
    throw notThisProtocol("proposes no valid split");
  const attributes: QueuePairAttributes = {
    ...options.attributes,
    packetBytes: number("packetBytes", fields.packetBytes, 65_535),
    chunkBytes: number("chunkBytes", fields.chunkBytes, LIMITS.chunkBytesMax),
    generations: number("generations", fields.generations, LIMITS.generationsMax),
    maxMessages: number(
      "maxMessages",
      fields.maxMessages,
      limits.maxMessages ?? RENDEZVOUS_LIMITS.maxMessages,
    ),
    maxMessageBytes: number(
      "maxMessageBytes",
      proposal.maxMessageBytes,
      limits.maxMessageBytes ?? RENDEZVOUS_LIMITS.maxMessageBytes,
    ),
    split: [Number(split[0]), Number(split[1]), Number(split[2])],
  };
  return {
    attributes,
    channels: number("channels", proposal.channels, limits.channels ?? RENDEZVOUS_LIMITS.channels),
  };
}

// ---- metadata, sockets and contexts ----

function checkMeta(meta: unknown): unknown {
  if (meta === undefined) return undefined;
  const text: string | undefined = JSON.stringify(meta);
  check(text !== undefined, "the metadata is not JSON", "pass plain data");
  const bytes = Buffer.byteLength(text);
  if (bytes > RENDEZVOUS_LIMITS.metaBytesMax) {
    throw new SdrError(
      "TOO_LARGE",
      `the metadata has ${bytes} B, more than ${RENDEZVOUS_LIMITS.metaBytesMax}`,
      "send it as a message",
    );
  }
  return JSON.parse(text);
}

function withDeadline(signal: AbortSignal | undefined, timeoutMs: number): AbortSignal {
  check(
    Number.isSafeInteger(timeoutMs) && timeoutMs > 0 && timeoutMs < 2 ** 31,
    `timeoutMs ${timeoutMs} is not valid`,
    "use whole milliseconds above 0",
  );
  const deadline = AbortSignal.timeout(timeoutMs);
  return signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
}

/** Runs one side over a socket; an error is told to the peer, and the socket is closed in every case. */
async function withSocket(
  socket: Socket,
  limit: AbortSignal,
  side: (channel: MessageChannel) => Promise<Connection>,
): Promise<Connection> {
  socket.setNoDelay(true);
  const channel = new MessageChannel(socket, limit);
  // A peer that reads nothing would keep a socket that is only ended.
  limit.addEventListener("abort", () => channel.destroy(), { once: true });
  try {
    const connection = await side(channel);
    channel.end();
    return connection;
  } catch (error) {
    const known =
      limit.aborted && !(error instanceof SdrError) ? abortError(limit) : toSdrError(error);
    if (!(known instanceof RefusedByPeer))
      channel.send({ error: { code: known.code, text: known.message.slice(0, ERROR_TEXT_MAX) } });
    channel.end();
    throw known;
  }
}

/** Runs `use` with a new queue pair; when that fails it is closed, and so is a context that was made for it. */
async function withQueuePair(
  source: ContextSource,
  path: RendezvousPath,
  attributes: QueuePairAttributes | undefined,
  use: (context: Context, qp: QueuePair) => Promise<Connection>,
): Promise<Connection> {
  const made = typeof source === "function";
  const context = made ? source(path) : source;
  let qp: QueuePair | undefined;
  try {
    qp = context.createQueuePair(attributes);
    return await use(context, qp);
  } catch (error) {
    qp?.[Symbol.dispose]();
    if (made) context.close();
    throw error;
  }
}

function discard(source: ContextSource, connection: Connection): void {
  if (typeof source === "function") connection.context.close();
  else connection.qp[Symbol.dispose]();
}

/** IPv4 peers of a socket that serves both families appear as ::ffff:a.b.c.d. */
function plainAddress(address: string): string {
  const plain = address.replace(/^::ffff:/i, "");
  return isIPv4(plain) ? plain : address;
}

function pathOf(socket: Socket, channels: number): RendezvousPath {
  return {
    localAddress: plainAddress(socket.localAddress ?? ""),
    remoteAddress: plainAddress(socket.remoteAddress ?? ""),
    channels,
  };
}

async function openTcp(host: string, port: number, limit: AbortSignal): Promise<Socket> {
  const socket = connectTcp({ host, port });
  let onAbort = () => {};
  try {
    await new Promise<void>((resolve, reject) => {
      onAbort = () => reject(abortError(limit));
      if (limit.aborted) onAbort();
      limit.addEventListener("abort", onAbort, { once: true });
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
    throw error;
  } finally {
    limit.removeEventListener("abort", onAbort);
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
