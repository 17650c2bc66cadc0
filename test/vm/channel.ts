/**
 * The stream to one agent: requests that block this thread until they are answered, as calls of a native addon do, and
 * wake-ups that come in beside them. Knows nothing of what the requests mean. Blocking sockets are what Node lacks:
 * libc's are called instead.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import koffi from "koffi";
import { OP, Reader, Writer } from "./wire.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const MSG_NOSIGNAL = 0x4000;
const EINTR = 4;
const EAGAIN = 11;
/** A guest that takes longer has hung: the hash of a large file takes half a minute on a busy machine. */
const ANSWER_MS_MAX = 120_000;
/** A request to an agent that just started may be lost with its predecessor's input: it is repeated. */
const RESET_MS = 500;
const FRAME_BYTES_MAX = 64 << 20;

const libc = koffi.load("libc.so.6");
const sys = {
  socket: libc.func("int socket(int, int, int)"),
  connect: libc.func("int connect(int, const void*, uint32_t)"),
  setsockopt: libc.func("int setsockopt(int, int, int, const void*, uint32_t)"),
  send: libc.func("int64_t send(int, const void*, size_t, int)"),
  recv: libc.func("int64_t recv(int, void*, size_t, int)"),
  close: libc.func("int close(int)"),
};

class NoAnswer extends Error {}

function openSocket(path: string): number {
  const address = new Uint8Array(110);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  const bytes = new TextEncoder().encode(path);
  if (bytes.length > 107) throw new Error(`the path of the socket is too long: ${path}`);
  address.set(bytes, 2);
  const fd = sys.socket(AF_UNIX, SOCK_STREAM, 0) as number;
  if (fd < 0 || sys.connect(fd, address, address.length) !== 0)
    throw new Error(`no agent at ${path}: errno ${koffi.errno()}`);
  return fd;
}

/** What an agent answers when a transport cannot be opened or connected: the fields of the binding's error. */
export interface Refusal {
  errno: number;
  call: string;
  remedy: string;
  code: string;
}

export interface Woken {
  wake(): void;
}

export class Channel {
  /** Contexts by number: whom a wake-up is for. */
  readonly woken = new Map<number, Woken>();
  /** Requests so far, by operation. */
  readonly requests = new Map<number, number>();
  private readonly fd: number;
  private readonly wakes: Socket;
  private readonly out = new Writer();
  private frameAt = -1;
  private input = new Uint8Array(1 << 16);
  private sequence = 0;
  private timeoutMs = 0;

  private constructor(fd: number, wakes: Socket) {
    this.fd = fd;
    this.wakes = wakes;
    let rest: Buffer = Buffer.alloc(0);
    wakes.on("data", (data) => {
      rest = Buffer.concat([rest, data]);
      const whole = rest.length & ~3;
      const numbers = new Set<number>();
      for (let at = 0; at < whole; at += 4) numbers.add(rest.readUInt32LE(at));
      rest = rest.subarray(whole);
      for (const number of numbers) this.woken.get(number)?.wake();
    });
  }

  /** Connects and has the agent forget whatever an earlier client made. */
  static async open(rpcPath: string, wakePath: string): Promise<Channel> {
    const wakes = connect(wakePath);
    await once(wakes, "connect");
    const channel = new Channel(openSocket(rpcPath), wakes);
    channel.reset();
    return channel;
  }

  close(): void {
    this.wakes.destroy();
    sys.close(this.fd);
  }

  /** Begins a frame; what follows goes into the writer that it gives, and then `ask` or `tell`. */
  frame(op: number, context = 0, qp = 0): Writer {
    if (this.frameAt >= 0) throw new Error("a frame is open already");
    this.requests.set(op, (this.requests.get(op) ?? 0) + 1);
    this.frameAt = this.out.size;
    this.sequence = (this.sequence + 1) >>> 0;
    return this.out.u32(0).u32(this.sequence).u8(op).u32(context).u32(qp);
  }

  /** Ends a frame that has no answer; it goes out with the next that has one. */
  tell(): void {
    this.out.setU32(this.frameAt, this.out.size - this.frameAt - 4);
    this.frameAt = -1;
  }

  /** Ends a frame, sends all that is waiting, and gives the answer: the agent's time and what follows. */
  ask(timeoutMs = ANSWER_MS_MAX): { readonly nowNs: number; readonly from: Reader } {
    this.tell();
    this.flush();
    this.waitAtMost(timeoutMs);
    const { sequence } = this;
    for (;;) {
      const from = new Reader(this.readFrame());
      if (from.u32() !== sequence) continue; // of a request that was given up
      const status = from.u8();
      const nowNs = from.f64();
      if (status === 0) return { nowNs, from };
      if (status === 1) throw new Error(from.text());
      const [call, what, remedy, code] = [from.text(), from.text(), from.text(), from.text()];
      const refusal: Refusal = { errno: nowNs, call, remedy, code };
      throw Object.assign(new Error(what), refusal);
    }
  }

  /** Sends what is waiting. */
  flush(): void {
    const { written } = this.out;
    for (let at = 0; at < written.length; ) {
      const sent = sys.send(this.fd, written.subarray(at), written.length - at, MSG_NOSIGNAL);
      if (sent > 0) at += sent as number;
      else if (koffi.errno() !== EINTR)
        throw new Error(`the agent is gone: errno ${koffi.errno()}`);
    }
    this.out.clear();
  }

  /** Ends the agent's process with SIGKILL; what has been made there is gone. Another one starts by itself. */
  kill(): void {
    this.frame(OP.die);
    this.tell();
    this.flush();
    this.reset();
  }

  private reset(): void {
    this.woken.clear();
    const deadline = performance.now() + ANSWER_MS_MAX;
    for (;;) {
      this.frame(OP.reset);
      try {
        this.ask(RESET_MS);
        return;
      } catch (error) {
        if (!(error instanceof NoAnswer) || performance.now() > deadline) throw error;
      }
    }
  }

  private waitAtMost(timeoutMs: number): void {
    if (timeoutMs === this.timeoutMs) return;
    this.timeoutMs = timeoutMs;
    const time = new BigInt64Array([
      BigInt(Math.floor(timeoutMs / 1000)),
      BigInt((timeoutMs % 1000) * 1000),
    ]);
    sys.setsockopt(this.fd, SOL_SOCKET, SO_RCVTIMEO, new Uint8Array(time.buffer), 16);
  }

  private readFrame(): Uint8Array {
    this.readInto(0, 4);
    const size = new DataView(this.input.buffer).getUint32(0, true);
    if (size > FRAME_BYTES_MAX) throw new Error(`the agent answers with ${size} bytes`);
    if (size > this.input.length) this.input = new Uint8Array(2 * size);
    this.readInto(0, size);
    return this.input.subarray(0, size);
  }

  private readInto(from: number, size: number): void {
    for (let at = from; at < from + size; ) {
      const got = sys.recv(this.fd, this.input.subarray(at), from + size - at, 0) as number;
      if (got > 0) at += got;
      else if (got === 0) throw new Error("the agent is gone: its stream has ended");
      else if (koffi.errno() === EAGAIN) throw new NoAnswer("the agent does not answer");
      else if (koffi.errno() !== EINTR)
        throw new Error(`the agent is gone: errno ${koffi.errno()}`);
    }
  }
}
