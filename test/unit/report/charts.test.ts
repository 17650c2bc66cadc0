import { parse, View } from "vega";
import { describe, expect, test } from "vitest";
import { chartSections } from "../../../src/report/charts.ts";
import {
  type Chart,
  formatDifference,
  formatLoss,
  formatRatio,
  SIZE_LABEL,
  TIME_LABEL,
} from "../../../src/report/charts-format.ts";
import { compileChart } from "../../../src/report/compile.ts";
import type { Section } from "../../../src/report/html.ts";
import { chartPng, chartSvg } from "../../../src/report/png.ts";
import type { ResultRow } from "../../../src/report/row.ts";
import { SAMPLE_POLICIES, type Setting, sampleRow, sampleRows } from "./sample-rows.ts";

function chartsOf(sections: readonly Section[]): Chart[] {
  return sections.flatMap(({ blocks }) =>
    blocks.flatMap((block) => (block.kind === "chart" ? [block.chart] : [])),
  );
}

const ids = (rows: readonly ResultRow[]) => chartsOf(chartSections(rows)).map(({ id }) => id);
const rowsOf = (settings: Partial<Setting>[]) =>
  ["sr-rto", "ec-mds(32,8)"].flatMap((policy) =>
    settings.map((setting) => sampleRow({ policy, bytes: 2 ** 20, loss: 1e-3, ...setting })),
  );

async function svgOf(chart: Chart): Promise<string> {
  const view = new View(parse(compileChart(chart) as Parameters<typeof parse>[0]), {
    renderer: "none",
  });
  return await view.toSVG();
}

describe("which charts the rows ask for", () => {
  test("one setting: a distribution only", () => {
    expect(ids(rowsOf([{}]))).toEqual(["e1-distribution"]);
  });

  test("sizes: lines along them and the overhead", () => {
    expect(ids(rowsOf([{ bytes: 2 ** 20 }, { bytes: 2 ** 22 }]))).toEqual([
      ...["e1-over-size", "e1-distribution", "e1-overhead"],
    ]);
  });

  test("sizes and losses: heat maps of both statistics over both references, and lines along each", () => {
    const grid = [2 ** 20, 2 ** 22].flatMap((bytes) =>
      [1e-4, 1e-2].map((loss) => ({ bytes, loss })),
    );
    expect(ids(rowsOf(grid))).toEqual([
      ...["e1-heat-ideal-mean", "e1-heat-ideal-p999", "e1-heat-bound-mean", "e1-heat-bound-p999"],
      ...["e1-over-size", "e1-over-chunk-loss", "e1-distribution", "e1-overhead"],
    ]);
  });

  test("runs that chance alone makes separate nothing", () => {
    const byChance = [1e-3, 1e-2, 1e-1].flatMap((loss) =>
      [2 ** 20, 2 ** 27].map((bytes) => ({ loss, bytes, burstPackets: (1 - loss) ** (-1 / 16) })),
    );
    expect(ids(rowsOf(byChance)).filter((id) => id.includes("burst"))).toEqual([]);
    expect(ids(rowsOf(byChance))).toContain("e1-heat-bound-mean");
  });

  test("bursts, distances: lines along them", () => {
    expect(ids(rowsOf([{ burstPackets: 1 }, { burstPackets: 16 }]))).toContain(
      "e1-over-burst-length",
    );
    expect(ids(rowsOf([{ rttNs: 1e6 }, { rttNs: 25e6 }]))).toContain("e1-over-rtt");
  });

  test("collectives: the gain over the baseline, apart from messages", () => {
    const rows = rowsOf([{ datacenters: 4 }, { datacenters: 8 }]);
    const sections = chartSections([...rows, ...rowsOf([{}])]);
    expect(sections.map(({ title }) => title)).toEqual(["sample: collectives", "sample"]);
    expect(chartsOf(sections).map(({ id }) => id)).toContain("e1-gain-datacenters");
  });

  test("a value that each policy has of its own, such as a warm-up, separates nothing", () => {
    const rows = SAMPLE_POLICIES.map((policy) => sampleRow({ policy, bytes: 2 ** 20, loss: 1e-3 }));
    expect(new Set(rows.map(({ warmup }) => warmup)).size).toBe(2);
    expect(chartsOf(chartSections(rows))[0]!.spec.params).toEqual([]);
    const model = rows.map((row) => ({ ...row, method: "analytic" as const, seed: 0 }));
    const [parameter] = chartsOf(chartSections([...rows, ...model]))[0]!.spec.params as {
      bind: { options: string[] };
    }[];
    expect(parameter!.bind.options).toEqual(["model", "emulated"]);
  });

  test("methods: a comparison, with a mark where all agree within one percent", () => {
    const methods = [
      { method: "emulated", skew: 1 } as const,
      { method: "analytic", skew: 1.02 } as const,
    ];
    const comparison = chartSections(rowsOf(methods)).at(-1)!;
    expect(chartsOf([comparison]).map(({ id }) => id)).toEqual([
      "methods-overlay",
      "methods-difference",
    ]);
    const table = comparison.blocks.find((block) => block.kind === "table")!;
    const marks = table.rows.map((cells) => cells.map((cell) => String(cell)).join("|"));
    expect(marks).toHaveLength(2);
    expect(marks.find((line) => line.startsWith("ec-mds"))).toMatch(/✗ no.*2 %/);
    const close = chartSections(rowsOf([methods[0]!, { method: "analytic", skew: 1.0001 }])).at(
      -1,
    )!;
    expect(close.text).toMatch(/^[12] of 2 settings agree/);
  });

  test("links that change: phases and the total, against the best policy", () => {
    const phase = { link: "loss 1%", reverseLink: "", messages: 200, idealNs: 25e6, boundNs: 25e6 };
    const times = { meanNs: 26e6, p99Ns: 27e6, p999Ns: 28e6, totalNs: 5e9, wireOverhead: 0.01 };
    const rows = rowsOf([{}]).map((row, index) => ({
      ...{
        ...row,
        phases: [
          { ...phase, ...times },
          { ...phase, ...times },
        ],
      },
      totalNs: 1e9 * (index + 4),
    }));
    const [section] = chartSections(rows);
    expect(chartsOf([section!]).map(({ id }) => id)).toContain("e1-phases");
    const table = section!.blocks.find((block) => block.kind === "table")!;
    expect(table.rows.map((cells) => (cells[2] as [string, number])[0])).toEqual(["0 %", "+25 %"]);
  });

  test("rows without times are left out of pictures", () => {
    const [row] = rowsOf([{}]);
    const failed = { ...row!, policy: "lost", failed: row!.trials, meanNs: Number.NaN };
    expect(JSON.stringify(chartSections([row!, failed]))).not.toContain("lost");
  });
});

describe("specifications", () => {
  test("all compile without a warning and draw marks, every policy in the colour it has everywhere", async () => {
    const charts = chartsOf(chartSections(sampleRows()));
    expect(charts.length).toBeGreaterThan(20);
    expect(new Set(charts.map(({ id }) => id)).size).toBe(charts.length);
    for (const chart of charts) {
      const svg = await svgOf(chart);
      expect(svg.match(/<path/g)!.length, chart.id).toBeGreaterThan(10);
      expect(svg, chart.id).not.toMatch(/NaN|undefined|Infinity/);
      expect(chart.text.length).toBeGreaterThan(80);
    }
    const colours = charts.flatMap((chart) => [
      ...JSON.stringify(chart.spec).matchAll(
        /"domain":(\["(?:gbn|sr-rto)[^\]]*\]),"range":(\[[^\]]*var[^\]]*\])/g,
      ),
    ]);
    const seen = new Map<string, Set<string>>();
    for (const [, domain, range] of colours) {
      const names: string[] = JSON.parse(domain!);
      const values: string[] = JSON.parse(range!);
      for (const [index, name] of names.entries()) {
        seen.set(name, (seen.get(name) ?? new Set()).add(values[index]!));
      }
    }
    expect(seen.size).toBe(SAMPLE_POLICIES.length);
    for (const [name, set] of seen) expect(set.size, name).toBe(1);
  });

  test("names from files are only ever text", async () => {
    const policy = `'"]; alert(1); [" </script><b>\\`;
    const rows = ["sr-rto", policy].flatMap((name) =>
      [2 ** 20, 2 ** 22].flatMap((bytes) =>
        [1e-4, 1e-2].map((loss) => sampleRow({ policy: name, bytes, loss })),
      ),
    );
    for (const chart of chartsOf(chartSections(rows))) {
      expect(await svgOf(chart), chart.id).not.toContain("<b>");
    }
  });

  test("a warning of the compiler is an error", () => {
    const encoding = {
      x: { field: "a", type: "quantitative", scale: { type: "log", zero: true } },
    };
    const spec = { data: { values: [{ a: 1 }] }, mark: "point", encoding };
    const chart = { id: "x", title: "", text: "", spec };
    expect(() => compileChart(chart)).toThrow(/chart x: .*zero/);
  });
});

describe("words of values", () => {
  test("losses, ratios, differences", () => {
    expect([0, 1e-6, 0.00390625, 0.1, 0.25].map(formatLoss)).toEqual([
      ...["0", "1e-6", "3.91e-3", "1e-1", "0.25"],
    ]);
    expect([1, 1.034, 12.24, 99.6, 123456].map(formatRatio)).toEqual([
      ...["1.00", "1.03", "12.2", "100", "1.2e+5"],
    ]);
    expect([0, 0.00001, 0.0031, -0.02, 11.5].map(formatDifference)).toEqual([
      ...["0 %", "0 %", "+0.31 %", "−2 %", "+1150 %"],
    ]);
  });

  test("axes write sizes and times in the units of the tables", async () => {
    const axis = async (labelExpr: string, values: number[]) => {
      const spec = {
        data: { values: values.map((value) => ({ value })) },
        mark: "point",
        width: 2000,
        encoding: {
          x: {
            ...{ field: "value", type: "quantitative", scale: { type: "log", nice: false } },
            axis: { values, labelExpr, labelOverlap: false },
          },
        },
      };
      const svg = await svgOf({ id: "axis", title: "", text: "", spec });
      return [...svg.matchAll(/<text[^>]*>([^<]*)</g)].map(([, text]) => text);
    };
    const sizes = await axis(SIZE_LABEL, [512, 2 ** 17, 2 ** 33]);
    expect(sizes.slice(0, 3)).toEqual(["512 B", "128 KiB", "8 GiB"]);
    const times = await axis(TIME_LABEL, [900, 25e6, 1.5e9]);
    expect(times.slice(0, 3)).toEqual(["900 ns", "25 ms", "1.5 s"]);
  });
});

describe("images", () => {
  test("a chart is a PNG at twice its size, in colours, with its title", async () => {
    const chart = chartsOf(chartSections(rowsOf([{ bytes: 2 ** 20 }, { bytes: 2 ** 22 }])))[0]!;
    const svg = await chartSvg(chart);
    expect(svg).toContain(chart.title);
    expect(svg).not.toContain("var(--");
    const [, width] = /width="([\d.]+)"/.exec(svg)!;
    const png = Buffer.from(await chartPng(chart));
    expect(png.subarray(1, 4).toString()).toBe("PNG");
    expect(png.readUInt32BE(16)).toBe(Math.ceil(2 * Number(width)));
    expect(png.length).toBeGreaterThan(5000);
  });
});
