/** Distribution functions of completion times, one curve per policy, with room for the tail. */
import { formatProbability, formatTime } from "../base/units.ts";
import {
  type Chart,
  type Dimension,
  describe,
  type JsonObject,
  type PolicyLook,
  pickFilter,
  pickParameter,
  policyChannels,
  TIME_LABEL,
} from "./charts-format.ts";
import { pickLabel, picksOf, settingText, WIDE_PIXELS } from "./charts-lines.ts";
import { QUANTILE_LEVELS, type ResultRow } from "./row.ts";

const PIXELS = { width: WIDE_PIXELS, height: 300 };
/** Shares along the upright axis: each next one halves to tenths what is left, so that the tail can be seen. */
const TICKS = [0, 0.5, 0.9, 0.99, 0.999];

/** The share's height: how many nines it has. 0.9 is 1, 0.99 is 2. */
function nines(level: number): number {
  return -Math.log10(1 - level);
}

function curvePoints(row: ResultRow, pick: string): JsonObject[] {
  return QUANTILE_LEVELS.flatMap((level, index) => {
    // The last level is the slowest trial's: no share is left above it.
    if (level === 1) return [];
    const ns = row.quantilesNs[index]!;
    return [
      { policy: row.policy, pick, t: Math.round(ns), y: Number(nines(level).toFixed(4)), i: index },
    ];
  });
}

function markPoints(row: ResultRow, pick: string): JsonObject[] {
  return [
    { pick, t: Math.round(row.idealNs), name: "ideal" },
    { pick, t: Math.round(row.boundNs), name: "bound" },
  ];
}

export interface DistributionOptions {
  readonly id: string;
  /** All that varies but the policy. */
  readonly others: readonly Dimension[];
  readonly policies: readonly PolicyLook[];
}

const LEVEL_LABEL = TICKS.reduceRight(
  (rest, level) =>
    `abs(datum.value - ${nines(level).toFixed(4)}) < 0.01 ? '${level * 100} %' : ${rest}`,
  "''",
);

const SPARSE = { labelOverlap: "greedy", labelSeparation: 12 };

/** Completion times of a setting's messages as a distribution function, the slowest shares drawn apart. */
export function distributionChart(rows: readonly ResultRow[], options: DistributionOptions): Chart {
  const { id, others, policies } = options;
  const { picks, chosen } = picksOf(rows, others);
  const kept = rows.filter((row) => picks.includes(describe(row, others)));
  const curves = kept.flatMap((row) =>
    curvePoints(row, describe(row, others)).map((point) => ({
      ...point,
      told: formatTime(Number(point.t)),
      share: formatProbability(QUANTILE_LEVELS[Number(point.i)]!, 4),
    })),
  );
  const firsts = new Map(kept.map((row) => [describe(row, others), row]));
  const marks = [...firsts].flatMap(([pick, row]) => markPoints(row, pick));
  const { color } = policyChannels(policies, WIDE_PIXELS);
  const x = {
    ...{ field: "t", type: "quantitative" },
    axis: { title: "completion time (logarithmic)", labelExpr: TIME_LABEL, grid: false, ...SPARSE },
    scale: { type: "log", nice: false, padding: 10 },
  };
  const y = {
    ...{ field: "y", type: "quantitative" },
    axis: {
      ...{ title: "share of messages done", labelExpr: LEVEL_LABEL },
      values: TICKS.map((level) => Number(nines(level).toFixed(4))),
    },
    scale: { domain: [0, 3.05], nice: false },
  };
  const tip = [
    ...[{ field: "policy" }, { field: "share", title: "share done" }],
    { field: "told", title: "within" },
  ];
  const line = { type: "line", strokeWidth: 1.8 };
  const filter = pickFilter(picks);
  return {
    id,
    title: "Distribution of completion times",
    text:
      "The share of messages that are done within a time. The upright axis spreads the slowest: from 90 % to 99 % is " +
      "as high as from 99 % to 99.9 %. Further left is better. Upright lines: the time without any loss (ideal), " +
      `and the erasure channel's limit (bound).${settingText(picks, others)}`,
    ...{ panelPixels: WIDE_PIXELS + 80, elastic: true },
    spec: {
      ...PIXELS,
      params: pickParameter(picks, chosen, pickLabel(others)),
      layer: [
        {
          data: { values: marks },
          transform: filter,
          mark: { type: "rule", strokeDash: [4, 3], stroke: "var(--ink-soft)" },
          encoding: { x, tooltip: [{ field: "name" }] },
        },
        {
          data: { values: curves },
          transform: filter,
          mark: line,
          encoding: { x, y, color, order: { field: "i" } },
        },
        {
          data: { values: curves },
          transform: filter,
          mark: { type: "point", filled: true, size: 26, opacity: 1 },
          encoding: { x, y, color, tooltip: tip },
        },
      ],
    },
  };
}
