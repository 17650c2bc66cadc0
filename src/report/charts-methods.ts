/** The same question answered by model, emulator and UDP: how far the answers are apart. */
import { formatTime } from "../base/units.ts";
import {
  axisOf,
  type Chart,
  type Dimension,
  describe,
  formatDifference,
  type JsonObject,
  methodLabel,
  PERCENT_TICKS,
  type PolicyLook,
  policyChannels,
  valuesOf,
} from "./charts-format.ts";
import { PANEL, PANEL_PIXELS } from "./charts-lines.ts";
import type { Table } from "./html.ts";
import { METHODS, type Method, type ResultRow } from "./row.ts";

/** Differences up to this are agreement. */
export const AGREEMENT = 0.01;
/** What others are compared with, the first that is there. */
const REFERENCES: readonly Method[] = ["emulated", "sampled", "analytic", "measured"];

/** One policy at one setting, by two methods or more. */
export interface MethodCell {
  readonly rows: ReadonlyMap<Method, ResultRow>;
  readonly reference: ResultRow;
}

/** Settings that more than one method has figures of; `dims` are what tells settings apart, methods aside. */
export function methodCells(rows: readonly ResultRow[], dims: readonly Dimension[]): MethodCell[] {
  const cells = new Map<string, Map<Method, ResultRow>>();
  for (const row of rows) {
    const name = JSON.stringify([row.policy, describe(row, dims)]);
    const cell = cells.get(name) ?? new Map<Method, ResultRow>();
    if (!cell.has(row.method)) cell.set(row.method, row);
    cells.set(name, cell);
  }
  return [...cells.values()]
    .filter((cell) => cell.size > 1)
    .map((cell) => {
      const method = REFERENCES.find((name) => cell.has(name))!;
      return { rows: cell, reference: cell.get(method)! };
    });
}

const STATISTICS = ["mean", "p99"] as const;

function timeOf(row: ResultRow, statistic: (typeof STATISTICS)[number]): number {
  return statistic === "mean" ? row.meanNs : row.p99Ns;
}

function difference(row: ResultRow, to: ResultRow, statistic: (typeof STATISTICS)[number]): number {
  return timeOf(row, statistic) / timeOf(to, statistic) - 1;
}

function others(cell: MethodCell): ResultRow[] {
  return [...cell.rows.values()].filter((row) => row !== cell.reference);
}

const LINE_PICKS = 40;

/** Lines of the model and points of what was run, over `along`; at most LINE_PICKS settings of `dims` besides. */
export interface MethodOptions {
  readonly id: string;
  readonly along: Dimension;
  /** Everything that tells settings apart, `along` among them, methods not. */
  readonly dims: readonly Dimension[];
  readonly policies: readonly PolicyLook[];
}

/** How far each method is from the reference, in percent, with the band of agreement. */
export function differenceChart(cells: readonly MethodCell[], options: MethodOptions): Chart {
  const { id, along, dims, policies } = options;
  const values = cells.flatMap((cell) =>
    others(cell).flatMap((row) =>
      STATISTICS.map((stat) => ({
        ...{ policy: row.policy, x: along.value(row), at: describe(row, dims), stat },
        y: Number((difference(row, cell.reference, stat) * 100).toPrecision(4)),
        method: `${methodLabel({ ...row, exact: true })} − ${methodLabel({ ...cell.reference, exact: true })}`,
        told: formatDifference(difference(row, cell.reference, stat)),
      })),
    ),
  );
  const x = axisOf(
    along,
    valuesOf(
      [...cells].map(({ reference }) => reference),
      along,
    ).map(Number),
  );
  const most = Math.max(1.5, ...values.map(({ y }) => Math.abs(y))) * 1.1;
  const ticks = PERCENT_TICKS.filter((tick) => tick >= 0 && tick <= most);
  const tickValues = [...ticks.map((tick) => -tick).reverse(), ...ticks.slice(1)];
  const axis = {
    ...{ title: "difference (%)", format: "+,.4~r", labelOverlap: "greedy", values: tickValues },
  };
  const scale = { type: "symlog", constant: 2, domain: [-most, most], nice: false };
  const y = { field: "y", type: "quantitative", axis, scale };
  const { color } = policyChannels(policies, 2 * PANEL_PIXELS);
  const tip = [
    ...[{ field: "policy" }, { field: "method" }, { field: "at" }],
    { field: "told", title: "difference" },
  ];
  const percent = AGREEMENT * 100;
  return {
    id,
    title: "Model, emulator and UDP: relative differences",
    text:
      "Each point is one policy at one setting: the completion time by one method, relative to another's for the " +
      `same setting (${[...new Set(values.map(({ method }) => method))].join("; ")}), for mean and 99th percentile. ` +
      `Inside the band they agree within ${percent} %. Points of few trials scatter by chance; the table below has ` +
      "each confidence interval.",
    ...{ panelPixels: PANEL_PIXELS, elastic: true },
    spec: {
      data: { values },
      facet: { field: "stat", type: "nominal", title: null, sort: [...STATISTICS] },
      columns: 2,
      spec: {
        ...PANEL,
        layer: [
          {
            mark: { type: "rect", color: "var(--band)", opacity: 0.5 },
            encoding: { y: { datum: -percent }, y2: { datum: percent } },
          },
          {
            mark: { type: "point", size: 50, filled: false, strokeWidth: 1.8 },
            encoding: {
              ...{ x, y, color, tooltip: tip },
              shape: {
                field: "method",
                type: "nominal",
                legend: { title: null, orient: "bottom", columns: 1 },
              },
            },
          },
        ],
      },
      resolve: { axis: { x: "independent", y: "independent" } },
    },
  };
}

/** Completion times over the lossless ideal: the model as lines, what was run as points on them. */
export function overlayChart(cells: readonly MethodCell[], options: MethodOptions): Chart {
  const { id, along, dims, policies } = options;
  const besides = dims.filter((dim) => dim !== along);
  const picks = [...new Set(cells.map((cell) => describe(cell.reference, besides)))].slice(
    0,
    LINE_PICKS,
  );
  const values = cells.flatMap((cell) =>
    [...cell.rows.values()].flatMap((row) =>
      STATISTICS.map((stat) => ({
        ...{ policy: row.policy, x: along.value(row), at: along.label(row), stat },
        ...{ pick: describe(row, besides), method: methodLabel({ ...row, exact: true }) },
        y: Number((timeOf(row, stat) / row.idealNs).toPrecision(5)),
        ...{ model: row.transport === "model", told: formatTime(timeOf(row, stat)) },
      })),
    ),
  );
  const kept = values.filter(({ pick }) => picks.includes(pick));
  const most = Math.max(1.05, ...kept.map(({ y }) => y));
  const least = Math.min(1, ...kept.map(({ y }) => y));
  const y = {
    ...{ field: "y", type: "quantitative" },
    axis: { title: "time over the lossless ideal (ratio)", format: "~g", labelOverlap: "greedy" },
    scale: { type: "log", domain: [least * 0.98, most * 1.05], nice: false },
  };
  const { color } = policyChannels(policies, 2 * PANEL_PIXELS);
  const x = axisOf(
    along,
    valuesOf(
      [...cells].map(({ reference }) => reference),
      along,
    ).map(Number),
  );
  const tip = [
    ...[{ field: "policy" }, { field: "method" }, { field: "at" }],
    { field: "told", title: "completion time" },
  ];
  const shape = { field: "method", type: "nominal", legend: { title: null, orient: "bottom" } };
  const choose = picks.length > 1 ? " Choose the setting above the picture." : "";
  const params = picks.length < 2 ? [] : [pick(picks, besides)];
  return {
    id,
    title: "Model against emulator against UDP",
    text:
      "Completion time over the time without any loss. Lines are the model's, points what was emulated in virtual " +
      `time or measured over UDP; a point on its line is agreement.${choose}`,
    ...{ panelPixels: PANEL_PIXELS, elastic: true },
    spec: {
      ...{ data: { values: kept }, params },
      transform: picks.length < 2 ? [] : [{ filter: "datum.pick === pick" }],
      facet: { field: "stat", type: "nominal", title: null, sort: [...STATISTICS] },
      columns: 2,
      spec: {
        ...{ ...PANEL, encoding: { x, y, color } },
        layer: [
          { transform: [{ filter: "datum.model" }], mark: { type: "line", strokeWidth: 1.5 } },
          {
            transform: [{ filter: "!datum.model" }],
            mark: { type: "point", size: 55, filled: false, strokeWidth: 1.8 },
            encoding: { shape, tooltip: tip },
          },
        ],
      },
      resolve: { axis: { x: "independent", y: "independent" } },
    },
  };
}

function pick(picks: readonly string[], besides: readonly Dimension[]): JsonObject {
  const middle = picks[Math.floor(picks.length / 2)]!;
  const name = besides.map((dim) => dim.name).join(", ");
  return { name: "pick", value: middle, bind: { input: "select", options: [...picks], name } };
}

function worst(cell: MethodCell): number {
  const apart = others(cell).flatMap((row) =>
    STATISTICS.map((stat) => Math.abs(difference(row, cell.reference, stat))),
  );
  return Math.max(...apart);
}

/** Whether all methods are within AGREEMENT of the reference, in all STATISTICS. */
export function agrees(cell: MethodCell): boolean {
  return worst(cell) <= AGREEMENT;
}

/** Every cell's figures by each method, their differences from the reference, and whether they agree. */
export function methodTable(cells: readonly MethodCell[], dims: readonly Dimension[]): Table {
  const methods = METHODS.filter((method) => cells.some(({ rows }) => rows.has(method)));
  const word = (method: Method) => methodLabel({ method, exact: true });
  const pairs = methods.flatMap((method) => STATISTICS.map((stat) => ({ method, stat })));
  return {
    kind: "table",
    caption:
      `Figures by method; a tick where all are within ${AGREEMENT * 100} % of the first in this ` +
      `order: ${REFERENCES.map(word).join("; ")}`,
    columns: [
      ...[{ title: "policy" }, ...dims.map(({ name }) => ({ title: name }))],
      { title: `within ${AGREEMENT * 100} %` },
      ...[
        { title: "largest |Δ|", numeric: true },
        { title: "± of the mean", numeric: true },
      ],
      ...pairs.map(({ method, stat }) => ({ title: `${stat}, ${word(method)}`, numeric: true })),
      ...pairs.map(({ method, stat }) => ({ title: `Δ ${stat}, ${word(method)}`, numeric: true })),
    ],
    rows: cells.map((cell) => {
      const { reference } = cell;
      const largest = worst(cell);
      const confidence = reference.meanCi95Ns / reference.meanNs;
      const time = (ns: number | undefined) => (ns === undefined ? ["", -1] : [formatTime(ns), ns]);
      return [
        ...[reference.policy, ...dims.map((dim) => [dim.label(reference), dim.value(reference)])],
        agrees(cell) ? ["✓ yes", 0] : ["✗ no", 1],
        [formatDifference(largest).replace("+", ""), largest],
        [formatDifference(confidence).replace("+", ""), confidence],
        ...pairs.map(({ method, stat }) => {
          const row = cell.rows.get(method);
          return time(row && timeOf(row, stat));
        }),
        ...pairs.map(({ method, stat }) => {
          const row = cell.rows.get(method);
          if (row === undefined || row === reference) return ["", 0];
          const apart = difference(row, reference, stat);
          return [formatDifference(apart), apart];
        }),
      ] as Table["rows"][number];
    }),
  };
}
