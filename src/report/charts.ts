/**
 * Which pictures a set of rows asks for. What an experiment varied decides: sizes and losses make heat maps, each
 * varied quantity makes lines along it, several methods make a comparison.
 */

import { distributionChart } from "./charts-distribution.ts";
import {
  BURST,
  BYTES,
  CHUNK_BYTES,
  type Chart,
  DATACENTERS,
  type Dimension,
  dimensions,
  formatLoss,
  lossDimension,
  type PolicyLook,
  policiesOf,
  RATE,
  RTT,
  valuesOf,
} from "./charts-format.ts";
import { heatChart, isGrid } from "./charts-heat.ts";
import { gainChart, type LinesOptions, overBoundChart, overheadChart } from "./charts-lines.ts";
import {
  AGREEMENT,
  agrees,
  differenceChart,
  type MethodOptions,
  methodCells,
  methodTable,
  overlayChart,
} from "./charts-methods.ts";
import { phaseChart, phaseTable } from "./charts-phases.ts";
import type { Section } from "./html.ts";
import { hasTimes } from "./parse-rows.ts";
import type { ResultRow } from "./row.ts";

/** What collectives are compared with, where it is among the policies. */
const BASELINE = "sr-rto";

/** Collectives take other times than messages: their pictures stand apart. */
function parts(rows: readonly ResultRow[]): { name: string; rows: ResultRow[] }[] {
  const groups = new Map<string, ResultRow[]>();
  for (const row of rows) {
    const name = row.collective === undefined ? row.experiment : `${row.experiment}: collectives`;
    const group = groups.get(name) ?? [];
    group.push(row);
    groups.set(name, group);
  }
  return [...groups].map(([name, group]) => ({ name, rows: group }));
}

/** One row for each policy and setting: the first. */
function distinct(rows: readonly ResultRow[], dims: readonly Dimension[]): ResultRow[] {
  const seen = new Map<string, ResultRow>();
  for (const row of rows) {
    const cell = JSON.stringify([row.policy, ...dims.map((dim) => dim.value(row))]);
    if (!seen.has(cell)) seen.set(cell, row);
  }
  return [...seen.values()];
}

/**
 * Whether some policy, by one method, has several values: one value for each policy, such as a warm-up, or for each
 * method, such as a seed, separates nothing.
 */
function tellsApart(rows: readonly ResultRow[], dim: Dimension): boolean {
  const seen = new Map<string, number | string>();
  return rows.some((row) => {
    const value = dim.value(row);
    const who = dim.name === "method" ? row.policy : JSON.stringify([row.policy, row.method]);
    const known = seen.get(who);
    if (known === undefined) seen.set(who, value);
    return known !== undefined && known !== value;
  });
}

interface Frame {
  readonly prefix: string;
  readonly rows: readonly ResultRow[];
  readonly loss: Dimension;
  /** What varies among the rows. */
  readonly varied: readonly Dimension[];
  readonly policies: readonly PolicyLook[];
}

function without(dims: readonly Dimension[], ...some: readonly Dimension[]): Dimension[] {
  return dims.filter((dim) => !some.includes(dim));
}

function heatMaps({ prefix, rows, loss, varied, policies }: Frame): Chart[] {
  if (!isGrid(rows, loss)) return [];
  const shared = { loss, others: without(varied, BYTES, loss), policies };
  return (["ideal", "bound"] as const).flatMap((over) =>
    (["mean", "p99.9"] as const).map((statistic) => {
      const id = `${prefix}-heat-${over}-${statistic.replace(".", "")}`;
      return heatChart(rows, { ...shared, id, statistic, over });
    }),
  );
}

function lineCharts({ prefix, rows, loss, varied, policies }: Frame): Chart[] {
  const drawn = [BYTES, loss, BURST, RTT, RATE, CHUNK_BYTES, DATACENTERS];
  const along = drawn.filter((dim) => varied.includes(dim));
  const collective = rows[0]?.collective !== undefined;
  return along.flatMap((dim) => {
    const options = (kind: string): LinesOptions => {
      const id = `${prefix}-${kind}-${dim.name.replace(/\W+/g, "-").toLowerCase()}`;
      return { id, along: dim, others: without(varied, dim), policies };
    };
    const gain = collective ? gainChart(rows, options("gain"), BASELINE) : undefined;
    return [overBoundChart(rows, options("over")), ...(gain === undefined ? [] : [gain])];
  });
}

function overheadCharts({ prefix, rows, loss, varied, policies }: Frame): Chart[] {
  const along = [loss, BURST, BYTES].find((dim) => varied.includes(dim));
  if (along === undefined) return [];
  const others = without(varied, along);
  return [overheadChart(rows, { id: `${prefix}-overhead`, along, others, policies })];
}

function methodSection(rows: readonly ResultRow[], policies: readonly PolicyLook[]): Section[] {
  const loss = lossDimension(rows);
  const all = dimensions(loss).filter(({ name }) => !["method", "seed", "warmup"].includes(name));
  const cells = methodCells(rows, all);
  if (cells.length === 0) return [];
  const within = cells.flatMap((cell) => [...cell.rows.values()]);
  const dims = all.filter((dim) => valuesOf(within, dim).length > 1);
  const numeric = dims.filter(({ scale }) => scale !== undefined);
  const along = numeric.find((dim) => dim === loss) ?? numeric[0] ?? BYTES;
  const named = new Set(cells.map(({ reference }) => reference.policy));
  const looks = policies.filter(({ name }) => named.has(name));
  const options = (id: string): MethodOptions => ({ id, along, dims, policies: looks });
  const table = methodTable(cells, dims);
  const agreeing = cells.filter(agrees).length;
  return [
    {
      title: "Model against emulator against UDP",
      text:
        `${agreeing} of ${cells.length} settings agree within ${formatLoss(AGREEMENT * 100)} % in mean and 99th ` +
        "percentile.",
      blocks: [
        { kind: "chart", chart: overlayChart(cells, options("methods-overlay")) },
        { kind: "chart", chart: differenceChart(cells, options("methods-difference")) },
        table,
      ],
    },
  ];
}

/**
 * The report's sections of pictures: one for each experiment, then methods against each other. `titles`: of experiments
 * by their names, which stand where there is none.
 */
export function chartSections(
  all: readonly ResultRow[],
  titles: Readonly<Record<string, string>> = {},
): Section[] {
  const rows = all.filter(hasTimes);
  const policies = policiesOf(rows);
  const sections = parts(rows).map((part, index): Section => {
    const loss = lossDimension(part.rows);
    const dims = dimensions(loss);
    const kept = distinct(part.rows, dims);
    const varied = dims.filter((dim) => tellsApart(kept, dim));
    const own = new Set(kept.map(({ policy }) => policy));
    const looks = policies.filter(({ name }) => own.has(name));
    const prefix = `e${index + 1}`;
    const frame = { prefix, rows: kept, loss, varied, policies: looks };
    const distribution = { id: `${prefix}-distribution`, others: varied, policies: looks };
    const charts = [
      ...heatMaps(frame),
      ...lineCharts(frame),
      distributionChart(kept, distribution),
      ...overheadCharts(frame),
    ];
    const phases = { id: `${prefix}-phases`, others: varied, policies: looks };
    const changing = [phaseChart(kept, phases)].filter((chart) => chart !== undefined);
    const totals = [phaseTable(kept, varied)].filter((table) => table !== undefined);
    const blocks = [...changing, ...charts].map((chart) => ({ kind: "chart" as const, chart }));
    const experiment = part.rows[0]?.experiment ?? "";
    const title = (Object.hasOwn(titles, experiment) && titles[experiment]) || part.name;
    return { title, blocks: [...totals, ...blocks] };
  });
  return [...sections, ...methodSection(rows, policies)];
}
