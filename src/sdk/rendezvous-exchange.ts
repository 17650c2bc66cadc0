/**
 * The rendezvous's exchange over one TCP connection (rendezvous.ts opens it), what it needs to be told, and the queue
 * pair it makes. The client proposes the attributes, the server takes them over within its limits.
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
import { isIPv4, type Socket } from "node:net";
import { check, SdrError } from "../base/errors.ts";
import { LIMITS, PARITY_CHUNKS_MIN, type QueuePairAttributes } from "./attributes.ts";
import type { Context } from "./context.ts";
import { readInfo } from "./info.ts";
import type { QueuePair } from "./queue-pair.ts";
import {
  type JsonObject,
  type MessageChannel,
  notThisProtocol,
  parseBody,
} from "./rendezvous-channel.ts";
import { hello, infoOf, prove, readHello, readSigned, receive } from "./rendezvous-messages.ts";

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
  /** What is usual for the largest chunks. */
  maxParityBytes: PARITY_CHUNKS_MIN * LIMITS.chunkBytesMax,
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

/** A rendezvous that succeeded. Queue pair and context are the application's to close. */
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
    readonly maxParityBytes?: number;
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

// ---- the two sides ----

interface Side {
  readonly channel: MessageChannel;
  readonly socket: Socket;
  readonly source: ContextSource;
}

interface Proposal {
  readonly info: string;
  readonly maxMessageBytes: number;
  readonly maxParityBytes: number;
  readonly channels: number;
  readonly meta?: unknown;
}

export async function clientSide(
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
      maxParityBytes: qp.attributes.maxParityBytes,
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

export async function serverSide(
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
    maxParityBytes: number(
      "maxParityBytes",
      proposal.maxParityBytes,
      limits.maxParityBytes ?? RENDEZVOUS_LIMITS.maxParityBytes,
    ),
    split: [Number(split[0]), Number(split[1]), Number(split[2])],
  };
  return {
    attributes,
    channels: number("channels", proposal.channels, limits.channels ?? RENDEZVOUS_LIMITS.channels),
  };
}

// ---- metadata and contexts ----

export function checkMeta(meta: unknown): unknown {
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

/** Ends a connection that nobody took. */
export function discard(source: ContextSource, connection: Connection): void {
  if (typeof source === "function") connection.context.close();
  else connection.qp[Symbol.dispose]();
}

/** IPv4 peers of a socket that serves both families appear as ::ffff:a.b.c.d. */
export function plainAddress(address: string): string {
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
