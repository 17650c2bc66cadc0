/**
 * Charts from vega-lite to vega, the form that a page's runtime and the PNG writer draw. Done when a report is written:
 * the page carries no compiler.
 */
import { compile } from "vega-lite";
import type { Chart, JsonObject } from "./charts-format.ts";

const FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";

/** How charts look: everything coloured by the page's variables. */
const CONFIG = {
  background: "transparent",
  font: FONT,
  view: { stroke: null },
  axis: {
    ...{ labelColor: "var(--ink-soft)", titleColor: "var(--ink)", titleFontWeight: 500 },
    ...{ gridColor: "var(--grid)", domainColor: "var(--rule)", tickColor: "var(--rule)" },
    ...{ labelFontSize: 11, titleFontSize: 12, titlePadding: 8, tickSize: 4, titleLimit: 400 },
  },
  axisBand: { ticks: false, domain: false, labelPadding: 5, grid: false },
  header: {
    ...{ labelColor: "var(--ink)", labelFontSize: 13, labelFontWeight: 600, labelPadding: 6 },
    ...{ labelLimit: 400, labelAnchor: "start" },
  },
  legend: {
    ...{ labelColor: "var(--ink)", titleColor: "var(--ink-soft)", labelFontSize: 12 },
    ...{
      titleFontSize: 11.5,
      titleFontWeight: 500,
      labelLimit: 320,
      symbolSize: 70,
      offset: 12,
      symbolOpacity: 1,
    },
  },
  facet: { spacing: { row: 18, column: 26 } },
  title: {
    ...{ color: "var(--ink)", subtitleColor: "var(--ink-soft)", anchor: "start", offset: 14 },
    ...{ fontSize: 16, subtitleFontSize: 13, frame: "bounds" },
  },
  text: { fill: "var(--ink)" },
};

/** The chart as a vega specification. Errors: whatever vega-lite says against it, warnings too. */
export function compileChart(chart: Chart): object {
  const warnings: string[] = [];
  const warn = (...words: readonly unknown[]) => {
    warnings.push(words.map(String).join(" "));
    return logger;
  };
  const ignore = () => logger;
  const logger = { warn, error: warn, info: ignore, debug: ignore, level: ignore };
  const spec: JsonObject = { padding: 4, ...chart.spec };
  // The types of a whole specification are thousands of alternatives; the compiler checks what it is given.
  const options = { logger, config: CONFIG } as unknown as Parameters<typeof compile>[1];
  const compiled = compile(spec as unknown as Parameters<typeof compile>[0], options);
  if (warnings.length > 0) throw new Error(`chart ${chart.id}: ${warnings.join("; ")}`);
  return compiled.spec;
}
