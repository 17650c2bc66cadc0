/** Heat maps over message size and loss: one small map per policy, the value in each cell, one colour scale for all. */
import { formatTime } from "../base/units.ts";
import {
  BYTES,
  type Chart,
  type Dimension,
  describe,
  formatDifference,
  formatRatio,
  type JsonObject,
  type PolicyLook,
  pickFilter,
  pickParameter,
  valuesOf,
} from "./charts-format.ts";
import { pickLabel, picksOf, settingText } from "./charts-lines.ts";
import type { ResultRow } from "./row.ts";

/**
 * Where colours change, of times over a reference: the same in every report. The first steps are those that the
 * best policies are measured by, the last ones what the published schemes reach.
 */
export const HEAT_STEPS: readonly number[] = [1.03, 1.1, 1.25, 1.5, 2, 3, 5, 10];
const CELL = { width: 38, height: 23 };
/** Names of rows, titles and the space beside a map. */
const FRAME_PIXELS = 84;
const COLOURS = Array.from({ length: HEAT_STEPS.length + 1 }, (_, i) => `var(--heat-${i})`);

export interface HeatOptions {
  readonly id: string;
  /** Of rows: chunk loss or packet loss. */
  readonly loss: Dimension;
  readonly others: readonly Dimension[];
  readonly policies: readonly PolicyLook[];
  readonly statistic: "mean" | "p99.9";
  readonly over: "ideal" | "bound";
}

function titleOf({ statistic, over }: HeatOptions): string {
  const what = statistic === "mean" ? "Mean" : "p99.9";
  return over === "ideal"
    ? `${what} slowdown over size and loss`
    : `${what} over the bound, over size and loss`;
}

function textOf({ statistic, over, loss }: HeatOptions): string {
  const what = statistic === "mean" ? "The mean" : "The 99.9th percentile";
  const divisor =
    over === "ideal"
      ? "divided by the time without any loss (injection and one round trip): 1.00 is as if nothing were lost"
      : "above the bound (injection at the erasure channel's capacity, and one round trip), in percent: 0 is perfect";
  return (
    `${what} of the completion time ${divisor}. One map per policy, message size to the right, ` +
    `${loss.title} upwards; ` +
    "the colours mean the same in all maps."
  );
}

function cellOf(row: ResultRow, { statistic, over, loss, others }: HeatOptions): JsonObject {
  const ns = statistic === "mean" ? row.meanNs : row.p999Ns;
  const ratio = ns / (over === "ideal" ? row.idealNs : row.boundNs);
  const shown = over === "ideal" ? formatRatio(ratio) : percentCell(ratio - 1);
  const step = HEAT_STEPS.filter((least) => ratio >= least).length;
  return {
    ...{ policy: row.policy, size: BYTES.label(row), loss: loss.label(row) },
    ...{ pick: describe(row, others), class: classNames(over)[step]!, t: shown },
    ink: `var(--heat-ink-${step})`,
    told: `${formatTime(ns)}, ${over === "ideal" ? `${formatRatio(ratio)}×` : formatDifference(ratio - 1)}`,
  };
}

/** The classes of colour, in words, in order. */
function classNames(over: HeatOptions["over"]): string[] {
  const word = (step: number) =>
    over === "ideal" ? String(step) : `${Number(((step - 1) * 100).toPrecision(3))} %`;
  return [
    `under ${word(HEAT_STEPS[0]!)}`,
    ...HEAT_STEPS.slice(1).map((step, index) => `${word(HEAT_STEPS[index]!)} – ${word(step)}`),
    `${word(HEAT_STEPS.at(-1)!)} and more`,
  ];
}

/** At most four characters, without the sign that nearly all would have. */
function percentCell(share: number): string {
  const percent = share * 100;
  if (Math.abs(percent) < 9.95) return (Math.abs(percent) < 0.05 ? 0 : percent).toFixed(1);
  return percent < 9999 ? percent.toFixed(0) : percent.toExponential(0).replace("+", "");
}

function legendTitle({ statistic, over }: HeatOptions): string {
  return `${statistic} completion time over the ${over === "ideal" ? "lossless ideal (ratio)" : "bound"}`;
}

export function heatChart(rows: readonly ResultRow[], options: HeatOptions): Chart {
  const { id, loss, others, policies, statistic } = options;
  const { picks, chosen } = picksOf(rows, others);
  const byValue = (dim: Dimension) => (a: ResultRow, b: ResultRow) =>
    Number(dim.value(a)) - Number(dim.value(b));
  const labels = (dim: Dimension) => [
    ...new Set([...rows].sort(byValue(dim)).map((row) => dim.label(row))),
  ];
  const sizes = labels(BYTES);
  const losses = labels(loss).reverse();
  const values = rows.map((row) => cellOf(row, options));
  const [width, height] = [sizes.length * CELL.width, losses.length * CELL.height];
  const classes = classNames(options.over);
  const legend = {
    ...{ title: legendTitle(options), orient: "top", titleLimit: 500, symbolType: "square" },
    ...{ symbolSize: 220, symbolStrokeWidth: 0, columns: classes.length, columnPadding: 10 },
  };
  const color = {
    ...{ field: "class", type: "nominal", legend, scale: { domain: classes, range: COLOURS } },
  };
  const ink = { field: "ink", type: "nominal", scale: null };
  const tip = [
    ...[{ field: "policy" }, { field: "size", title: "message size" }],
    ...[
      { field: "loss", title: loss.title },
      { field: "told", title: statistic },
    ],
  ];
  const axes = {
    x: {
      ...{ field: "size", type: "ordinal", sort: sizes, title: "message size" },
      axis: { labelAngle: 0, labelExpr: "split(datum.label, ' ')", labelOverlap: false },
    },
    y: { field: "loss", type: "ordinal", sort: losses, title: loss.name },
  };
  return {
    id,
    title: titleOf(options),
    text: `${textOf(options)}${settingText(picks, others)}`,
    panelPixels: width + FRAME_PIXELS,
    spec: {
      data: { values: values.filter(({ pick }) => picks.includes(String(pick))) },
      params: pickParameter(picks, chosen, pickLabel(others)),
      transform: pickFilter(picks),
      facet: {
        field: "policy",
        type: "nominal",
        title: null,
        sort: policies.map(({ name }) => name),
      },
      columns: Math.max(1, Math.floor(1010 / (width + FRAME_PIXELS))),
      spec: {
        ...{ width, height, encoding: axes },
        layer: [
          { mark: { type: "rect", strokeWidth: 1 }, encoding: { color, tooltip: tip } },
          {
            mark: { type: "text", fontSize: 10.5, interactive: false },
            encoding: { text: { field: "t", type: "nominal" }, fill: ink },
          },
        ],
      },
      resolve: { axis: { x: "independent", y: "independent" } },
    },
  };
}

/** Whether there is an area to map: two sizes and two losses at least. */
export function isGrid(rows: readonly ResultRow[], loss: Dimension): boolean {
  return valuesOf(rows, BYTES).length > 1 && valuesOf(rows, loss).length > 1;
}
