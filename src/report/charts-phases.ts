/** Links that change while messages go on: how each policy did in each phase, and all together. */
import { formatTime } from "../base/units.ts";
import {
  type Chart,
  type Dimension,
  describe,
  formatDifference,
  type PolicyLook,
  percentAxis,
  pickFilter,
  pickParameter,
  policyChannels,
} from "./charts-format.ts";
import { PANEL, PANEL_PIXELS, pickLabel, picksOf, settingText } from "./charts-lines.ts";
import type { Table } from "./html.ts";
import type { ResultRow } from "./row.ts";

const STATISTICS = ["mean", "p99.9"] as const;

export interface PhaseOptions {
  readonly id: string;
  /** What varies among the rows but the policy. */
  readonly others: readonly Dimension[];
  readonly policies: readonly PolicyLook[];
}

/** Time over the bound in each phase; undefined where no link changes. */
export function phaseChart(all: readonly ResultRow[], options: PhaseOptions): Chart | undefined {
  const rows = all.filter(({ phases }) => phases !== undefined && phases.length > 0);
  if (rows.length === 0) return undefined;
  const { id, others, policies } = options;
  const { picks, chosen } = picksOf(rows, others);
  const values = rows.flatMap((row) =>
    row.phases!.flatMap((phase, index) =>
      [phase.meanNs, phase.p999Ns].map((ns, which) => ({
        ...{ policy: row.policy, phase: index + 1, pick: describe(row, others) },
        ...{ stat: STATISTICS[which]!, y: Number(((ns / phase.boundNs - 1) * 100).toPrecision(5)) },
        ...{ told: formatTime(ns), link: phase.link },
      })),
    ),
  );
  const kept = values.filter(({ pick }) => picks.includes(pick));
  const y = percentAxis(
    "time over the phase's bound (%)",
    "y",
    kept.map((value) => value.y),
  );
  const x = { field: "phase", type: "ordinal", title: "phase", axis: { labelAngle: 0 } };
  const { color, shape } = policyChannels(policies, 2 * PANEL_PIXELS);
  const tip = [
    ...[{ field: "policy" }, { field: "link" }],
    ...[
      { field: "told", title: "completion time" },
      { field: "y", title: "over the bound, %" },
    ],
  ];
  return {
    ...{ id, title: "Completion time over the bound, from phase to phase" },
    text:
      "The links change from phase to phase while messages go on over the same connection. Time over the bound of " +
      `each phase's own links, in percent. Lower is better.${settingText(picks, others)}`,
    ...{ panelPixels: PANEL_PIXELS, elastic: true },
    spec: {
      data: { values: kept },
      params: pickParameter(picks, chosen, pickLabel(others)),
      transform: pickFilter(picks),
      facet: { field: "stat", type: "nominal", title: null, sort: [...STATISTICS] },
      columns: 2,
      spec: {
        ...{ ...PANEL, encoding: { x, y, color } },
        layer: [
          { mark: { type: "line", strokeWidth: 1.5 } },
          {
            mark: { type: "point", filled: true, size: 42, opacity: 1 },
            encoding: { shape, tooltip: tip },
          },
        ],
      },
      resolve: { axis: { x: "independent", y: "independent" } },
    },
  };
}

/** Time of all messages under each policy, and how far from the best one; undefined where no link changes. */
export function phaseTable(
  all: readonly ResultRow[],
  others: readonly Dimension[],
): Table | undefined {
  const rows = all.filter(({ totalNs }) => totalNs !== undefined && totalNs > 0);
  if (rows.length === 0) return undefined;
  const best = new Map<string, number>();
  for (const row of rows) {
    const cell = describe(row, others);
    best.set(cell, Math.min(best.get(cell) ?? Number.POSITIVE_INFINITY, row.totalNs!));
  }
  return {
    kind: "table",
    caption: "Time of all messages of a connection, one after the other: mean over the trials.",
    columns: [
      ...[{ title: "policy" }, ...others.map(({ name }) => ({ title: name }))],
      ...[
        { title: "total", numeric: true },
        { title: "over the best policy", numeric: true },
      ],
      { title: "wire overhead", numeric: true },
    ],
    rows: rows.map((row) => {
      const over = row.totalNs! / best.get(describe(row, others))! - 1;
      return [
        ...[row.policy, ...others.map((dim) => [dim.label(row), dim.value(row)] as const)],
        [formatTime(row.totalNs!), row.totalNs!],
        [formatDifference(over), over],
        [formatDifference(row.wireOverhead), row.wireOverhead],
      ];
    }),
  };
}
