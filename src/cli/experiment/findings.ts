/** What the rows of `sdr figures` say about what the paper found, beside what it says itself (its section 5). */
import { formatProbability, formatSize } from "../../base/units.ts";
import type { ResultRow } from "../../report/row.ts";

export interface Finding {
  readonly figure: string;
  readonly what: string;
  readonly paper: string;
  readonly here: string;
}

const meanSlowdown = (row: ResultRow) => row.meanNs / row.idealNs;
const tailSlowdown = (row: ResultRow) => row.p999Ns / row.idealNs;
const times = (value: number) => `${value.toFixed(value < 10 ? 2 : 1)}x`;
const percent = (share: number) => `${(share * 100).toFixed(share < 0.001 ? 3 : 1)} %`;

function most<T>(items: readonly T[], value: (item: T) => number): T {
  return items.reduce((best, item) => (value(item) > value(best) ? item : best), items[0] as T);
}

/** Rows of one policy, and of another in the same cells. */
function pairs(
  rows: readonly ResultRow[],
  one: string,
  other: string,
): { readonly row: ResultRow; readonly beside: ResultRow }[] {
  const cell = (row: ResultRow) =>
    JSON.stringify([row.method, row.link, row.bytes, row.packetBytes, row.datacenters]);
  const others = new Map(
    rows.filter(({ policy }) => policy === other).map((row) => [cell(row), row]),
  );
  return rows
    .filter(({ policy }) => policy === one)
    .flatMap((row) => {
      const beside = others.get(cell(row));
      return beside === undefined ? [] : [{ row, beside }];
    });
}

/** Messages longer than a timeout hide some of their repairs: their peak is elsewhere. */
const HIDDEN_LOSS = 1e-4;
/** The paper's greatest values are those of about the second. */
const PEAK_LOSSES = [1e-2, 3e-2, 1e-1];

function peaks(rows: readonly ResultRow[], what: string): Finding[] {
  const mine = rows.filter(({ policy }) => policy === "sr-rto");
  const greatest = (slowdown: (row: ResultRow) => number) =>
    PEAK_LOSSES.map((loss) => {
      const row = most(
        mine.filter(({ chunkLoss }) => chunkLoss < 1.01 * loss),
        slowdown,
      );
      return `${times(slowdown(row))} up to ${formatProbability(loss)} (${formatSize(row.bytes)})`;
    }).join(", ");
  const losses = [...new Set(mine.map(({ chunkLoss }) => chunkLoss))];
  const shown = losses.filter((loss) => loss > 0.99 * HIDDEN_LOSS && loss < 1.01 * 1e-2);
  const tops = shown.map((loss) => {
    const { bytes, chunkBytes } = most(
      mine.filter((row) => row.chunkLoss === loss),
      meanSlowdown,
    );
    return `${((bytes / chunkBytes) * loss).toPrecision(2)} at ${formatProbability(loss)}`;
  });
  const finding = (text: string, paper: string, here: string): Finding => {
    return { figure: "3a", what: `sr-rto, ${what}: ${text}`, paper, here };
  };
  return [
    finding("greatest mean slowdown", "6.5x", greatest(meanSlowdown)),
    finding("greatest at p99.9", "12.2x", greatest(tailSlowdown)),
    finding("the mean's peak, in chunks times P", "about 1", tops.join(", ")),
  ];
}

function repairByRequest(rows: readonly ResultRow[]): Finding {
  const ratios = pairs(rows, "sr-rto", "sr-nack");
  const mean = Math.max(...ratios.map(({ row, beside }) => row.meanNs / beside.meanNs));
  const tail = Math.max(...ratios.map(({ row, beside }) => row.p999Ns / beside.p999Ns));
  const here = `${times(mean)} mean, ${times(tail)} p99.9`;
  return { figure: "3a", what: "sr-nack over sr-rto, at most", paper: "4x, mean and tail", here };
}

/** A code has left another one when it takes so much longer. */
const APART = 1.05;

function xorLeaves(rows: readonly ResultRow[], tail: boolean): Finding {
  const nsOf = (row: ResultRow) => (tail ? row.p999Ns : row.meanNs);
  const ratio = pairs(rows, "ec-xor(32,8)", "ec-mds(32,8)");
  const apart = ratio.filter(({ row, beside }) => nsOf(row) > APART * nsOf(beside));
  const least = Math.min(...apart.map(({ row }) => row.chunkLoss));
  return {
    figure: "10b",
    what: `XOR takes ${percent(APART - 1)} longer than Reed-Solomon ${tail ? "at p99.9" : "in mean"}, from`,
    paper: "about 1e-3",
    here: apart.length === 0 ? "never" : formatProbability(least),
  };
}

/** The size from which on repeating is faster than coding, at each loss. */
function codingEnds(rows: readonly ResultRow[], policy: string): Finding {
  const ends = CODING_LOSSES.map((loss) => {
    const near = pairs(rows, "ec-mds(32,8)", policy).filter(
      ({ row }) => Math.abs(row.chunkLoss / loss - 1) < 0.01,
    );
    const won = near.filter(({ row, beside }) => row.meanNs <= beside.meanNs);
    const last = Math.max(0, ...won.map(({ row }) => row.bytes));
    const beyond = near.map(({ row }) => row.bytes).filter((bytes) => bytes > last);
    const from =
      beyond.length === 0 ? `beyond ${formatSize(last)}` : formatSize(Math.min(...beyond));
    return `${from} at ${formatProbability(loss)}`;
  });
  const what = `${policy} is faster than ec-mds(32,8) in mean, from`;
  return { figure: "9", what, paper: "about 1 GiB at 25 ms", here: ends.join(", ") };
}

const CODING_LOSSES = [1e-6, 1e-5, 1e-4];

function allreduceGain(rows: readonly ResultRow[], policy: string): Finding {
  const gains = pairs(rows, "sr-rto", policy).map(({ row, beside }) => row.p999Ns / beside.p999Ns);
  const here = `${times(Math.min(...gains))} to ${times(Math.max(...gains))}`;
  const paper = policy === "hybrid" ? "-" : "3x to more than 6x";
  return { figure: "13", what: `ring Allreduce at p99.9: ${policy} over sr-rto`, paper, here };
}

/** How far a policy is from the erasure channel's limit where chunk loss is at most so much. */
function overBound(rows: readonly ResultRow[], policy: string, lossMost: number): Finding {
  const mine = rows.filter((row) => row.policy === policy && row.chunkLoss < 1.01 * lossMost);
  const mean = most(mine, (row) => row.meanNs / row.boundNs);
  const tail = most(mine, (row) => row.p999Ns / row.boundNs);
  const over = (ns: number, row: ResultRow) => percent(ns / row.boundNs - 1);
  return {
    figure: "9",
    what: `${policy}: over the bound, at most, up to ${formatProbability(lossMost)}`,
    paper: "-",
    here: `${over(mean.meanNs, mean)} mean, ${over(tail.p999Ns, tail)} p99.9`,
  };
}

/** Means that are this close are the same, whatever chance they leave. */
const SAME_MEAN = 0.01;

/** The model against the emulator, cell by cell. */
function modelAgrees(rows: readonly ResultRow[], method: ResultRow["method"]): Finding {
  const cell = (row: ResultRow) => JSON.stringify([row.policy, row.link, row.bytes]);
  const emulated = rows.filter((row) => row.method === "emulated");
  const sent = new Map(emulated.map((row) => [cell(row), row]));
  const mine = rows.filter((row) => row.method === method);
  const agree = mine.filter((row) => {
    const beside = sent.get(cell(row)) as ResultRow;
    const chanceNs = Math.hypot(beside.meanCi95Ns, row.meanCi95Ns);
    return Math.abs(row.meanNs - beside.meanNs) <= Math.max(chanceNs, SAME_MEAN * beside.meanNs);
  });
  return {
    figure: "9, 10",
    what: `cells whose ${method} mean is the emulator's within ${percent(SAME_MEAN)} or the 95 % interval`,
    paper: "within 5 %",
    here: `${agree.length} of ${mine.length}`,
  };
}

/** In the order of the figures; those whose rows are not there are left out. */
export function findingsOf(rows: readonly ResultRow[]): Finding[] {
  const of = (name: string) => rows.filter(({ experiment }) => experiment === name);
  const [size, grid, loss, ring] = [of("fig-03a"), of("fig-09"), of("fig-10b"), of("fig-13")];
  const whole = size.filter(({ packetBytes, chunkBytes }) => packetBytes === chunkBytes);
  const kept = size.filter((row) => !whole.includes(row));
  const [checks, learned] = [of("fig-spot-checks"), of("fig-auto")];
  return [
    ...peaks(whole, "chunks lost whole"),
    ...peaks(kept, "packets kept"),
    repairByRequest(whole),
    ...["sr-rto", "sr-nack"].map((policy) => codingEnds(grid, policy)),
    overBound(grid, "hybrid", 1e-2),
    overBound(grid, "hybrid", 1e-1),
    xorLeaves(loss, false),
    xorLeaves(loss, true),
    ...["ec-mds(32,8)", "hybrid"].map((policy) => allreduceGain(ring, policy)),
    ...(checks.length === 0
      ? []
      : [modelAgrees(checks, "analytic"), modelAgrees(checks, "sampled")]),
    ...(learned.length === 0
      ? []
      : [overBound(learned, "auto", 1e-2), overBound(learned, "auto", 1e-1)]),
  ];
}
