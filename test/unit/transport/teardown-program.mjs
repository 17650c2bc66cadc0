// Run by teardown.test.ts with the compiled package: ends while transfers are under way, in the way argv says.
import { once } from "node:events";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import {
  Context,
  parseLink,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../../../dist/sdk/index.js";

const WORKERS = 6;

async function transferForEver(onStarted) {
  const link = parseLink("delay 2ms loss 5%");
  const a = Context.udp({ link });
  const b = Context.udp({ link });
  const qa = a.createQueuePair();
  const qb = b.createQueuePair();
  await Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]);
  const source = new Uint8Array(1 << 24).fill(7);
  const target = new Uint8Array(source.length);
  const policy = parsePolicy("sr-nack");
  for (let round = 0; ; round++) {
    const received = reliableReceive(qb, target, policy);
    await Promise.all([received, reliableWrite(qa, source, policy)]);
    if (round === 1) onStarted();
  }
}

/** Opens and closes, so that the environment ends inside some native call of doing so. */
function openForEver(onStarted) {
  for (let round = 0; ; round++) {
    const context = Context.udp({ channels: 3 });
    if (round % 8 !== 0) context.close();
    if (round === 3) onStarted();
  }
}

const [, , how] = process.argv;
if (!isMainThread && workerData === "terminate-opening") {
  openForEver(() => parentPort.postMessage("started"));
} else if (!isMainThread) {
  await transferForEver(() => parentPort.postMessage("started"));
} else if (how === "terminate" || how === "terminate-opening") {
  for (let i = 0; i < WORKERS; i++) {
    const worker = new Worker(new URL(import.meta.url), { workerData: how });
    await once(worker, "message");
    await worker.terminate();
  }
  console.log("terminated");
} else if (how === "exit") {
  await transferForEver(() => process.exit(3));
} else if (how === "throw") {
  await transferForEver(() => {
    process.once("uncaughtException", () => process.exit(4));
    setImmediate(() => {
      throw new Error("of the program's own");
    });
  });
}
