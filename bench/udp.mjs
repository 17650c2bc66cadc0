// Reliable goodput over UDP loopback between two processes, without injected loss, beside what the machine can do in
// the same run: a raw UDP blast with GSO and GRO, one TCP stream, and this product's engine without a policy
// (bench/native/udp_blast). Everything is interleaved in rounds, and a ratio compares figures of one round: on a
// machine that others share, only ratios say something. Every transfer's SHA-256 is checked at the receiver.
import { execFileSync, fork } from "node:child_process";
import { join } from "node:path";
import { renderTable } from "../dist/report/table.js";
import { root, spread, spreadText } from "./machine.mjs";

const PACKETS = [
  { packetBytes: 1400, goodputMin: 12 },
  { packetBytes: 8900, goodputMin: 20 },
];
const POLICIES = ["sr-nack", "sr-rto", "gbn"];
const POLICY_REQUIRED = "sr-nack";
const FULL = { rounds: 5, bytes: 512 << 20, messages: 2, blastSeconds: 1 };
const QUICK = { rounds: 1, bytes: 128 << 20, messages: 2, blastSeconds: 0.3 };
const ANSWER_MS_MAX = 120_000;

/** A process at one end; `call` sends it a command and waits for the answer. */
class End {
  constructor() {
    const options = { serialization: "advanced", stdio: ["ignore", "inherit", "inherit", "ipc"] };
    this.process = fork(join(root, "bench", "udp-end.mjs"), options);
    this.waiting = new Map();
    this.next = 0;
    this.process.on("message", ({ id, answer, error }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) resolve(answer);
      else reject(new Error(error));
    });
    this.exited = new Promise((resolve) => this.process.on("exit", resolve));
    this.exited.then((code) => {
      for (const { reject } of this.waiting.values())
        reject(new Error(`an end of the UDP benchmark exited with ${code}`));
    });
  }

  call(command, values = {}) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      const give = () => reject(new Error(`no answer to "${command}" in ${ANSWER_MS_MAX} ms`));
      const timer = setTimeout(give, ANSWER_MS_MAX);
      const ended = (settle) => (value) => {
        clearTimeout(timer);
        settle(value);
      };
      this.waiting.set(id, { resolve: ended(resolve), reject: ended(reject) });
      this.process.send({ id, command, ...values });
    });
  }

  async close() {
    if (this.process.connected) this.process.send({ id: -1, command: "close" });
    await this.exited;
  }
}

async function connectPair(sender, receiver, packetBytes) {
  const attributes = { packetBytes };
  const name = String(packetBytes);
  const [from, to] = await Promise.all(
    [sender, receiver].map((end) => end.call("create", { name, attributes })),
  );
  await Promise.all([
    sender.call("connect", { name, info: to.info }),
    receiver.call("connect", { name, info: from.info }),
  ]);
  return from.chunkBytes;
}

/** One transfer of the whole buffer, verified. */
async function transfer(sender, receiver, sha256, { packetBytes, policy, bytes, messages }) {
  const task = { name: String(packetBytes), policy, messages };
  await receiver.call("expect", task);
  const sent = await sender.call("send", task);
  const got = await receiver.call("received", task);
  if (got.sha256 !== sha256) throw new Error(`${policy} at ${packetBytes} B: wrong SHA-256`);
  const begin = Math.min(...sent.reports.map((one) => one.startNs));
  const end = Math.max(...sent.reports.map((one) => one.startNs + one.completionNs));
  const arrived = Math.max(...got.reports.map((one) => one.durationNs));
  return {
    goodputGbps: (bytes * 8) / (end - begin),
    receiverGbps: (bytes * 8) / arrived,
    chunksRetransmitted: sum(sent.reports, (one) => one.chunksRetransmitted),
    nacks: sum(sent.reports, (one) => one.nacksReceived),
    timeouts: sum(sent.reports, (one) => one.timeouts),
    controlFrames: sent.counters.framesSent + got.counters.framesSent,
    duplicatePackets: got.counters.duplicates,
    senderCpuSeconds: sent.cpuSeconds,
    receiverCpuSeconds: got.cpuSeconds,
    // Holds still where others take part of the machine.
    gbitPerCpuSecond: (bytes * 8e-9) / (sent.cpuSeconds + got.cpuSeconds),
  };
}

function sum(list, value) {
  return list.reduce((total, one) => total + value(one), 0);
}

function blast(packetBytes, seconds) {
  const program = join(root, "build-native", "udp_blast");
  const args = ["--payload", String(packetBytes), "--seconds", String(seconds), "--engine"];
  const result = JSON.parse(execFileSync(program, args, { encoding: "utf8" }));
  if (result.verified !== true) throw new Error("udp_blast did not verify what it received");
  return result;
}

/** rounds x packet sizes x (yardsticks, then each policy). */
async function measureRounds(ends, sha256, plan, progress) {
  const rounds = [];
  for (let round = 0; round < plan.rounds; round++) {
    for (const { packetBytes } of PACKETS) {
      progress(`udp: round ${round + 1} of ${plan.rounds}, ${packetBytes} B packets`);
      const yardsticks = blast(packetBytes, plan.blastSeconds);
      for (const policy of POLICIES) {
        const task = { packetBytes, policy, bytes: plan.bytes, messages: plan.messages };
        rounds.push({
          packetBytes,
          policy,
          round,
          yardsticks,
          ...(await transfer(...ends, sha256, task)),
        });
      }
    }
  }
  return rounds;
}

function summarise(rounds, packetBytes, policy) {
  const mine = rounds.filter((one) => one.packetBytes === packetBytes && one.policy === policy);
  const over = (value) => spread(mine.map(value));
  return {
    packetBytes,
    policy,
    goodputGbps: over((one) => one.goodputGbps),
    receiverGbps: over((one) => one.receiverGbps),
    rawGbps: over((one) => one.yardsticks.udpGbps),
    tcpGbps: over((one) => one.yardsticks.tcpGbps),
    engineGbps: over((one) => one.yardsticks.engineGbps),
    ratioToRaw: over((one) => one.goodputGbps / one.yardsticks.udpGbps),
    ratioToTcp: over((one) => one.goodputGbps / one.yardsticks.tcpGbps),
    ratioToEngine: over((one) => one.goodputGbps / one.yardsticks.engineGbps),
    chunksRetransmitted: over((one) => one.chunksRetransmitted),
    nacks: over((one) => one.nacks),
    timeouts: over((one) => one.timeouts),
    controlFrames: over((one) => one.controlFrames),
    duplicatePackets: over((one) => one.duplicatePackets),
    senderCpuSeconds: over((one) => one.senderCpuSeconds),
    receiverCpuSeconds: over((one) => one.receiverCpuSeconds),
    gbitPerCpuSecond: over((one) => one.gbitPerCpuSecond),
  };
}

export async function measureUdp({ quick, progress }) {
  const plan = quick ? QUICK : FULL;
  const sender = new End();
  const receiver = new End();
  try {
    const [{ sha256, capabilities }] = await Promise.all([
      sender.call("open", { bytes: plan.bytes, role: "send" }),
      receiver.call("open", { bytes: plan.bytes, role: "receive" }),
    ]);
    const cold = [];
    for (const { packetBytes } of PACKETS) {
      await connectPair(sender, receiver, packetBytes);
      // Untimed in the summary: code compiled, pages of both processes and of the sockets touched.
      const task = { packetBytes, policy: POLICY_REQUIRED, ...plan };
      cold.push({ packetBytes, ...(await transfer(sender, receiver, sha256, task)) });
    }
    const rounds = await measureRounds([sender, receiver], sha256, plan, progress);
    const results = PACKETS.flatMap(({ packetBytes }) =>
      POLICIES.map((policy) => summarise(rounds, packetBytes, policy)),
    );
    const requirements = PACKETS.map(({ packetBytes, goodputMin }) => ({
      name: `udp: Gbit/s, ${POLICY_REQUIRED}, ${packetBytes} B packets, two processes`,
      least: goodputMin,
      measured: results.find(
        (one) => one.packetBytes === packetBytes && one.policy === POLICY_REQUIRED,
      ).goodputGbps.median,
    }));
    return { ...plan, capabilities, sha256, cold, rounds, results, requirements };
  } finally {
    await Promise.all([sender.close(), receiver.close()]);
  }
}

export function udpTables({ results, bytes, messages, rounds }) {
  const repeats = rounds.length / results.length;
  const columns = [
    { title: "UDP loopback\npolicy", align: "left", cell: (row) => row.policy },
    { title: "packet\nB", cell: (row) => String(row.packetBytes) },
    { title: "goodput Gbit/s\nmedian (range)", cell: (row) => spreadText(row.goodputGbps) },
    { title: "raw UDP\nGbit/s", cell: (row) => spreadText(row.rawGbps) },
    { title: "TCP\nGbit/s", cell: (row) => spreadText(row.tcpGbps) },
    { title: "of\nraw", cell: (row) => row.ratioToRaw.median.toFixed(2) },
    { title: "of\nTCP", cell: (row) => row.ratioToTcp.median.toFixed(2) },
    { title: "chunks\nsent again", cell: (row) => spreadText(row.chunksRetransmitted, 0) },
    { title: "CPU s\nsender", cell: (row) => row.senderCpuSeconds.median.toFixed(2) },
    { title: "CPU s\nreceiver", cell: (row) => row.receiverCpuSeconds.median.toFixed(2) },
    { title: "Gbit a\nCPU s", cell: (row) => row.gbitPerCpuSecond.median.toFixed(1) },
  ];
  const note =
    `${bytes / 2 ** 20} MiB as ${messages} messages at once, ${repeats} rounds, two processes, SHA-256 checked; ` +
    "ratios are medians of each round's\n";
  return renderTable(columns, results) + note;
}
