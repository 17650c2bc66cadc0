/** A cell's row of results, from its messages' numbers or from a prediction. Carries no wall-clock time. */
import { Random } from "../../base/random.ts";
import { mean, percentileSorted, summarize } from "../../base/statistics.ts";
import { formatLink, type LinkProfile } from "../../link/profile.ts";
import { boundNs, idealNs } from "../../model/bounds.ts";
import { sampleCollective } from "../../model/collectives.ts";
import { chunkLoss } from "../../model/loss.ts";
import { settingOf } from "../../model/setting.ts";
import type { Prediction, Setting } from "../../model/types.ts";
import {
  type Method,
  type PhaseResult,
  QUANTILE_LEVELS,
  type ResultRow,
} from "../../report/row.ts";
import { collectiveOf } from "../emulate/task.ts";
import { COLUMN, COLUMNS, messagesOf, phasesOf } from "../emulate/trial.ts";
import { type Cell, cellKey } from "./cell.ts";

/** What all rows of a run say. */
export interface RowOrigin {
  readonly version: string;
  readonly experiment: string;
}

const TIMES = [
  ...(["meanNs", "meanCi95Ns", "p50Ns", "p99Ns", "p999Ns", "minNs", "maxNs"] as const),
  "quantilesNs",
] as const;
type Times = Pick<ResultRow, (typeof TIMES)[number]>;
type Outcome = Times & Pick<ResultRow, "method" | "exact" | "wireOverhead" | "failed">;
type Lines = Pick<ResultRow, "idealNs" | "boundNs">;

/** The model's words for a cell's message over two links. Errors: INVALID_ARGUMENT for links that deliver nothing. */
export function modelSetting(
  cell: Cell,
  links: { readonly forward: LinkProfile; readonly reverse: LinkProfile } = cell,
): Setting {
  return settingOf(links.forward, links.reverse, cell);
}

const METHOD_OF = { model: "analytic", sampled: "sampled", emulated: "emulated", udp: "measured" };

function rowOf(cell: Cell, origin: RowOrigin, lines: Lines, outcome: Outcome): ResultRow {
  const setting = modelSetting(cell);
  const { probability, burstPackets = 1 / (1 - probability) } = setting.loss;
  const { method, exact, failed, wireOverhead, ...times } = outcome;
  const { trials, seed, warmup, messages, collective, transport } = cell;
  return {
    ...origin,
    key: cellKey(cell),
    transport: transport === "sampled" ? "model" : transport,
    method,
    exact,
    policy: cell.policy,
    link: formatLink(cell.forward),
    reverseLink: formatLink(cell.reverse),
    rateBps: setting.rateBps,
    rttNs: setting.rttNs,
    packetLoss: probability,
    chunkLoss: chunkLoss(setting),
    burstPackets,
    bytes: cell.bytes,
    packetBytes: cell.packetBytes,
    chunkBytes: cell.chunkBytes,
    trials,
    seed,
    warmup,
    ...(messagesOf(cell) === 1 ? {} : { messages: cell.phases ? messagesOf(cell) : messages }),
    ...(collective && { collective: collective.kind, datacenters: collective.datacenters }),
    ...lines,
    ...times,
    wireOverhead,
    failed,
  };
}

function timesOf(samples: readonly number[]): Times {
  if (samples.length === 0) {
    const none = Object.fromEntries(TIMES.map((name) => [name, Number.NaN])) as unknown as Times;
    return { ...none, quantilesNs: [] };
  }
  const ascending = Float64Array.from(samples).sort();
  const { mean, ci95, p50, p99, p999, min, max } = summarize(ascending);
  return {
    ...{ meanNs: mean, meanCi95Ns: ci95, p50Ns: p50, p99Ns: p99, p999Ns: p999 },
    ...{ minNs: min, maxNs: max },
    quantilesNs: QUANTILE_LEVELS.map((level) => percentileSorted(ascending, 100 * level)),
  };
}

/** Numbers of the messages that were delivered. */
class Delivered {
  readonly timesNs: number[] = [];
  readonly wireBytes: number[] = [];

  add(rows: Float64Array, at: number): void {
    if (rows[at + COLUMN.failure] !== 0) return;
    this.timesNs.push(rows[at + COLUMN.completionNs] as number);
    this.wireBytes.push(rows[at + COLUMN.wireBytes] as number);
  }

  overhead(bytes: number): number {
    return this.wireBytes.length === 0 ? 0 : mean(this.wireBytes) / bytes - 1;
  }
}

function linesOf(setting: Setting): Lines {
  return { idealNs: idealNs(setting), boundNs: boundNs(setting) };
}

/** Of all messages together, each over its own links; of a collective operation, the whole of it. */
function meanLines(cell: Cell): Lines {
  if (cell.collective !== undefined) {
    const { options } = collectiveOf({ setting: cell, policy: "bound" }, cell.collective);
    const bound = sampleCollective({ kind: "bound" }, options, new Random(0), 1);
    return { idealNs: bound.idealNs, boundNs: bound.summary.mean };
  }
  const phases = phasesOf(cell);
  const lines = phases.map((phase) => linesOf(modelSetting(cell, phase)));
  if (lines.length === 1) return lines[0] as Lines;
  const share = (index: number) => (phases[index]?.messages ?? 0) / messagesOf(cell);
  return {
    idealNs: lines.reduce((sum, line, i) => sum + line.idealNs * share(i), 0),
    boundNs: lines.reduce((sum, line, i) => sum + line.boundNs * share(i), 0),
  };
}

function phaseResults(cell: Cell, rows: Float64Array): PhaseResult[] {
  const perTrial = messagesOf(cell);
  let first = 0;
  return phasesOf(cell).map((phase) => {
    const delivered = new Delivered();
    for (let trial = 0; trial < cell.trials; trial++) {
      for (let i = 0; i < phase.messages; i++) {
        delivered.add(rows, (trial * perTrial + first + i) * COLUMNS);
      }
    }
    first += phase.messages;
    const { meanNs, p99Ns, p999Ns } = timesOf(delivered.timesNs);
    return {
      link: formatLink(phase.forward),
      reverseLink: formatLink(phase.reverse),
      messages: phase.messages,
      ...linesOf(modelSetting(cell, phase)),
      ...{ meanNs, p99Ns, p999Ns, totalNs: meanNs * phase.messages },
      wireOverhead: delivered.overhead(cell.bytes),
    };
  });
}

/** The row of a cell whose messages were sent, or drawn: `rows` are its trials' numbers (COLUMN), in order. */
export function sentRow(cell: Cell, origin: RowOrigin, rows: Float64Array): ResultRow {
  const delivered = new Delivered();
  const size = messagesOf(cell) * COLUMNS;
  let failed = 0;
  for (let at = 0; at < rows.length; at += COLUMNS) delivered.add(rows, at);
  // A connection's last message failed if any did.
  for (let end = size; end <= rows.length; end += size) {
    if (rows[end - COLUMNS + COLUMN.failure] !== 0) failed++;
  }
  const row = rowOf(cell, origin, meanLines(cell), {
    method: METHOD_OF[cell.transport] as Method,
    exact: cell.transport !== "sampled",
    ...timesOf(delivered.timesNs),
    wireOverhead: delivered.overhead(cell.bytes),
    failed,
  });
  if (cell.phases === undefined) return row;
  const phases = phaseResults(cell, rows);
  return { ...row, phases, totalNs: phases.reduce((sum, { totalNs }) => sum + totalNs, 0) };
}

/** The model's quantiles of nothing and of all would be those of its assumptions: the next ones stand for them. */
const LEVEL_LEAST = 0.001;
const LEVEL_MOST = 0.999;

/** What a prediction of one message says of it. */
export function predictedRow(cell: Cell, origin: RowOrigin, prediction: Prediction): ResultRow {
  const lines = linesOf(modelSetting(cell));
  const within = (level: number) => Math.min(LEVEL_MOST, Math.max(LEVEL_LEAST, level));
  const quantilesNs = QUANTILE_LEVELS.map((level) => prediction.quantileNs(within(level)));
  const at = (level: number) => quantilesNs[QUANTILE_LEVELS.indexOf(level)] as number;
  return rowOf(cell, origin, lines, {
    method: METHOD_OF[cell.transport] as Method,
    exact: prediction.exact,
    ...{
      meanNs: prediction.meanNs,
      meanCi95Ns: 0,
      p50Ns: at(0.5),
      p99Ns: at(0.99),
      p999Ns: at(0.999),
    },
    ...{ minNs: at(0), maxNs: at(1), quantilesNs },
    wireOverhead: prediction.wireOverhead,
    failed: 0,
  });
}
