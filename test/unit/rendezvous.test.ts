/** The rendezvous over real TCP on loopback: agreement, secrets, refusals, and hostile bytes. */
import { getEventListeners, once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import {
  type ConnectOptions,
  Context,
  connect,
  type ErrorCode,
  type ListenOptions,
  listen,
  parsePolicy,
  type RendezvousServer,
  reliableReceive,
  reliableWrite,
  SdrError,
} from "../../src/sdk/index.ts";

const HOST = "127.0.0.1";
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function udp(address = HOST): Context {
  const context = Context.udp({ address });
  cleanups.push(() => context.close());
  return context;
}

interface Serving {
  readonly server: RendezvousServer;
  /** What the listener was told of failed attempts. */
  readonly refusals: SdrError[];
  /** Resolves when as many attempts have failed. */
  refused(count: number): Promise<void>;
}

async function serve(options: Partial<ListenOptions> = {}): Promise<Serving> {
  const refusals: SdrError[] = [];
  let wake = () => {};
  const onRefused = (error: SdrError) => {
    refusals.push(error);
    wake();
  };
  const server = await listen(({ localAddress }) => udp(localAddress), {
    host: HOST,
    port: 0,
    onRefused,
    ...options,
  });
  cleanups.push(() => server.close());
  const refused = async (count: number) => {
    while (refusals.length < count) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { server, refusals, refused };
}

function join(server: RendezvousServer, options: Partial<ConnectOptions> = {}) {
  return connect(({ localAddress }) => udp(localAddress), {
    host: HOST,
    port: server.port,
    ...options,
  });
}

async function codeOf(work: Promise<unknown>): Promise<ErrorCode | string> {
  return work.then(
    () => "no error",
    (error: unknown) => (error instanceof SdrError ? error.code : String(error)),
  );
}

/** A full exchange after whatever went wrong before. */
async function stillServes(
  { server }: Serving,
  options: Partial<ConnectOptions> = {},
): Promise<void> {
  const [theirs, ours] = await Promise.all([server.accept(), join(server, options)]);
  expect(theirs.qp.isConnected && ours.qp.isConnected).toBe(true);
}

async function raw(port: number): Promise<Socket> {
  const socket = connectTcp({ host: HOST, port });
  cleanups.push(() => socket.destroy());
  socket.on("error", () => {});
  await once(socket, "connect");
  return socket;
}

function framed(message: unknown): Buffer {
  const body = Buffer.from(typeof message === "string" ? message : JSON.stringify(message));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
}

const hello = { sdr: "rendezvous", version: 1, nonce: "0".repeat(64), secret: false };

describe("agreement", () => {
  test("the server takes over the client's attributes, metadata crosses both ways, data flows both ways", async () => {
    const { server } = await serve({ meta: (peer: unknown) => ({ heard: peer }) });
    const attributes = {
      packetBytes: 2048,
      chunkBytes: 8192,
      maxMessages: 8,
      generations: 2,
      split: [8, 22, 2] as const,
      maxMessageBytes: 1 << 20,
      maxParityBytes: 3 << 20,
    };
    const [there, here] = await Promise.all([
      server.accept(),
      join(server, { attributes, meta: { file: "ä", n: 1 } }),
    ]);
    expect(there.meta).toEqual({ file: "ä", n: 1 });
    expect(here.meta).toEqual({ heard: { file: "ä", n: 1 } });
    expect(there.qp.attributes).toMatchObject(attributes);
    expect(here.path).toMatchObject({ localAddress: HOST, remoteAddress: HOST, channels: 1 });
    const policy = parsePolicy("sr-nack");
    const sent = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) & 255);
    const back = Uint8Array.of(1, 2, 3);
    const got = new Uint8Array(sent.length);
    const gotBack = new Uint8Array(back.length);
    await Promise.all([
      reliableReceive(there.qp, got, policy),
      reliableWrite(here.qp, sent, policy),
      reliableReceive(here.qp, gotBack, policy),
      reliableWrite(there.qp, back, policy),
    ]);
    expect(Buffer.compare(got, sent)).toBe(0);
    expect(gotBack).toEqual(back);
  });

  test("IPv6 where the machine has it", async (context) => {
    let serving: Serving;
    try {
      serving = await serve({ host: "::1" });
    } catch (error) {
      return context.skip(`no IPv6 loopback: ${String(error)}`);
    }
    await stillServes(serving, { host: "::1" });
  });

  test("a listener on all addresses gives the plain IPv4 address of an IPv4 peer", async () => {
    const { host: _, ...anywhere } = { host: "", port: 0 };
    const server = await listen(({ localAddress }) => udp(localAddress), anywhere);
    cleanups.push(() => server.close());
    const [there] = await Promise.all([server.accept(), join(server)]);
    expect(there.path).toMatchObject({ localAddress: HOST, remoteAddress: HOST });
  });

  test("several channels, and ready contexts", async () => {
    const two = (address = HOST) => {
      const context = Context.udp({ address, channels: 2 });
      cleanups.push(() => context.close());
      return context;
    };
    const server = await listen(two(), { host: HOST, port: 0 });
    cleanups.push(() => server.close());
    const client = two();
    const [there, here] = await Promise.all([
      server.accept(),
      connect(client, { host: HOST, port: server.port }),
    ]);
    expect(here.context).toBe(client);
    expect(there.path.channels).toBe(2);
  });

  test("many clients at once", async () => {
    const { server } = await serve();
    const clients = await Promise.all(
      Array.from({ length: 8 }, (_, i) => join(server, { meta: i })),
    );
    const metas = [];
    for (const _ of clients) metas.push((await server.accept()).meta);
    expect(metas.sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });
});

describe("secrets", () => {
  test("the same secret on both ends connects", async () => {
    await stillServes(await serve({ secret: "correct horse" }), { secret: "correct horse" });
  });

  test.each([
    ["another", "right", "wrong"],
    ["none at the client", "right", undefined],
    ["none at the server", undefined, "right"],
  ])("%s: ACCESS_DENIED on both ends, others are served", async (_, serverSecret, clientSecret) => {
    const secretOf = (secret: string | undefined) => (secret === undefined ? {} : { secret });
    const serving = await serve(secretOf(serverSecret));
    expect(await codeOf(join(serving.server, secretOf(clientSecret)))).toBe("ACCESS_DENIED");
    await serving.refused(1);
    expect(serving.refusals.map(({ code }) => code)).toEqual(["ACCESS_DENIED"]);
    await stillServes(serving, secretOf(serverSecret));
  });

  test("a proof of nothing is refused", async () => {
    const serving = await serve({ secret: "s" });
    const first = await raw(serving.server.port);
    first.write(framed({ ...hello, secret: true }));
    first.write(framed({ body: "{}", proof: "0".repeat(64) }));
    await serving.refused(1);
    expect(serving.refusals[0]?.code).toBe("ACCESS_DENIED");
  });
});

describe("refusals", () => {
  test("the application refuses by its metadata: the client learns code and message", async () => {
    const serving = await serve({
      meta: (peer: unknown) => {
        if (peer === "bad") throw new SdrError("FILE", "no such thing", "try another");
      },
    });
    await expect(join(serving.server, { meta: "bad" })).rejects.toMatchObject({
      code: "FILE",
      message: "the peer refused: no such thing (try another)",
    });
    await stillServes(serving, { meta: "good" });
  });

  test("attributes beyond the server's limits", async () => {
    const serving = await serve({ limits: { maxMessageBytes: 1 << 20, maxParityBytes: 1 << 23 } });
    const large = { maxMessageBytes: 1 << 21 };
    expect(await codeOf(join(serving.server, { attributes: large }))).toBe("TOO_LARGE");
    const parity = { maxMessageBytes: 1 << 20, maxParityBytes: 1 << 24 };
    expect(await codeOf(join(serving.server, { attributes: parity }))).toBe("TOO_LARGE");
    const many = { maxMessageBytes: 1 << 20, maxMessages: 65 };
    expect(await codeOf(join(serving.server, { attributes: many }))).toBe("TOO_LARGE");
    await stillServes(serving, { attributes: { maxMessageBytes: 1 << 20 } });
  });

  test("metadata above 16 KiB", async () => {
    const { server } = await serve();
    expect(await codeOf(join(server, { meta: "x".repeat(16 * 1024) }))).toBe("TOO_LARGE");
  });

  test("a port in use, nobody there, a name that does not exist, an abort", async () => {
    const { server } = await serve();
    const { port } = server;
    expect(await codeOf(listen(udp(), { host: HOST, port }))).toBe("ADDRESS_IN_USE");
    await server.close();
    expect(await codeOf(connect(udp(), { host: HOST, port }))).toBe("PEER_UNREACHABLE");
    expect(await codeOf(connect(udp(), { host: "does-not-exist.invalid", port }))).toBe(
      "PEER_UNREACHABLE",
    );
    expect(await codeOf(connect(udp(), { host: HOST, port, signal: AbortSignal.abort() }))).toBe(
      "ABORTED",
    );
    expect(await codeOf(connect(udp(), { host: HOST, port: 0 }))).toBe("INVALID_ARGUMENT");
  });

  test.each([0, -1, 1.5, Number.NaN, 2 ** 31])("a time limit of %s ms", async (timeoutMs) => {
    const code = "INVALID_ARGUMENT";
    expect(await codeOf(listen(udp(), { host: HOST, port: 0, timeoutMs }))).toBe(code);
    expect(await codeOf(connect(udp(), { host: HOST, port: 1, timeoutMs }))).toBe(code);
  });

  test("a signal that outlives its connections keeps nothing of them", async () => {
    const { server } = await serve();
    const { signal } = new AbortController();
    const listeners = () => getEventListeners(signal, "abort").length;
    const accepted = server.accept({ signal });
    const { qp, context } = await join(server, { signal });
    expect(qp.isConnected).toBe(true);
    await accepted;
    // What is left ends with the TCP connection, which both ends close by themselves.
    while (listeners() > 0) await new Promise((resolve) => setImmediate(resolve));
    const port = server.port;
    await server.close();
    expect(await codeOf(connect(context, { host: HOST, port, signal }))).toBe("PEER_UNREACHABLE");
    expect(listeners()).toBe(0);
  });

  test("closing a server ends accept with CLOSED, aborting it with ABORTED", async () => {
    const { server } = await serve();
    const abort = new AbortController();
    const aborted = codeOf(server.accept({ signal: abort.signal }));
    const waiting = codeOf(server.accept());
    abort.abort();
    expect(await aborted).toBe("ABORTED");
    await server.close();
    expect(await waiting).toBe("CLOSED");
    expect(await codeOf(server.accept())).toBe("CLOSED");
  });
});

describe("hostile and broken peers: the listener notes them and serves others", () => {
  const cases: [string, Buffer, ErrorCode][] = [
    ["another protocol", Buffer.from("GET / HTTP/1.1\r\n\r\n"), "PEER_INCOMPATIBLE"],
    ["an oversize message", Buffer.from([0xff, 0xff, 0xff, 0xff]), "PEER_INCOMPATIBLE"],
    ["what is not JSON", framed("{"), "PEER_INCOMPATIBLE"],
    ["what is not an object", framed("[1]"), "PEER_INCOMPATIBLE"],
    ["invalid UTF-8", Buffer.from([0, 0, 0, 2, 0xc3, 0x28]), "PEER_INCOMPATIBLE"],
    ["another version", framed({ ...hello, version: 99 }), "PEER_INCOMPATIBLE"],
    ["a short nonce", framed({ ...hello, nonce: "00" }), "PEER_INCOMPATIBLE"],
    ["no body", Buffer.concat([framed(hello), framed({})]), "PEER_INCOMPATIBLE"],
    [
      "a body without info",
      Buffer.concat([framed(hello), framed({ body: "{}" })]),
      "PEER_INCOMPATIBLE",
    ],
    [
      "an info that is none",
      Buffer.concat([
        framed(hello),
        framed({ body: JSON.stringify({ info: "e30=", maxMessageBytes: 1, channels: 1 }) }),
      ]),
      "PEER_INCOMPATIBLE",
    ],
  ];
  test.each(cases)("%s", async (_, bytes, code) => {
    const serving = await serve();
    const socket = await raw(serving.server.port);
    socket.write(bytes);
    await serving.refused(1);
    expect(serving.refusals.map((error) => error.code)).toEqual([code]);
    await stillServes(serving);
  });

  test("a half-closed connection", async () => {
    const serving = await serve();
    (await raw(serving.server.port)).end(framed(hello));
    await serving.refused(1);
    expect(serving.refusals[0]?.code).toBe("PEER_CLOSED");
    await stillServes(serving);
  });

  test("silence, until the deadline", async () => {
    const serving = await serve({ timeoutMs: 50 });
    await raw(serving.server.port);
    await serving.refused(1);
    expect(serving.refusals[0]?.code).toBe("DEADLINE_EXCEEDED");
  });

  test("a server that never answers: the client's deadline", async () => {
    const { createServer } = await import("node:net");
    const silent = createServer().listen(0, HOST);
    cleanups.push(() => silent.close());
    silent.on("connection", (socket) => cleanups.push(() => socket.destroy()));
    await once(silent, "listening");
    const { port } = silent.address() as { port: number };
    expect(await codeOf(connect(udp(), { host: HOST, port, timeoutMs: 50 }))).toBe(
      "DEADLINE_EXCEEDED",
    );
  });
});
