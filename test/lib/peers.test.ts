/** A C program and a queue pair of the TypeScript SDK write to each other: one protocol, two implementations. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Context } from "../../src/sdk/index.ts";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const INFO_BYTES = 8192; // of every info of the C library
const BYTES = 300_001;
/** As examples/c/write.c makes its queue pair. */
const ATTRIBUTES = {
  packetBytes: 1024,
  chunkBytes: 16_384,
  maxMessages: 1,
  generations: 4,
  split: [8, 22, 2] as const,
};

/** Reads whole pieces of a stream. */
class Pieces {
  private bytes = Buffer.alloc(0);
  private readonly socket: Socket;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (data) => {
      this.bytes = Buffer.concat([this.bytes, data]);
      socket.emit("piece");
    });
  }

  async take(size: number): Promise<Buffer> {
    while (this.bytes.length < size) await once(this.socket, "piece");
    const piece = this.bytes.subarray(0, size);
    this.bytes = this.bytes.subarray(size);
    return piece;
  }
}

/** FNV-1a, as the program prints. */
function hash(bytes: Uint8Array): string {
  let value = 14695981039346656037n;
  for (const byte of bytes) value = BigInt.asUintN(64, (value ^ BigInt(byte)) * 1099511628211n);
  return value.toString(16).padStart(16, "0");
}

async function output(child: ChildProcess): Promise<string> {
  let text = "";
  child.stdout?.on("data", (data) => {
    text += data;
  });
  child.stderr?.on("data", (data) => {
    text += data;
  });
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`exit ${code}: ${text}`);
  return text;
}

async function exchange(socket: Socket, pieces: Pieces, info: Uint8Array): Promise<Buffer> {
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(INFO_BYTES));
  socket.write(Buffer.concat([size, info, Buffer.alloc(INFO_BYTES - info.length, " ")]));
  expect((await pieces.take(8)).readBigUInt64LE()).toBe(BigInt(INFO_BYTES));
  return pieces.take(INFO_BYTES);
}

/** A program in `role`, met over TCP, and a queue pair connected to its own. */
async function withPeer(
  role: "send" | "recv",
  use: (
    qp: ReturnType<Context["createQueuePair"]>,
    socket: Socket,
    pieces: Pieces,
  ) => Promise<void>,
): Promise<string> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const args = (at: number) => [role, "127.0.0.1", String(at), "udp:127.0.0.1", String(BYTES)];
  const program = join(root, "build-native", "c_write");
  let socket: Socket;
  let child: ChildProcess;
  if (role === "send") {
    child = spawn(program, args(port)); // it connects
    [socket] = (await once(server, "connection")) as [Socket];
    server.close();
  } else {
    server.close();
    await once(server, "close");
    child = spawn(program, args(port)); // it listens
    socket = await connectTo(port);
  }
  const done = output(child);
  done.catch(() => socket.destroy());
  const pieces = new Pieces(socket);
  const context = Context.udp({});
  try {
    const qp = context.createQueuePair(ATTRIBUTES);
    const theirs = await exchange(socket, pieces, qp.info());
    await qp.connect(new Uint8Array(theirs));
    await use(qp, socket, pieces);
    const text = await done;
    await qp.close();
    return text;
  } finally {
    context.close();
    socket.destroy();
  }
}

/** The program listens soon; each refusal is followed by another attempt. */
async function connectTo(port: number): Promise<Socket> {
  const { connect } = await import("node:net");
  for (let attempts = 0; attempts < 100_000; attempts++) {
    const socket = connect(port, "127.0.0.1");
    const connected = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
    if (connected) return socket;
  }
  throw new Error("the program does not listen");
}

test("what TypeScript sends lands in a C program's memory", async () => {
  const bytes = Uint8Array.from({ length: BYTES }, (_, i) => (i * 31 + (i >> 8)) & 255);
  const text = await withPeer("recv", async (qp, socket, pieces) => {
    for (let again = 1; again === 1; ) {
      await qp.send(bytes).injected;
      socket.write("x");
      again = (await pieces.take(1))[0] as number;
    }
  });
  expect(/^hash (\w+)$/m.exec(text)?.[1]).toBe(hash(bytes));
});

test("what a C program sends lands in a TypeScript buffer", async () => {
  const bytes = new Uint8Array(BYTES);
  const text = await withPeer("send", async (qp, socket, pieces) => {
    for (let again = 1; again === 1; ) {
      const receive = qp.postReceive({ region: bytes });
      await pieces.take(1);
      // Over loopback and clear: what has left has arrived, or is lost.
      await receive.started;
      again = await Promise.race([receive.arrived.then(() => 0), quiet(receive)]);
      receive.complete();
      socket.write(Uint8Array.of(again));
    }
  });
  expect(/^hash (\w+)$/m.exec(text)?.[1]).toBe(hash(bytes));
});

/** 1 once no chunk has come for a thousand turns of the event loop. */
async function quiet(receive: {
  readonly progress: { readonly chunksDone: number };
}): Promise<number> {
  let seen = -1;
  for (let turns = 0; turns < 100_000; turns++) {
    const now = receive.progress.chunksDone;
    if (now !== seen) turns = 0;
    seen = now;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return 1;
}
