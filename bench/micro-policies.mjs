// What control frames, bitmap scans and policy decisions cost: pure TypeScript, no transport.
import assert from "node:assert/strict";
import {
  ChunkBitmap,
  decodeFrames,
  encodeFrame,
  RttEstimator,
  selectiveRepeatNack,
} from "../dist/reliability/index.js";

const FRAME_BYTES = 1400; // of one control datagram: a usual packet
const CHUNK_BYTES = 65536;
const CHUNKS = 131_072; // 8 GiB, the largest message in chunks that we speak of
const BATCH_CHUNKS = 8; // that complete between two looks at a bitmap
const RANGE_CHUNKS = 16; // handed out, injected and acknowledged at a time
const WINDOW_CHUNKS = 1024;
const RTT_NS = 25e6;
const CHUNK_NS = 1311; // of one chunk at 400 Gbit/s
const RATE_BPS = 400e9;

function fullAck() {
  const words = (FRAME_BYTES - 32) / 4;
  const selective = Uint32Array.from({ length: words }, (_, i) => (0x9e3779b1 * (i + 1)) >>> 0);
  const selectiveBase = 4096;
  const latestChunk = selectiveBase + 32 * words - 1;
  return {
    kind: "ack",
    message: 7,
    cumulative: 4100,
    latestChunk,
    delayNs: 12_345,
    selectiveBase,
    selective,
  };
}

function fullNack() {
  const count = Math.floor((FRAME_BYTES - 12) / 8);
  const ranges = Array.from({ length: count }, (_, i) => ({ first: 10 * i, count: 1 + (i % 9) }));
  return { kind: "nack", message: 7, ranges };
}

function codecCases(frame, label) {
  const out = new Uint8Array(FRAME_BYTES);
  const bytes = encodeFrame(frame, 1, out, 0);
  const datagram = out.subarray(0, bytes);
  const decode = () => {
    for (const one of decodeFrames(datagram)) return one.frame;
    throw new Error("nothing was decoded");
  };
  const verify = () => assert.deepEqual(decode(), frame);
  const group = "frames";
  const run = { unit: "frames", perRun: 1, verify, group };
  return [
    { ...run, name: `encode ${label}, ${bytes} B`, run: () => encodeFrame(frame, 1, out, 0) },
    { ...run, name: `decode ${label}, ${bytes} B`, run: decode },
  ];
}

function bitmapCases() {
  const full = new ChunkBitmap(new Uint32Array(CHUNKS / 32).fill(0xffffffff), CHUNKS);
  const sparse = new ChunkBitmap(new Uint32Array(CHUNKS / 32), CHUNKS);
  for (let chunk = 0; chunk < CHUNKS; chunk += 100) sparse.words[chunk >>> 5] |= 1 << (chunk & 31);
  const expected = Math.ceil(CHUNKS / 100);
  let found = 0;
  const walk = () => {
    found = 0;
    for (let at = sparse.nextSet(0); at < CHUNKS; at = sparse.nextSet(at + 1)) found++;
  };
  return [
    {
      group: "bitmap",
      name: "nextClear over a full bitmap",
      unit: "chunks",
      perRun: CHUNKS,
      run: () => (found = full.nextClear(0)),
      verify: () => assert.equal(full.nextClear(0), CHUNKS),
    },
    {
      group: "bitmap",
      name: "visit each set bit, one in 100",
      unit: "bits",
      perRun: expected,
      run: walk,
      verify: () => {
        walk();
        assert.equal(found, expected);
      },
    },
  ];
}

export function frameCases() {
  return [
    ...codecCases(fullAck(), "ACK with full selective part"),
    ...codecCases(fullNack(), "NACK with most ranges"),
    ...bitmapCases(),
  ];
}

function sessionParams() {
  return {
    messageBytes: CHUNKS * CHUNK_BYTES,
    chunkBytes: CHUNK_BYTES,
    chunkCount: CHUNKS,
    packetBytes: 4096,
    windowChunks: WINDOW_CHUNKS,
    frameBytesMax: FRAME_BYTES,
    rtoFloorNs: 100_000,
    path: new RttEstimator({ initialRttNs: RTT_NS, rateBps: RATE_BPS }),
    startNs: 0,
  };
}

/** A receive session that sees its chunks complete batch by batch; `lossEvery` leaves one in so many for later. */
class Receiving {
  constructor(lossEvery) {
    this.lossEvery = lossEvery;
    this.completed = 0;
    this.nacks = 0;
    this.restart();
  }

  restart() {
    this.bitmap = new ChunkBitmap(new Uint32Array(CHUNKS / 32), CHUNKS);
    this.session = selectiveRepeatNack().createReceiver(sessionParams());
    this.next = 0;
    this.nowNs = 0;
    this.late = [];
  }

  set(chunk) {
    this.bitmap.words[chunk >>> 5] |= 1 << (chunk & 31);
  }

  step() {
    const end = this.next + BATCH_CHUNKS;
    for (let chunk = this.next; chunk < end; chunk++) {
      if (chunk % this.lossEvery === this.lossEvery - 1) this.late.push(chunk);
      else this.set(chunk);
    }
    this.next = end;
    this.nowNs += BATCH_CHUNKS * CHUNK_NS;
    if (this.next === CHUNKS) for (const chunk of this.late) this.set(chunk);
    this.session.handleProgress(this.bitmap, this.nowNs);
    for (let frame = this.poll(); frame !== undefined; frame = this.poll())
      if (frame.kind === "nack") this.nacks++;
    if (this.next < CHUNKS) return;
    assert.equal(this.session.complete, true);
    this.completed++;
    this.restart();
  }

  poll() {
    return this.session.pollControl(this.nowNs);
  }

  /** Runs on to a whole message: completed, and asked for exactly when something was missing. */
  verify() {
    const before = this.completed;
    while (this.completed === before) this.step();
    assert.equal(this.nacks > 0, this.lossEvery <= CHUNKS);
  }
}

/** A send session whose every range is handed out, injected and acknowledged. */
class Sending {
  constructor() {
    this.completed = 0;
    this.restart();
  }

  restart() {
    this.session = selectiveRepeatNack().createSender(sessionParams());
    this.nowNs = 0;
  }

  step() {
    this.nowNs += RANGE_CHUNKS * CHUNK_NS;
    const { first, count } = this.session.pollTransmit(RANGE_CHUNKS, this.nowNs);
    this.session.handleInjected(first, count, this.nowNs);
    const end = first + count;
    const ack = { kind: "ack", message: 0, cumulative: end, latestChunk: end - 1, delayNs: 0 };
    const none = { selectiveBase: end, selective: new Uint32Array(0) };
    this.session.handleControl({ ...ack, ...none }, this.nowNs + RTT_NS);
    if (end < CHUNKS) return;
    assert.equal(this.session.state, "done");
    assert.equal(this.session.counters.chunksRetransmitted, 0);
    this.completed++;
    this.restart();
  }

  verify() {
    const before = this.completed;
    while (this.completed === before) this.step();
  }
}

export function policyCases() {
  const clean = new Receiving(Number.POSITIVE_INFINITY);
  const lossy = new Receiving(1000);
  const sending = new Sending();
  const of = (name, one, perRun) => ({
    group: "sr-nack",
    name,
    unit: "chunks",
    perRun,
    run: () => one.step(),
    verify: () => one.verify(),
  });
  return [
    of(`receiver, ${BATCH_CHUNKS} chunks a look, no loss`, clean, BATCH_CHUNKS),
    of(`receiver, ${BATCH_CHUNKS} chunks a look, one in 1000 lost`, lossy, BATCH_CHUNKS),
    of(`sender, ${RANGE_CHUNKS} chunks an ACK`, sending, RANGE_CHUNKS),
  ];
}
