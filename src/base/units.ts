/**
 * Sizes, rates, times and probabilities as people write them, to numbers and back.
 *
 * Vocabulary: sizes in bytes, SI (`kB MB GB TB`) and binary (`KiB MiB GiB TiB`); rates and times as
 * tc(8) writes them: `bit` units are bits a second, `bps` units BYTES a second, a bare number bits a
 * second. Letter case is ignored: `MB` and `mb` are both megabytes.
 */
import { SdrError } from "./errors.ts";

/** The unit names and their factors; the first of equal factors is the one that is printed. */
type Units = ReadonlyMap<string, number>;

const SIZE_UNITS: Units = new Map([
  ["b", 1],
  ["kb", 1e3],
  ["mb", 1e6],
  ["gb", 1e9],
  ["tb", 1e12],
  ["kib", 2 ** 10],
  ["mib", 2 ** 20],
  ["gib", 2 ** 30],
  ["tib", 2 ** 40],
]);

/** tc(8): "bit" units are decimal bits/s, an "i" makes them binary, "bps" counts bytes. */
const RATE_UNITS: Units = new Map(
  [
    ["", 1],
    ["k", 1e3],
    ["m", 1e6],
    ["g", 1e9],
    ["t", 1e12],
    ["ki", 2 ** 10],
    ["mi", 2 ** 20],
    ["gi", 2 ** 30],
    ["ti", 2 ** 40],
  ].flatMap(([prefix, factor]): [string, number][] => [
    [`${prefix}bit`, Number(factor)],
    [`${prefix}bit/s`, Number(factor)],
    [`${prefix}bps`, 8 * Number(factor)],
  ]),
);

const TIME_UNITS: Units = new Map([
  ["s", 1e9],
  ["sec", 1e9],
  ["secs", 1e9],
  ["ms", 1e6],
  ["msec", 1e6],
  ["msecs", 1e6],
  ["us", 1e3],
  ["µs", 1e3],
  ["usec", 1e3],
  ["usecs", 1e3],
  ["ns", 1],
  ["nsec", 1],
  ["nsecs", 1],
]);

const SIZE_FORMS = "a size such as 1500, 64KiB, 128MiB or 1GB";
const RATE_FORMS = "a rate such as 10mbit, 400gbit or 1gbps (bytes a second), or 0 for no limit";
const TIME_FORMS = "a time such as 25ms, 12.5us, 3ns or 1s, with its unit";
const PROBABILITY_FORMS = "a probability such as 0.1% or 1e-3, from 0 to 100% (1)";

function refuse(what: string, text: string, forms: string): never {
  throw new SdrError("INVALID_ARGUMENT", `${what} "${text}" is not understood`, `give ${forms}`);
}

interface Quantity {
  readonly what: string;
  readonly forms: string;
  readonly units: Units;
  /** The factor of a number without a unit; undefined: only 0 may lack one. */
  readonly bare: number | undefined;
}

/** A non-negative decimal number with an optional unit; the value in the base unit, not rounded. */
function parseQuantity(text: string, { what, forms, units, bare }: Quantity): number {
  const parts = /^(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)\s*([a-zµ/]*)$/.exec(
    text.trim().toLowerCase(),
  );
  if (parts === null) refuse(what, text, forms);
  const number = Number(parts[1]);
  const unit = parts[2] ?? "";
  const factor = unit === "" ? (number === 0 ? 1 : bare) : units.get(unit);
  if (factor === undefined) refuse(what, text, forms);
  const value = number * factor;
  if (value > Number.MAX_SAFE_INTEGER) {
    throw new SdrError("INVALID_ARGUMENT", `${what} "${text}" is too large`, `give ${forms}`);
  }
  return value;
}

/** Bytes; a whole number (`1.5KiB` is 1536, `0.3KiB` is refused). Errors: INVALID_ARGUMENT. */
export function parseSize(text: string, what = "size"): number {
  const bytes = parseQuantity(text, { what, forms: SIZE_FORMS, units: SIZE_UNITS, bare: 1 });
  // A decimal multiple such as 0.1GB is whole but for its rounding in binary.
  const whole = Math.round(bytes);
  if (Math.abs(bytes - whole) > 1e-9 * whole) {
    throw new SdrError(
      "INVALID_ARGUMENT",
      `${what} "${text}" is not a whole number of bytes`,
      `give ${SIZE_FORMS}`,
    );
  }
  return whole;
}

/** Bits a second; 0 means no limit. Errors: INVALID_ARGUMENT. */
export function parseRate(text: string, what = "rate"): number {
  return parseQuantity(text, { what, forms: RATE_FORMS, units: RATE_UNITS, bare: 1 });
}

/** Whole nanoseconds, rounded to the nearest. A unit is required, but for 0. Errors: INVALID_ARGUMENT. */
export function parseTime(text: string, what = "time"): number {
  const quantity = { what, forms: TIME_FORMS, units: TIME_UNITS, bare: undefined };
  return Math.round(parseQuantity(text, quantity));
}

/** A decimal numeral over 100, rounded once: shifts the exponent instead of dividing. */
function hundredth(numeral: string): number {
  const [digits, exponent = "0"] = numeral.split("e");
  return Number(`${digits}e${Number(exponent) - 2}`);
}

/** 0..1 from a percentage (`0.1%`) or a plain number (`1e-3`). Errors: INVALID_ARGUMENT. */
export function parseProbability(text: string, what = "probability"): number {
  const parts = /^(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)(%?)$/.exec(
    text.trim().toLowerCase(),
  );
  if (parts === null) refuse(what, text, PROBABILITY_FORMS);
  const value = parts[2] === "%" ? hundredth(parts[1]!) : Number(parts[1]);
  if (value > 1) {
    throw new SdrError(
      "INVALID_ARGUMENT",
      `${what} "${text}" is above ${parts[2] === "%" ? "100%" : "1"}`,
      `give ${PROBABILITY_FORMS}`,
    );
  }
  return value;
}

/** `value` with `digits` significant digits, without trailing zeros or an exponent. */
function significant(value: number, digits: number): string {
  const rounded = Number(value.toPrecision(digits));
  return rounded.toLocaleString("en-US", { useGrouping: false, maximumFractionDigits: 20 });
}

type Scale = readonly (readonly [factor: number, unit: string])[];

/** The largest unit that keeps the number at 1 or above, for reading; rounded to `digits`. */
function formatScaled(value: number, scale: Scale, digits: number): string {
  if (value < 0) return `-${formatScaled(-value, scale, digits)}`;
  for (const [index, [factor, unit]] of scale.entries()) {
    const last = index === scale.length - 1;
    // Round first: 999.96 ms is 1 s at four digits, not 1000 ms.
    const shown = Number((value / factor).toPrecision(digits));
    if (shown >= 1 || last) return `${significant(shown, digits)} ${unit}`;
  }
  return String(value);
}

const SIZE_SCALE: Scale = [
  [2 ** 40, "TiB"],
  [2 ** 30, "GiB"],
  [2 ** 20, "MiB"],
  [2 ** 10, "KiB"],
  [1, "B"],
];
const RATE_SCALE: Scale = [
  [1e12, "Tbit/s"],
  [1e9, "Gbit/s"],
  [1e6, "Mbit/s"],
  [1e3, "kbit/s"],
  [1, "bit/s"],
];
const TIME_SCALE: Scale = [
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "µs"],
  [1, "ns"],
];

/** For people: "128 MiB", "1.5 KiB"; rounded to `digits` significant digits. */
export function formatSize(bytes: number, digits = 4): string {
  return formatScaled(bytes, SIZE_SCALE, digits);
}

/** For people: "400 Gbit/s"; rounded. Infinity and 0 are "unlimited". */
export function formatRate(bitsPerSecond: number, digits = 4): string {
  if (bitsPerSecond === 0 || bitsPerSecond === Number.POSITIVE_INFINITY) return "unlimited";
  return formatScaled(bitsPerSecond, RATE_SCALE, digits);
}

/** For people: "25 ms", "1.234 s"; rounded. */
export function formatTime(ns: number, digits = 4): string {
  return formatScaled(ns, TIME_SCALE, digits);
}

/** For people: "0.1 %", "1.2e-5"; percent from 0.01 % up, a power of ten below. */
export function formatProbability(probability: number, digits = 3): string {
  if (probability === 0) return "0";
  if (probability >= 1e-4) return `${significant(probability * 100, digits)} %`;
  return Number(probability.toPrecision(digits)).toExponential();
}

/** The largest unit whose multiple is written exactly and short: what the parsers read back as is. */
function exact(value: number, scale: Scale): string {
  const written = scale
    .map(([factor, unit]) => [value / factor, factor, unit] as const)
    .filter(([number, factor]) => number >= 1 && number * factor === value)
    .map(([number, , unit]) => `${number}${unit}`)
    .filter((text) => !text.includes("e"));
  return written.reduce(
    (best, text) => (text.length < best.length ? text : best),
    written[0] ?? "",
  );
}

const EXACT_RATES: Scale = [
  [1e12, "tbit"],
  [1e9, "gbit"],
  [1e6, "mbit"],
  [1e3, "kbit"],
  [1, "bit"],
];
const EXACT_TIMES: Scale = [
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "us"],
  [1, "ns"],
];
const EXACT_SIZES: Scale = [
  [2 ** 40, "TiB"],
  [1e12, "TB"],
  [2 ** 30, "GiB"],
  [1e9, "GB"],
  [2 ** 20, "MiB"],
  [1e6, "MB"],
  [2 ** 10, "KiB"],
  [1e3, "kB"],
  [1, "B"],
];

/** Text that parseSize reads back as the same number of bytes. */
export function sizeText(bytes: number): string {
  const whole = EXACT_SIZES.filter(([factor]) => bytes % factor === 0);
  return exact(bytes, whole) || String(bytes);
}

/** Text that parseRate reads back as the same rate; any finite rate above 0. */
export function rateText(bitsPerSecond: number): string {
  return exact(bitsPerSecond, EXACT_RATES) || `${bitsPerSecond}bit`;
}

/** Text that parseTime reads back as the same whole nanoseconds. */
export function timeText(ns: number): string {
  return exact(ns, EXACT_TIMES) || `${ns}ns`;
}

/** Text that parseProbability reads back as the same number: "0.1%" or, where shorter, "1e-7". */
export function probabilityText(probability: number): string {
  if (probability === 0) return "0%";
  const plain = String(probability);
  const percent = String(Number((probability * 100).toPrecision(15)));
  const text = `${percent}%`;
  if (percent.includes("e") || hundredth(percent) !== probability) return plain;
  return text.length <= plain.length || probability >= 0.001 ? text : plain;
}
