// Reliable goodput over UDP loopback between two processes, without injected loss, beside what the machine can do in
// the same run: a raw UDP blast with GSO and GRO, one TCP stream, and this product's engine without a policy
// (bench/native/udp_blast). Everything is interleaved in rounds, and a ratio compares figures of one round: on a
// machine that others share, only ratios say something. And what a GiB costs each end in processor time and memory.
// Every transfer's SHA-256 is checked at the receiver.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { renderTable } from "../dist/report/table.js";
import { Ends } from "./ends.mjs";
import { root, rotated, spread, spreadText } from "./machine.mjs";

const PACKETS = [1400, 8900];
const POLICIES = ["sr-nack", "sr-rto", "gbn", "ec-mds(32,8)", "ec-xor(32,8)"];
const REQUIRED = [
  { policy: "sr-nack", ratio: "ratioToRaw", of: "the raw blast", least: 0.8 },
  { policy: "sr-nack", ratio: "ratioToTcp", of: "one TCP stream", least: 1 },
  { policy: "ec-mds(32,8)", ratio: "ratioToRaw", of: "the raw blast", least: 0.6 },
];
const FULL = { rounds: 7, bytes: 512 << 20, messages: 2, blastSeconds: 1 };
const QUICK = { rounds: 1, bytes: 128 << 20, messages: 2, blastSeconds: 0.3 };

/** What is left of 2^18 packets beside the largest message holds its parity. */
function attributesOf({ packetBytes, bytes, messages }) {
  return { packetBytes, maxMessageBytes: bytes / messages };
}

/** One transfer of the whole buffer, verified. */
async function transfer(ends, { packetBytes, policy, bytes, messages }) {
  const { sent, got } = await ends.transfer(String(packetBytes), { policy, messages });
  const begin = Math.min(...sent.reports.map((one) => one.startNs));
  const end = Math.max(...sent.reports.map((one) => one.startNs + one.completionNs));
  const arrived = Math.max(...got.reports.map((one) => one.durationNs));
  const gib = bytes / 2 ** 30;
  const memory = (peakBytes) => (peakBytes === undefined ? undefined : peakBytes / 2 ** 20 / gib);
  return {
    packetBytes,
    policy,
    goodputGbps: (bytes * 8) / (end - begin),
    receiverGbps: (bytes * 8) / arrived,
    chunksRetransmitted: sum(sent.reports, (one) => one.chunksRetransmitted),
    chunksRecovered: sum(got.reports, (one) => one.chunksRecovered),
    fallbacks: sum(got.reports, (one) => one.fallbacks),
    nacks: sum(sent.reports, (one) => one.nacksReceived),
    timeouts: sum(sent.reports, (one) => one.timeouts),
    controlFrames: sent.counters.framesSent + got.counters.framesSent,
    duplicatePackets: got.counters.duplicates,
    senderCpuSecondsPerGiB: sent.cpuSeconds / gib,
    receiverCpuSecondsPerGiB: got.cpuSeconds / gib,
    senderPeakMiBPerGiB: memory(sent.peakBytes),
    receiverPeakMiBPerGiB: memory(got.peakBytes),
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

/** packet sizes x policies: what `measure` makes of each, one after the other. */
async function forEach(measure) {
  const results = [];
  for (const packetBytes of PACKETS)
    for (const policy of POLICIES) results.push(await measure(packetBytes, policy));
  return results;
}

/**
 * Each policy's first transfer, in processes of their own: so nothing of an earlier one is left in memory, neither in
 * use nor kept for use, and all that the policy takes shows.
 */
function measureCold(plan, progress) {
  return forEach(async (packetBytes, policy) => {
    progress(`udp: first transfer, ${policy}, ${packetBytes} B packets`);
    const ends = await Ends.open(plan);
    try {
      await ends.connect(String(packetBytes), attributesOf({ ...plan, packetBytes }));
      return await transfer(ends, { ...plan, packetBytes, policy });
    } finally {
      await ends.close();
    }
  });
}

/** rounds x packet sizes x (yardsticks, then each policy), all through two processes that are warm. */
async function measureRounds(ends, plan, progress) {
  for (const packetBytes of PACKETS)
    await ends.connect(String(packetBytes), attributesOf({ ...plan, packetBytes }));
  // Thrown away: code compiled, pages of both processes and of the sockets touched.
  await forEach((packetBytes, policy) => transfer(ends, { ...plan, packetBytes, policy }));
  const rounds = [];
  for (let round = 0; round < plan.rounds; round++) {
    for (const packetBytes of PACKETS) {
      progress(`udp: round ${round + 1} of ${plan.rounds}, ${packetBytes} B packets`);
      const yardsticks = blast(packetBytes, plan.blastSeconds);
      // Whoever is far from the yardsticks in one round is near them in another.
      for (const policy of rotated(POLICIES, round)) {
        const result = await transfer(ends, { ...plan, packetBytes, policy });
        rounds.push({ round, yardsticks, ...result });
      }
    }
  }
  return rounds;
}

function isOf(packetBytes, policy) {
  return (one) => one.packetBytes === packetBytes && one.policy === policy;
}

function summarise(rounds, cold, packetBytes, policy) {
  const mine = rounds.filter(isOf(packetBytes, policy));
  const first = cold.find(isOf(packetBytes, policy));
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
    chunksRecovered: over((one) => one.chunksRecovered),
    fallbacks: over((one) => one.fallbacks),
    nacks: over((one) => one.nacks),
    timeouts: over((one) => one.timeouts),
    controlFrames: over((one) => one.controlFrames),
    duplicatePackets: over((one) => one.duplicatePackets),
    senderCpuSecondsPerGiB: over((one) => one.senderCpuSecondsPerGiB),
    receiverCpuSecondsPerGiB: over((one) => one.receiverCpuSecondsPerGiB),
    senderPeakMiBPerGiB: first.senderPeakMiBPerGiB,
    receiverPeakMiBPerGiB: first.receiverPeakMiBPerGiB,
  };
}

export async function measureUdp({ quick, progress }) {
  const plan = quick ? QUICK : FULL;
  const cold = await measureCold(plan, progress);
  const ends = await Ends.open(plan);
  try {
    const rounds = await measureRounds(ends, plan, progress);
    const results = PACKETS.flatMap((packetBytes) =>
      POLICIES.map((policy) => summarise(rounds, cold, packetBytes, policy)),
    );
    const requirements = PACKETS.flatMap((packetBytes) =>
      REQUIRED.map(({ policy, ratio, of, least }) => ({
        name: `udp: goodput of ${policy} over ${of}, ${packetBytes} B packets`,
        least,
        measured: results.find(isOf(packetBytes, policy))[ratio].median,
      })),
    );
    const { capabilities, sha256 } = ends;
    return { ...plan, capabilities, sha256, cold, rounds, results, requirements };
  } finally {
    await ends.close();
  }
}

function goodputTable(results) {
  return renderTable(
    [
      { title: "UDP loopback\npolicy", align: "left", cell: (row) => row.policy },
      { title: "packet\nB", cell: (row) => String(row.packetBytes) },
      { title: "goodput Gbit/s\nmedian (range)", cell: (row) => spreadText(row.goodputGbps) },
      { title: "raw UDP\nGbit/s", cell: (row) => spreadText(row.rawGbps) },
      { title: "TCP\nGbit/s", cell: (row) => spreadText(row.tcpGbps) },
      { title: "of\nraw", cell: (row) => row.ratioToRaw.median.toFixed(2) },
      { title: "of\nTCP", cell: (row) => row.ratioToTcp.median.toFixed(2) },
      { title: "of the\nengine", cell: (row) => row.ratioToEngine.median.toFixed(2) },
      { title: "chunks\nsent again", cell: (row) => spreadText(row.chunksRetransmitted, 0) },
      { title: "chunks\nrecovered", cell: (row) => spreadText(row.chunksRecovered, 0) },
    ],
    results,
  );
}

/** What a GiB costs, all policies side by side. */
function costTable(results) {
  const mebibytes = (value) => (value === undefined ? "-" : value.toFixed(0));
  return renderTable(
    [
      { title: "what a GiB costs\npolicy", align: "left", cell: (row) => row.policy },
      { title: "packet\nB", cell: (row) => String(row.packetBytes) },
      { title: "CPU s\nsender", cell: (row) => spreadText(row.senderCpuSecondsPerGiB, 2) },
      { title: "CPU s\nreceiver", cell: (row) => spreadText(row.receiverCpuSecondsPerGiB, 2) },
      { title: "peak MiB\nsender", cell: (row) => mebibytes(row.senderPeakMiBPerGiB) },
      { title: "peak MiB\nreceiver", cell: (row) => mebibytes(row.receiverPeakMiBPerGiB) },
    ],
    results,
  );
}

export function udpTables({ results, bytes, messages, rounds }) {
  const repeats = rounds.length / results.length;
  return [
    goodputTable(results),
    `${bytes / 2 ** 20} MiB as ${messages} messages at once, ${repeats} rounds, two processes, SHA-256 checked; `,
    "ratios are medians of each round's\n\n",
    costTable(results),
    "CPU time is that of all threads of an end's process. Memory is how far a process rises in its first transfer\n",
    "above where it stood with its buffer in place: the user's buffers are not counted, all else that a transfer\n",
    "takes is\n",
  ].join("");
}
