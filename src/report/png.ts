/**
 * Charts as images, for slides and papers: drawn here by vega as SVG on white, with the colours of the page's light
 * side, and rasterised. What a page lets its reader choose is as it is first shown.
 */
import { readFileSync } from "node:fs";
import type { Chart } from "./charts-format.ts";
import { compileChart } from "./compile.ts";

/** Pixels of the image for each of the page's. */
const SCALE = 2;
const PAPER = "#ffffff";
/** Longest side of an image, in its own pixels: beyond it the scale is less. */
const SIDE_PIXELS_MAX = 16_384;

/** The page's variables for light: name to value. */
function lightColours(): ReadonlyMap<string, string> {
  const css = readFileSync(new URL("../../src/report/page/page.css", import.meta.url), "utf8");
  const light = css.slice(0, css.indexOf("}"));
  return new Map(
    [...light.matchAll(/(--[\w-]+):\s*([^;]+);/g)].map(([, name, value]) => [name!, value!]),
  );
}

/** The specification with colours in place of variables. */
function resolveColours(spec: object): object {
  const colours = lightColours();
  const resolve = (value: unknown): unknown => {
    if (typeof value === "string") {
      return value.replace(/var\((--[\w-]+)\)/g, (whole, name) => colours.get(name) ?? whole);
    }
    if (Array.isArray(value)) return value.map(resolve);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolve(inner)]));
  };
  return resolve(spec) as object;
}

/** Outside a page a picture says by itself what it is, and of which setting. */
function titled(chart: Chart): Chart {
  const params = (chart.spec.params ?? []) as readonly { name: string; value: string }[];
  const picked = params.find(({ name }) => name === "pick")?.value ?? "";
  const title = { text: chart.title, subtitle: picked };
  return { ...chart, spec: { ...chart.spec, title, padding: 16 } };
}

/** The chart as SVG text, in its light colours. Errors: those of compileChart. */
export async function chartSvg(chart: Chart): Promise<string> {
  const { parse, View } = await import("vega");
  const spec = resolveColours(compileChart(titled(chart))) as Parameters<typeof parse>[0];
  const view = new View(parse(spec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

/** Width and height of an SVG element. */
function sides(head: string): number[] {
  return [...head.matchAll(/ (?:width|height)="([\d.]+)"/g)].map(([, value]) => Number(value));
}

/** The chart as a PNG file's bytes, two pixels for each of the page's, on white. */
export async function chartPng(chart: Chart): Promise<Uint8Array> {
  const { Resvg } = await import("@resvg/resvg-js");
  const svg = await chartSvg(chart);
  const font = {
    loadSystemFonts: true,
    defaultFontFamily: "DejaVu Sans",
    sansSerifFamily: "DejaVu Sans",
  };
  const longest = Math.max(1, ...sides(svg.slice(0, svg.indexOf(">"))));
  const scale = Math.min(SCALE, SIDE_PIXELS_MAX / longest);
  const options = { font, background: PAPER, fitTo: { mode: "zoom", value: scale } } as const;
  return new Resvg(svg, options).render().asPng();
}
