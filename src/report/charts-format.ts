/**
 * What all charts share: the words, units and scales of a row's quantities, so that a loss or a size looks the same
 * wherever it is drawn. Charts are vega-lite specifications as plain JSON; colours are CSS variables, which the page
 * gives values for light and dark, and the PNG writer for white paper.
 */
import { formatRate, formatSize, formatTime } from "../base/units.ts";
import type { ResultRow } from "./row.ts";

export type Json = string | number | boolean | null | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

/** A picture with what it says in words. */
export interface Chart {
  /** Unique on its page: letters, digits and dashes. */
  readonly id: string;
  readonly title: string;
  /** What the picture shows, in which units. */
  readonly text: string;
  readonly spec: JsonObject;
  /** Width of one panel with its axis, in pixels: the page puts as many beside each other as fit. */
  readonly panelPixels?: number;
  /** Its panels may be drawn narrower than that, where the page is narrower. */
  readonly elastic?: boolean;
}

/** Colours of series, in order; more policies than these share colours and differ by symbol. */
export const SERIES_COLOURS = 8;
const SHAPES = [
  ...["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"],
  ...["triangle-right", "triangle-left"],
];

/** Three significant digits at most, powers of ten up to a tenth: "0.25", "1e-4", "3.91e-3". */
export function formatLoss(loss: number): string {
  if (loss === 0) return "0";
  const rounded = Number(loss.toPrecision(3));
  return rounded > 0.1 ? String(rounded) : rounded.toExponential();
}

/** "+0.31 %", "−2 %": of differences; three significant digits, two decimals at most. */
export function formatDifference(share: number): string {
  const percent = share * 100;
  const digits = Math.abs(percent) >= 10 ? 1 : 2;
  const text = Math.abs(percent).toFixed(digits);
  if (Number(text) === 0) return `0 %`;
  return `${percent < 0 ? "−" : "+"}${Number(text)} %`;
}

/** A ratio near 1 or far from it, three significant digits: "1.03", "12.2", "123". */
export function formatRatio(ratio: number): string {
  if (ratio >= 99.5) return ratio < 1e5 ? ratio.toFixed(0) : ratio.toExponential(1);
  return ratio >= 9.95 ? ratio.toFixed(1) : ratio.toFixed(2);
}

/** A quantity that experiments vary: how to read it from a row, and how it is written. */
export interface Dimension {
  readonly name: string;
  /** Title of its axis, with the unit where its labels have none. */
  readonly title: string;
  value(row: ResultRow): number | string;
  /** Equal texts are equal values. */
  label(row: ResultRow): string;
  /** Of numeric dimensions drawn along an axis: the scale's type, and a vega expression of its labels. */
  readonly scale?: JsonObject;
  readonly labelExpr?: string;
}

const TWO_DIGITS = "'.2~g'";
/** Vega expressions of axis labels from `datum.value`, in the units of formatSize, formatTime and formatRate. */
export const SIZE_LABEL = unitExpr("pow(1024,", ["B", "KiB", "MiB", "GiB", "TiB"], 1024);
export const TIME_LABEL = unitExpr("pow(1000,", ["ns", "µs", "ms", "s"], 1000);
const RATE_LABEL = unitExpr("pow(1000,", ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"], 1000);
const LOSS_LABEL = `datum.value > 0.1 || datum.value === 0 ? format(datum.value, '~g') : \
replace(format(datum.value, '.2~e'), '+', '')`;

/** The same where one may zoom in. */
export const FINE_TIME_LABEL = unitExpr("pow(1000,", ["ns", "µs", "ms", "s"], 1000, 8);

function unitExpr(power: string, units: readonly string[], base: number, digits = 4): string {
  const last = units.length - 1;
  return units.reduceRight((rest, unit, index) => {
    const text = `format(datum.value / ${power} ${index}), '.${digits}~g') + ' ${unit}'`;
    if (index === last) return text;
    return `(abs(datum.value) < ${base ** (index + 1)} ? ${text} : ${rest})`;
  }, "''");
}

const METHOD_WORDS: Readonly<Record<ResultRow["method"], string>> = {
  analytic: "model",
  sampled: "model, sampled",
  emulated: "emulated",
  measured: "UDP",
};

/** "model", "emulated", "UDP"; a model's bounds and approximations say so. */
export function methodLabel({ method, exact }: Pick<ResultRow, "method" | "exact">): string {
  return exact ? METHOD_WORDS[method] : `${METHOD_WORDS[method]} (approximate)`;
}

export const BYTES: Dimension = {
  name: "size",
  title: "message size",
  value: (row) => row.bytes,
  label: (row) => formatSize(row.bytes),
  scale: { type: "log", base: 2 },
  labelExpr: SIZE_LABEL,
};
export const CHUNK_LOSS: Dimension = {
  name: "chunk loss",
  title: "chunk loss probability",
  value: (row) => Number(row.chunkLoss.toPrecision(3)),
  label: (row) => formatLoss(row.chunkLoss),
  scale: { type: "log" },
  labelExpr: LOSS_LABEL,
};
export const PACKET_LOSS: Dimension = {
  name: "packet loss",
  title: "packet loss probability",
  value: (row) => Number(row.packetLoss.toPrecision(3)),
  label: (row) => formatLoss(row.packetLoss),
  scale: { type: "log" },
  labelExpr: LOSS_LABEL,
};
/** Runs are not much longer than chance alone makes them. */
const CHANCE_RUN = 1.02;

/** Mean run of lost packets; 1 where packets are lost independently, however many chance puts beside each other. */
export function burstOf({ burstPackets, packetLoss }: ResultRow): number {
  const byChance = burstPackets * (1 - packetLoss) < CHANCE_RUN;
  return byChance ? 1 : Number(burstPackets.toPrecision(3));
}

export const BURST: Dimension = {
  name: "burst length",
  title: "mean length of a run of lost packets",
  value: burstOf,
  label: (row) => (burstOf(row) === 1 ? "independent losses" : `${burstOf(row)} packets`),
  scale: { type: "log", base: 2 },
  labelExpr: `format(datum.value, ${TWO_DIGITS})`,
};
export const DATACENTERS: Dimension = {
  name: "datacenters",
  title: "datacenters",
  value: (row) => row.datacenters ?? 1,
  label: (row) => (row.datacenters === undefined ? "one pair" : `${row.datacenters} datacenters`),
  scale: { type: "log", base: 2 },
  labelExpr: `format(datum.value, '~g')`,
};
export const RTT: Dimension = {
  name: "RTT",
  title: "round-trip time",
  value: (row) => row.rttNs,
  label: (row) => `RTT ${formatTime(row.rttNs)}`,
  scale: { type: "log" },
  labelExpr: TIME_LABEL,
};
export const RATE: Dimension = {
  name: "rate",
  title: "link rate",
  value: (row) => row.rateBps,
  label: (row) => formatRate(row.rateBps),
  scale: { type: "log" },
  labelExpr: RATE_LABEL,
};
export const CHUNK_BYTES: Dimension = {
  name: "chunk",
  title: "chunk size",
  value: (row) => row.chunkBytes,
  label: (row) => `chunks of ${formatSize(row.chunkBytes)}`,
  scale: { type: "log", base: 2 },
  labelExpr: SIZE_LABEL,
};
const PACKET_BYTES: Dimension = {
  name: "packet",
  title: "packet payload",
  value: (row) => row.packetBytes,
  label: (row) => `packets of ${formatSize(row.packetBytes)}`,
};
const METHOD: Dimension = {
  name: "method",
  title: "method",
  value: (row) => row.method,
  label: (row) => methodLabel({ method: row.method, exact: true }),
};
const COLLECTIVE: Dimension = {
  name: "collective",
  title: "collective",
  value: (row) => row.collective ?? "",
  label: (row) => (row.collective === undefined ? "one message" : `${row.collective} Allreduce`),
};
const WARMUP: Dimension = {
  name: "warmup",
  title: "messages sent before",
  value: (row) => row.warmup,
  label: (row) => `after ${row.warmup} messages`,
};
const SEED: Dimension = {
  name: "seed",
  title: "seed",
  value: (row) => row.seed,
  label: (row) => `seed ${row.seed}`,
};

/** Everything but the policy that tells rows apart, the loss in the given sense; what is drawn along axes first. */
export function dimensions(loss: Dimension): readonly Dimension[] {
  return [
    ...[BYTES, loss, BURST, RTT, RATE, CHUNK_BYTES, DATACENTERS],
    ...[COLLECTIVE, METHOD, PACKET_BYTES, WARMUP, SEED],
  ];
}

/** Different values among the rows, in order. */
export function valuesOf(rows: readonly ResultRow[], dimension: Dimension): (number | string)[] {
  const values = [...new Set(rows.map((row) => dimension.value(row)))];
  return values.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}

/** The loss of chunks or of packets: whichever the experiment set, for the other then varies with more. */
export function lossDimension(rows: readonly ResultRow[]): Dimension {
  const [chunks, packets] = [CHUNK_LOSS, PACKET_LOSS].map((loss) => valuesOf(rows, loss).length);
  return packets! < chunks! ? PACKET_LOSS : CHUNK_LOSS;
}

const LOSS_NAMES: readonly string[] = [CHUNK_LOSS.name, PACKET_LOSS.name];

/** A row's values of some dimensions, in words: "128 MiB, chunk loss 1e-4, RTT 25 ms". */
export function describe(row: ResultRow, dims: readonly Dimension[]): string {
  const word = (dim: Dimension) =>
    LOSS_NAMES.includes(dim.name) ? `${dim.name} ${dim.label(row)}` : dim.label(row);
  return dims.map(word).join(", ");
}

/** The order of policies wherever they stand beside each other: baselines first, unknown ones last. */
const POLICY_ORDER = ["gbn", "sr-rto", "sr-nack", "ec-xor", "ec-mds", "hybrid", "auto"];

/** A policy and its place among all policies of the report, which gives it its colour and symbol. */
export interface PolicyLook {
  readonly name: string;
  readonly index: number;
}

export function policiesOf(rows: readonly ResultRow[]): PolicyLook[] {
  const rank = (policy: string) => {
    const found = POLICY_ORDER.findIndex((name) => policy.startsWith(name));
    return found < 0 ? POLICY_ORDER.length : found;
  };
  const names = [...new Set(rows.map(({ policy }) => policy))];
  names.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  return names.map((name, index) => ({ name, index }));
}

/** Of a legend's entry: symbol and space, and a letter; the page's script reckons the same way. */
const ENTRY_PIXELS = 34;
const LETTER_PIXELS = 7;

/** Columns of a legend above a chart of `pixels`: one line where it fits. */
function legendColumns(entries: readonly string[], pixels: number): number {
  const widths = entries.map((entry) => entry.length * LETTER_PIXELS + ENTRY_PIXELS);
  if (widths.reduce((sum, width) => sum + width, 0) <= pixels) return entries.length;
  return Math.max(1, Math.floor(pixels / Math.max(...widths)));
}

/** Colour and symbol of each policy: the same policy looks the same in all charts of a report. */
export function policyChannels(
  policies: readonly PolicyLook[],
  pixels: number,
): { readonly color: JsonObject; readonly shape: JsonObject } {
  const domain = policies.map(({ name }) => name);
  const colours = policies.map(({ index }) => `var(--series-${index % SERIES_COLOURS})`);
  const shapes = policies.map(
    ({ index }) => SHAPES[(index + Math.floor(index / SERIES_COLOURS)) % SHAPES.length]!,
  );
  const legend = { title: null, orient: "top", columns: legendColumns(domain, pixels) };
  const channel = { field: "policy", type: "nominal", sort: domain, legend };
  return {
    color: { ...channel, scale: { domain, range: colours } },
    shape: { ...channel, scale: { domain, range: shapes } },
  };
}

/** An axis along a dimension, with ticks where there are values. */
export function axisOf(dimension: Dimension, values: readonly number[]): JsonObject {
  const axis = {
    ...{ title: dimension.title, labelExpr: dimension.labelExpr ?? "datum.label" },
    ...{ values: [...values], labelOverlap: "greedy", labelSeparation: 8, grid: false },
  };
  const scale = values.some((value) => value <= 0)
    ? { type: "symlog", constant: 1e-7, zero: false }
    : {};
  return {
    ...{ field: "x", type: "quantitative", axis },
    scale: { ...dimension.scale, ...scale, nice: false, padding: 12 },
  };
}

/** Percentages from below 1 to thousands on one axis: nearly linear around 1 %, logarithmic beyond. */
export const PERCENT_TICKS: readonly number[] = [
  ...[-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300, 1000, 3000, 1e4, 3e4, 1e5, 1e6, 1e7],
];

/** The axis of shares in percent, spanning the given ones; `field` holds percent. */
export function percentAxis(title: string, field: string, percents: readonly number[]): JsonObject {
  const least = Math.min(0, ...percents);
  const most = Math.max(1, ...percents);
  const values = PERCENT_TICKS.filter((tick) => tick >= least && tick <= most * 1.15);
  return {
    ...{ field, type: "quantitative" },
    axis: { title, values, format: ",.4~r", labelOverlap: "greedy" },
    scale: { type: "symlog", constant: 1, domain: [least * 1.1, most * 1.15], nice: false },
  };
}

/** One of several settings to look at: a list to choose from above the chart, unless there is only one. */
export function pickParameter(
  picks: readonly string[],
  chosen: string,
  label: string,
): JsonObject[] {
  if (picks.length < 2) return [];
  const bind = { input: "select", options: [...picks], name: label };
  return [{ name: "pick", value: chosen, bind }];
}

export function pickFilter(picks: readonly string[]): JsonObject[] {
  return picks.length < 2 ? [] : [{ filter: "datum.pick === pick" }];
}
