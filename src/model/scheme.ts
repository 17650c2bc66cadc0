/** Schemes from the policies' text and back. The defaults are the policies' own; a test keeps them together. */
import { parseCall } from "../base/call-text.ts";
import { check, SdrError } from "../base/errors.ts";
import { pathViewOf } from "./hybrid.ts";
import { hybridShape } from "./parity.ts";
import { messageShape } from "./timing.ts";
import type { HybridShape, Scheme, Setting } from "./types.ts";

export const SCHEME_DEFAULTS = {
  alpha: 2,
  reorder: 1 / 64,
  k: 32,
  m: 8,
  beta: 1 / 4,
  target: 1e-4,
} as const;

/** Most chunks a block, data and parity together: the code's field has so many elements. */
const BLOCK_CHUNKS_MAX = 256;

type Options = Readonly<Record<string, number>>;

interface SchemeEntry {
  readonly name: Scheme["kind"];
  readonly options: readonly string[];
  read(options: Options, setting: Setting | undefined): Scheme;
}

const SHAPE = ["k", "rows", "parity", "interleave"] as const;

/** Of the policy, which chooses its shape for each message, or with a shape given in full. */
function readHybrid(options: Options, setting: Setting | undefined): Scheme {
  const [k, rows, parity, interleave] = SHAPE.map((name) => options[name]);
  const given = SHAPE.filter((name) => options[name] !== undefined).length;
  if (k !== undefined && rows !== undefined && parity !== undefined && interleave !== undefined)
    return { kind: "hybrid", shape: { k, rows, parity, interleave } };
  check(given === 0, "hybrid's shape is not complete", `give all of ${SHAPE.join(", ")}, or none`);
  const { target = SCHEME_DEFAULTS.target } = options;
  check(target >= 1e-9 && target <= 0.5, `target ${target} is out of range`, "give 1e-9 to 0.5");
  if (setting === undefined)
    throw new SdrError(
      "INVALID_ARGUMENT",
      "hybrid chooses its shape for each message",
      `name the message, or give ${SHAPE.join(", ")}`,
    );
  const chunks = Math.max(1, messageShape(setting).chunks);
  return { kind: "hybrid", shape: hybridShape(chunks, pathViewOf(setting), target) };
}

const SCHEMES: readonly SchemeEntry[] = [
  { name: "ideal", options: [], read: () => ({ kind: "ideal" }) },
  { name: "bound", options: [], read: () => ({ kind: "bound" }) },
  { name: "gbn", options: [], read: () => ({ kind: "gbn" }) },
  {
    name: "sr-rto",
    options: ["alpha"],
    read: ({ alpha = SCHEME_DEFAULTS.alpha }) => ({ kind: "sr-rto", alpha }),
  },
  {
    name: "sr-nack",
    options: ["alpha", "reorder"],
    read: ({ alpha = SCHEME_DEFAULTS.alpha, reorder = SCHEME_DEFAULTS.reorder }) => ({
      kind: "sr-nack",
      alpha,
      reorder,
    }),
  },
  ...(["ec-mds", "ec-xor"] as const).map(
    (kind): SchemeEntry => ({
      name: kind,
      options: ["k", "m", "beta"],
      read: ({ k, m, beta }) => ({
        kind,
        k: k ?? SCHEME_DEFAULTS.k,
        m: m ?? SCHEME_DEFAULTS.m,
        beta: beta ?? SCHEME_DEFAULTS.beta,
      }),
    }),
  ),
  {
    name: "hybrid",
    options: ["target", ...SHAPE],
    read: readHybrid,
  },
];

/** All, in the order of a table. */
export const SCHEME_NAMES: readonly string[] = SCHEMES.map(({ name }) => name);

function checkShape({ k, rows, parity, interleave }: HybridShape): void {
  const whole = (name: string, value: number, least: number, most: number) =>
    check(
      Number.isInteger(value) && value >= least && value <= most,
      `${name} ${value} of hybrid is out of range`,
      `give a whole number from ${least} to ${most}`,
    );
  whole("k", k, 1, BLOCK_CHUNKS_MAX);
  whole("rows", rows, 0, BLOCK_CHUNKS_MAX - k);
  whole("parity", parity, 0, rows);
  whole("interleave", interleave, 1, 2 ** 20);
}

/** Errors: INVALID_ARGUMENT for parameters that no policy takes. */
export function checkScheme(scheme: Scheme): void {
  const within = (name: string, value: number, isRight: boolean, allowed: string) =>
    check(isRight, `${name} ${value} of ${scheme.kind} is out of range`, `give ${allowed}`);
  if (scheme.kind === "sr-rto" || scheme.kind === "sr-nack") {
    const { alpha } = scheme;
    within("alpha", alpha, alpha >= 0.1 && alpha <= 100, "0.1 to 100");
  }
  if (scheme.kind === "sr-nack") {
    const { reorder } = scheme;
    within("reorder", reorder, reorder > 0 && reorder <= 1, "more than 0, at most 1");
  }
  if (scheme.kind === "ec-mds" || scheme.kind === "ec-xor") {
    const { kind, k, m, beta } = scheme;
    const isWhole = Number.isInteger(k) && Number.isInteger(m) && k >= 1 && m >= 1;
    const blocks = `whole numbers from 1, k + m at most ${BLOCK_CHUNKS_MAX}`;
    within("shape", k, isWhole && k + m <= BLOCK_CHUNKS_MAX, blocks);
    within("m", m, kind === "ec-mds" || m <= k, "at most k");
    within("beta", beta, beta > 0 && beta <= 16, "more than 0, at most 16");
  }
  if (scheme.kind === "hybrid") checkShape(scheme.shape);
}

/**
 * A scheme from a policy's text, canonical or not: "sr-rto", "ec-mds(32,8)", "sr-nack(alpha=1)"; also "ideal", "bound".
 * `setting` is the message's: "hybrid", "hybrid(target=1e-3)" choose their shape by it, as if its loss were known.
 * Errors: INVALID_ARGUMENT that names the value and lists what is known; without a setting for hybrid without a shape.
 */
export function parseScheme(text: string, setting?: Setting): Scheme {
  const { entry, options } = parseCall(text, SCHEMES, { one: "scheme", many: "schemes" });
  const scheme = entry.read(options, setting);
  checkScheme(scheme);
  return scheme;
}

/** The policy's canonical text: what has its default is left out, but for a code's shape. */
export function formatScheme(scheme: Scheme): string {
  const named = (options: readonly [key: string, value: number, usual: number][]) =>
    options.filter(([, value, usual]) => value !== usual).map(([key, value]) => `${key}=${value}`);
  const { alpha, reorder, beta } = SCHEME_DEFAULTS;
  const call = (options: readonly (string | number)[]) =>
    options.length === 0 ? scheme.kind : `${scheme.kind}(${options.join(",")})`;
  switch (scheme.kind) {
    case "sr-rto":
      return call(named([["alpha", scheme.alpha, alpha]]));
    case "sr-nack":
      return call(
        named([
          ["alpha", scheme.alpha, alpha],
          ["reorder", scheme.reorder, reorder],
        ]),
      );
    case "ec-mds":
    case "ec-xor":
      return call([scheme.k, scheme.m, ...named([["beta", scheme.beta, beta]])]);
    case "hybrid": {
      const { shape } = scheme;
      return call(SHAPE.map((name) => `${name}=${shape[name]}`));
    }
    default:
      return scheme.kind;
  }
}
