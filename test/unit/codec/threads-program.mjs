// Run by threads.test.ts with the compiled package: encodes in the way argv says, from this thread and from workers.
import { once } from "node:events";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { codecInfo, ErasureCode } from "../../../dist/codec/index.js";

const WORKERS = 6;
const BLOCKS = 150;

const chunks = (count, bytes, seed) =>
  Array.from({ length: count }, (_none, i) =>
    new Uint8Array(bytes).map((_zero, at) => (at * 31 + i * 7 + seed * 13) % 251),
  );

/** Encodes a block and makes two of its chunks again; whether they are what they were. */
async function survives(code, bytes, seed) {
  const data = chunks(code.k, bytes, seed);
  const parity = Array.from({ length: code.m }, () => new Uint8Array(bytes));
  await code.encode(data, parity);
  const copies = [data[0], data[1]].map((chunk) => chunk.slice());
  data[0].fill(0);
  data[1].fill(0);
  await code.decode({ data, parity, missing: [0, 1] });
  return copies.every((copy, i) => Buffer.compare(copy, data[i]) === 0);
}

/** Blocks of two codes and many sizes, all at once. */
async function encodeMany() {
  const codes = ["mds", "xor"].map((kind) => new ErasureCode({ kind, k: 6, m: 2 }));
  const blocks = Array.from({ length: BLOCKS }, (_none, i) =>
    survives(codes[i % 2], 1 + ((i * 997) % 5000), i),
  );
  return (await Promise.all(blocks)).filter((ok) => ok).length;
}

/** Keeps all threads busy, so that the environment ends with calls that run and calls that wait. */
async function encodeForEver(onStarted) {
  const code = new ErasureCode({ kind: "mds", k: 32, m: 8 });
  const data = chunks(32, 100_000, 1);
  const parities = Array.from({ length: 16 }, () => chunks(8, 100_000, 2));
  let rounds = 0;
  const encode = async (parity) => {
    for (;;) {
      await code.encode(data, parity);
      if (++rounds === 40) onStarted();
    }
  };
  await Promise.all(parities.map(encode));
}

const ways = {
  /** This thread and workers, at the same time. */
  async many() {
    const workers = Array.from({ length: 3 }, async () => {
      const worker = new Worker(new URL(import.meta.url), { workerData: "many" });
      const [ok] = await once(worker, "message");
      await once(worker, "exit");
      return ok;
    });
    console.log((await Promise.all([encodeMany(), ...workers])).join(" "));
  },
  async terminate() {
    const own = encodeMany();
    for (let i = 0; i < WORKERS; i++) {
      const worker = new Worker(new URL(import.meta.url), { workerData: "ever" });
      await once(worker, "message");
      await worker.terminate();
    }
    console.log(`terminated ${await own}`);
  },
  exit: () => encodeForEver(() => process.exit(3)),
  async throw() {
    await encodeForEver(() => {
      process.once("uncaughtException", () => process.exit(4));
      setImmediate(() => {
        throw new Error("of the program's own");
      });
    });
  },
  /** Nothing is pending any more: ends by itself. */
  async ends() {
    console.log(await encodeMany());
  },
  /** Nothing but a call is pending, of which nobody awaits the promise at the top: it keeps the process. */
  waits() {
    const code = new ErasureCode({ kind: "mds", k: 32, m: 8 });
    const done = code.encode(chunks(32, 100_000, 1), chunks(8, 100_000, 2));
    done.then(() => console.log("encoded"));
  },
  info: () => console.log(JSON.stringify(codecInfo())),
};

if (isMainThread) await ways[process.argv[2]]();
else if (workerData === "many") parentPort.postMessage(await encodeMany());
else await encodeForEver(() => parentPort.postMessage("started"));
