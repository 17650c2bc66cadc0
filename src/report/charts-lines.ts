/** Policies compared along one quantity: time over the bound, wire overhead, gain over a baseline. */
import { formatTime } from "../base/units.ts";
import {
  axisOf,
  type Chart,
  type Dimension,
  describe,
  formatDifference,
  formatRatio,
  type JsonObject,
  type PolicyLook,
  percentAxis,
  pickFilter,
  pickParameter,
  policyChannels,
  valuesOf,
} from "./charts-format.ts";
import type { ResultRow } from "./row.ts";

/** Settings one chart offers to choose from; the first of more are kept. */
export const PICKS_MAX = 200;
export const PANEL = { width: 400, height: 260 };
/** Of the plot of a chart of one panel. */
export const WIDE_PIXELS = 880;
/** Of a panel with its axis, labels and the space beside it. */
export const PANEL_PIXELS = 485;

export interface LinesOptions {
  readonly id: string;
  /** Along which the lines run. */
  readonly along: Dimension;
  /** What else varies among the rows: the reader picks one combination. */
  readonly others: readonly Dimension[];
  readonly policies: readonly PolicyLook[];
}

/**
 * The combinations of what varies besides, in words and in order, and the one to show first: where the middle one of
 * the policies is furthest from the best (the worst is far away everywhere).
 */
export function picksOf(
  rows: readonly ResultRow[],
  others: readonly Dimension[],
): { readonly picks: string[]; readonly chosen: string } {
  const sorted = [...rows].sort((a, b) => {
    for (const dim of others) {
      const [x, y] = [dim.value(a), dim.value(b)];
      if (x !== y) return x < y ? -1 : 1;
    }
    return 0;
  });
  const slowdowns = new Map<string, number[]>();
  for (const row of sorted) {
    const pick = describe(row, others);
    const known = slowdowns.get(pick);
    if (known !== undefined) known.push(row.p999Ns / row.boundNs);
    else if (slowdowns.size < PICKS_MAX) slowdowns.set(pick, [row.p999Ns / row.boundNs]);
  }
  const picks = [...slowdowns.keys()];
  const spread = (pick: string) => {
    const ratios = slowdowns.get(pick)!.sort((a, b) => a - b);
    return ratios[Math.floor(ratios.length / 2)]! / Math.max(ratios[0]!, Number.MIN_VALUE);
  };
  const chosen = picks.reduce((a, b) => (spread(b) > spread(a) ? b : a), picks[0] ?? "");
  return { picks, chosen };
}

export function pickLabel(others: readonly Dimension[]): string {
  return others.map(({ name }) => name).join(", ");
}

/** "At 128 MiB." of a chart that shows one setting only. */
export function settingText(picks: readonly string[], others: readonly Dimension[]): string {
  if (picks.length === 1) return picks[0] === "" ? "" : ` Here: ${picks[0]}.`;
  return ` Choose above the picture: ${pickLabel(others)}.`;
}

const STATISTICS = ["mean, with its 95 % confidence band", "p99.9"] as const;

interface Point {
  readonly [name: string]: string | number;
}

function overBoundPoints(row: ResultRow, { along, others }: LinesOptions): Point[] {
  const percent = (ns: number) => Number(((ns / row.boundNs - 1) * 100).toPrecision(5));
  const shared = {
    ...{ policy: row.policy, x: along.value(row), at: along.label(row) },
    pick: describe(row, others),
  };
  const [mean, p999] = STATISTICS;
  const ci = row.meanCi95Ns;
  return [
    {
      ...{ ...shared, stat: mean, y: percent(row.meanNs) },
      ...{ low: percent(row.meanNs - ci), high: percent(row.meanNs + ci) },
      told: `${formatTime(row.meanNs)} ± ${formatTime(ci, 2)}`,
    },
    {
      ...{ ...shared, stat: p999, y: percent(row.p999Ns), told: formatTime(row.p999Ns) },
      ...{ low: percent(row.p999Ns), high: percent(row.p999Ns) },
    },
  ];
}

const OVER_TIP = [
  { field: "policy", title: "policy" },
  { field: "at", title: "at" },
  { field: "told", title: "completion time" },
  { field: "y", title: "over the bound, %", type: "quantitative", format: ".3~f" },
];

type Channels = ReturnType<typeof policyChannels>;

/** Layers of a panel: band of confidence, line, points. */
function panelLayers(
  x: JsonObject,
  y: JsonObject,
  channels: Channels,
  tip: JsonObject[],
): JsonObject {
  const { color, shape } = channels;
  const band = { y: { ...y, field: "low" }, y2: { field: "high" } };
  return {
    ...PANEL,
    encoding: { x, color },
    layer: [
      { mark: { type: "area", opacity: 0.2, line: false }, encoding: band },
      { mark: { type: "line", strokeWidth: 1.5 }, encoding: { y } },
      {
        mark: { type: "point", filled: true, size: 42, opacity: 1 },
        encoding: { y, shape, tooltip: tip },
      },
    ],
  };
}

const INDEPENDENT_AXES = { axis: { x: "independent", y: "independent" } };

function numbersOf(rows: readonly ResultRow[], along: Dimension): number[] {
  return valuesOf(rows, along).map(Number);
}

/** Mean (with its confidence band) and p99.9 over the erasure channel's bound, in percent. */
export function overBoundChart(rows: readonly ResultRow[], options: LinesOptions): Chart {
  const { id, along, others, policies } = options;
  const { picks, chosen } = picksOf(rows, others);
  const values = rows.flatMap((row) => overBoundPoints(row, options));
  const kept = values.filter(({ pick }) => picks.includes(String(pick)));
  const percents = kept.flatMap(({ low, high }) => [Number(low), Number(high)]);
  const y = percentAxis("time over the bound (%)", "y", percents);
  const x = axisOf(along, numbersOf(rows, along));
  const channels = policyChannels(policies, 2 * PANEL_PIXELS);
  return {
    id,
    title: `Completion time over the bound, by ${along.title}`,
    text:
      "How much longer than the bound (injection at the erasure channel's capacity, and one round trip) a message " +
      "takes from its first packet to its sender's knowing that all has arrived, in percent: 0 is perfect, 100 is " +
      `twice the bound. Lower is better; the axis is linear up to about 1 % and logarithmic beyond.` +
      settingText(picks, others),
    ...{ panelPixels: PANEL_PIXELS, elastic: true },
    spec: {
      data: { values: kept },
      params: pickParameter(picks, chosen, pickLabel(others)),
      transform: pickFilter(picks),
      facet: { field: "stat", type: "nominal", title: null, sort: [...STATISTICS] },
      columns: 2,
      spec: panelLayers(x, y, channels, OVER_TIP),
      resolve: INDEPENDENT_AXES,
    },
  };
}

/** Bytes on the wire beyond the message's own, in percent. */
export function overheadChart(rows: readonly ResultRow[], options: LinesOptions): Chart {
  const { id, along, others, policies } = options;
  const { picks, chosen } = picksOf(rows, others);
  const values = rows
    .map((row) => {
      const y = Number((row.wireOverhead * 100).toPrecision(5));
      const told = formatDifference(row.wireOverhead);
      const x = along.value(row);
      return { policy: row.policy, x, at: along.label(row), pick: describe(row, others), y, told };
    })
    .filter(({ pick }) => picks.includes(pick));
  const y = percentAxis(
    "wire overhead (%)",
    "y",
    values.map((value) => value.y),
  );
  const { color, shape } = policyChannels(policies, WIDE_PIXELS + 80);
  const tip = [
    ...[{ field: "policy" }, { field: "at" }],
    { field: "told", title: "wire overhead" },
  ];
  return {
    id,
    title: `Wire overhead, by ${along.title}`,
    text:
      "Bytes on the wire (headers, parity, retransmissions, control) beyond the message's own, in percent of the " +
      `message. Lower is better.${settingText(picks, others)}`,
    ...{ panelPixels: WIDE_PIXELS + 80, elastic: true },
    spec: {
      data: { values },
      params: pickParameter(picks, chosen, pickLabel(others)),
      transform: pickFilter(picks),
      ...{ width: WIDE_PIXELS, height: 240 },
      encoding: { x: axisOf(along, numbersOf(rows, along)), y, color },
      layer: [
        { mark: { type: "line", strokeWidth: 1.5 } },
        {
          mark: { type: "point", filled: true, size: 42, opacity: 1 },
          encoding: { shape, tooltip: tip },
        },
      ],
    },
  };
}

const GAIN_STATISTICS = ["mean", "p99.9"] as const;

/** How many times sooner than under `baseline` an operation ends; undefined without that policy. */
export function gainChart(
  rows: readonly ResultRow[],
  options: LinesOptions,
  baseline: string,
): Chart | undefined {
  const { id, along, others, policies } = options;
  const { picks, chosen } = picksOf(rows, others);
  const cell = (row: ResultRow) => describe(row, [along, ...others]);
  const bases = new Map(
    rows.filter(({ policy }) => policy === baseline).map((row) => [cell(row), row]),
  );
  const values = rows.flatMap((row) => {
    const base = bases.get(cell(row));
    const pick = describe(row, others);
    if (base === undefined || !picks.includes(pick)) return [];
    const shared = { policy: row.policy, x: along.value(row), at: along.label(row), pick };
    const gains = [base.meanNs / row.meanNs, base.p999Ns / row.p999Ns];
    return gains.map((gain, index) => {
      const y = Number(gain.toPrecision(4));
      return {
        ...shared,
        stat: GAIN_STATISTICS[index]!,
        y,
        low: y,
        high: y,
        told: formatRatio(gain),
      };
    });
  });
  if (values.length === 0) return undefined;
  const gains = values.map(({ y }) => y);
  const domain = [Math.min(0.9, ...gains) * 0.95, Math.max(1.1, ...gains) * 1.08];
  const y = {
    ...{ field: "y", type: "quantitative" },
    axis: { title: `times faster than ${baseline}`, format: "~g", labelOverlap: "greedy" },
    scale: { type: "log", domain, nice: false },
  };
  const tip = [
    ...[{ field: "policy" }, { field: "at" }],
    { field: "told", title: `times faster than ${baseline}` },
  ];
  const channels = policyChannels(policies, 2 * PANEL_PIXELS);
  return {
    id,
    title: `Gain over ${baseline}, by ${along.title}`,
    text:
      `Completion time under ${baseline} over the policy's own, of means and of 99.9th percentiles: 1 is as fast as ` +
      `${baseline}, higher is better. Logarithmic axis.${settingText(picks, others)}`,
    ...{ panelPixels: PANEL_PIXELS, elastic: true },
    spec: {
      data: { values },
      params: pickParameter(picks, chosen, pickLabel(others)),
      transform: pickFilter(picks),
      facet: { field: "stat", type: "nominal", title: null, sort: [...GAIN_STATISTICS] },
      columns: 2,
      spec: panelLayers(axisOf(along, numbersOf(rows, along)), y, channels, tip),
      resolve: INDEPENDENT_AXES,
    },
  };
}
