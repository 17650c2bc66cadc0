/**
 * The text form of a link: terms of tc-netem(8), a profile's name, or a name and overriding terms.
 *
 *   rate R [PACKETOVERHEAD]
 *   delay T [JITTER [CORRELATION]] [distribution uniform|normal|pareto|paretonormal]
 *   loss [random] P [CORRELATION] | loss gemodel P [R [1-H [1-K]]] | loss size BYTES:P,...
 *        | loss trace 0010... | loss trace @FILE (where the caller reads files)
 *   duplicate P [CORRELATION]   corrupt P [CORRELATION]   reorder P [CORRELATION] [gap N]
 *   limit PACKETS               drop KIND N[-M]
 *
 * Differences to netem: a time needs its unit, and P is `0.1%` or a plain probability below 1 such as
 * 1e-3 (netem would read that as a percentage); a plain number of 1 or more is refused.
 */
import { SdrError } from "../base/errors.ts";
import {
  formatProbability,
  formatRate,
  formatSize,
  formatTime,
  parseProbability,
  parseRate,
  parseSize,
  parseTime,
  probabilityText,
  rateText,
  timeText,
} from "../base/units.ts";
import {
  checkLink,
  type DelayDistribution,
  LINK_LIMITS,
  type LinkProfile,
  normalizeLink,
  PACKET_KINDS,
} from "./model.ts";
import { findProfile, PROFILES } from "./profiles.ts";

export * from "./model.ts";
export { findProfile, type NamedProfile, PROFILES } from "./profiles.ts";

export interface ParseLinkOptions {
  /** Contents of the file of `loss trace @FILE`; without it such a term is refused. */
  readonly readTrace?: (path: string) => string;
}

/** Each term's allowed form; also the list of terms. */
const FORMS = {
  rate: "rate R [PACKETOVERHEAD], for example rate 10gbit",
  delay:
    "delay T [JITTER [CORRELATION]] [distribution uniform|normal|pareto|paretonormal], " +
    "for example delay 12.5ms 0.5ms distribution normal",
  loss:
    "loss P [CORRELATION], loss gemodel P [R [1-H [1-K]]], loss size BYTES:P,... or " +
    "loss trace BITS, for example loss 0.1%",
  duplicate: "duplicate P [CORRELATION], for example duplicate 0.01%",
  corrupt: "corrupt P [CORRELATION], for example corrupt 0.01%",
  reorder: "reorder P [CORRELATION] [gap N], for example reorder 0.5% 50%",
  limit: "limit PACKETS, for example limit 1000",
  drop: `drop KIND N[-M] with KIND one of ${PACKET_KINDS.join(", ")}, for example drop ack 1-3`,
} as const;
type Term = keyof typeof FORMS;

function isTerm(word: string): word is Term {
  return Object.hasOwn(FORMS, word);
}

function refuse(term: Term, problem: string): never {
  throw new SdrError("INVALID_ARGUMENT", `link term "${term}": ${problem}`, `write ${FORMS[term]}`);
}

/** The words of one term, taken in order. */
class Words {
  readonly term: Term;
  readonly #words: readonly string[];
  #at = 0;

  constructor(term: Term, words: readonly string[]) {
    this.term = term;
    this.#words = words;
  }

  peek(): string | undefined {
    return this.#words[this.#at];
  }

  /** Takes the next word if it is `word`. */
  accept(word: string): boolean {
    if (this.peek()?.toLowerCase() !== word) return false;
    this.#at++;
    return true;
  }

  next(what: string): string {
    const word = this.peek() ?? refuse(this.term, `${what} is missing`);
    this.#at++;
    return word;
  }

  /** The next word parsed by `parse`, whose complaint is told with this term's form. */
  value(what: string, parse: (text: string, what: string) => number): number {
    const word = this.next(what);
    try {
      return parse(word, what);
    } catch (error) {
      if (!(error instanceof SdrError)) throw error;
      const problem = error.message.replace(` (${error.remedy})`, "");
      throw new SdrError(
        "INVALID_ARGUMENT",
        `link term "${this.term}": ${problem}`,
        `${error.remedy}; the term is ${FORMS[this.term]}`,
        { cause: error },
      );
    }
  }

  /** As value, or undefined when no word is left or the next one begins something else. */
  optional(
    what: string,
    parse: (text: string, what: string) => number,
    stop = "",
  ): number | undefined {
    const word = this.peek();
    if (word === undefined || word.toLowerCase() === stop) return undefined;
    return this.value(what, parse);
  }

  end(): void {
    const extra = this.peek();
    if (extra !== undefined) refuse(this.term, `"${extra}" is not expected here`);
  }
}

/** A percentage, or a plain number below 1; 1 and more could mean percent, so it is not guessed. */
function parseShare(text: string, what: string): number {
  const value = parseProbability(text, what);
  if (value === 1 && !text.trim().endsWith("%")) {
    throw new SdrError("INVALID_ARGUMENT", `${what} "${text}" is ambiguous`, "write 1% or 100%");
  }
  return value;
}

function parseWhole(text: string, what: string): number {
  const value = /^[+-]?\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) {
    throw new SdrError("INVALID_ARGUMENT", `${what} "${text}"`, "give a whole number");
  }
  return value;
}

type Fields = { -readonly [K in keyof LinkProfile]?: LinkProfile[K] | undefined };

function parseDelay(words: Words): Fields {
  const delayNs = words.value("delay", parseTime);
  const jitterNs = words.optional("jitter", parseTime, "distribution");
  const delayCorrelation = words.optional("correlation", parseShare, "distribution");
  if (!words.accept("distribution")) return { delayNs, jitterNs, delayCorrelation };
  if (jitterNs === undefined) refuse("delay", "a distribution needs a jitter");
  const distribution = words.next("distribution").toLowerCase() as DelayDistribution;
  return { delayNs, jitterNs, delayCorrelation, distribution };
}

/** `loss gemodel p [r [1-h [1-k]]]`; as in netem r is 1 - p, 1-h is 100% and 1-k 0 when not given. */
function parseGilbertElliott(words: Words): Fields {
  const geP = words.value("p", parseShare);
  const geR = words.optional("r", parseShare) ?? 1 - geP;
  const geLossBad = words.optional("1-h", parseShare) ?? 1;
  const geLossGood = words.optional("1-k", parseShare) ?? 0;
  return { loss: "gilbert_elliott", geP, geR, geLossBad, geLossGood };
}

function parseLossBySize(words: Words): Fields {
  const list = words.next("BYTES:P,...").split(",");
  if (list.length > LINK_LIMITS.lossSizesMax) {
    refuse("loss", `more than ${LINK_LIMITS.lossSizesMax} sizes`);
  }
  const lossBySize = list.map((pair): [number, number] => {
    const sides = new Words("loss", pair.split(":"));
    const point: [number, number] = [
      sides.value("size", parseSize),
      sides.value("probability", parseShare),
    ];
    sides.end();
    return point;
  });
  return { loss: "by_size", lossBySize };
}

function parseTrace(words: Words, options: ParseLinkOptions): Fields {
  const word = words.next("trace");
  let bits = word;
  if (word.startsWith("@")) {
    if (options.readTrace === undefined) refuse("loss", `the file ${word} cannot be read here`);
    bits = options.readTrace(word.slice(1)).replace(/\s+/g, "");
  }
  const most = LINK_LIMITS.lossTracePacketsMax;
  if (bits.length > most) refuse("loss", `a trace of more than ${most} packets`);
  const wrong = bits.search(/[^01]/);
  if (wrong >= 0) {
    refuse("loss", `trace character ${wrong + 1} is "${bits[wrong]}", not 0 (arrives) or 1 (lost)`);
  }
  return { loss: "trace", lossTrace: Uint8Array.from(bits, (bit) => (bit === "1" ? 1 : 0)) };
}

function parseLoss(words: Words, options: ParseLinkOptions): Fields {
  if (words.accept("gemodel")) return parseGilbertElliott(words);
  if (words.accept("size")) return parseLossBySize(words);
  if (words.accept("trace")) return parseTrace(words, options);
  if (words.accept("none")) return { loss: "none" };
  words.accept("random");
  return {
    loss: "bernoulli",
    lossProbability: words.value("probability", parseShare),
    lossCorrelation: words.optional("correlation", parseShare),
  };
}

function parseReorder(words: Words): Fields {
  const reorderProbability = words.value("probability", parseShare);
  const reorderCorrelation = words.optional("correlation", parseShare, "gap");
  const reorderGap = words.accept("gap") ? words.value("gap", parseWhole) : undefined;
  return { reorderProbability, reorderCorrelation, reorderGap };
}

function parseDrop(words: Words): Fields {
  const name = words.next("kind").toLowerCase();
  const kind = (PACKET_KINDS as readonly string[]).indexOf(name);
  if (kind < 0) refuse("drop", `kind "${name}" is unknown`);
  const range = words.next("number");
  const parts = /^(\d{1,16})(?:-(\d{1,16}))?$/.exec(range);
  if (parts === null) refuse("drop", `"${range}" is not a number N or a range N-M`);
  const first = Number(parts[1]);
  return { drops: [{ kind, first, last: Number(parts[2] ?? first) }] };
}

/** What each term says; a field that is undefined takes back what a profile said. */
function parseTerm(words: Words, options: ParseLinkOptions): Fields {
  switch (words.term) {
    case "rate":
      return {
        rateBps: words.value("rate", parseRate),
        packetOverheadBytes: words.optional("packet overhead", parseWhole),
      };
    case "delay":
      return { distribution: undefined, ...parseDelay(words) };
    case "loss":
      return parseLoss(words, options);
    case "duplicate":
      return {
        duplicateProbability: words.value("probability", parseShare),
        duplicateCorrelation: words.optional("correlation", parseShare),
      };
    case "corrupt":
      return {
        corruptProbability: words.value("probability", parseShare),
        corruptCorrelation: words.optional("correlation", parseShare),
      };
    case "reorder":
      return parseReorder(words);
    case "limit":
      return { limitPackets: words.value("packets", parseWhole) };
    case "drop":
      return parseDrop(words);
  }
}

/** The words of each term, in order of appearance. */
function splitTerms(words: readonly string[]): Words[] {
  const terms: { term: Term; words: string[] }[] = [];
  for (const word of words) {
    const lower = word.toLowerCase();
    if (isTerm(lower)) {
      if (lower !== "drop" && terms.some(({ term }) => term === lower)) {
        refuse(lower, "given twice");
      }
      terms.push({ term: lower, words: [] });
    } else {
      terms[terms.length - 1]?.words.push(word);
    }
  }
  return terms.map(({ term, words: rest }) => new Words(term, rest));
}

function unknownName(name: string): never {
  const names = PROFILES.map((profile) => profile.name).join(", ");
  throw new SdrError(
    "INVALID_ARGUMENT",
    `link "${name}" is neither a profile nor a term`,
    `give one of ${names}, or terms such as "rate 10gbit delay 5ms loss 0.1%"`,
  );
}

/**
 * One direction from its text. A term given after a profile's name replaces the profile's own.
 * `drop` terms add up. The result is normal: no field that changes nothing.
 * Errors: INVALID_ARGUMENT, naming the term and its allowed form; whatever `readTrace` throws.
 */
export function parseLink(text: string, options: ParseLinkOptions = {}): LinkProfile {
  const words = text
    .trim()
    .split(/\s+/)
    .filter((word) => word !== "");
  const first = words[0];
  if (first === undefined) {
    throw new SdrError("INVALID_ARGUMENT", "the link is empty", 'give "none" for a clear one');
  }
  const fields: Fields = {};
  let rest = words;
  if (!isTerm(first.toLowerCase())) {
    const profile = findProfile(first) ?? unknownName(first);
    if (profile.text !== "") Object.assign(fields, parseLink(profile.text));
    rest = words.slice(1);
    if (rest.length === 0) fields.name = profile.name;
    else if (!isTerm(rest[0]!.toLowerCase())) unknownName(`${first} ${rest[0]}`);
  }
  for (const term of splitTerms(rest)) {
    const drops = fields.drops ?? [];
    const parsed = parseTerm(term, options);
    term.end();
    Object.assign(fields, parsed);
    if (parsed.drops !== undefined) fields.drops = [...drops, ...parsed.drops];
  }
  const link = Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  ) as LinkProfile;
  checkLink(link);
  return normalizeLink(link);
}

/** `text` parsed, or a profile object checked: what calls that take either use. */
export function toLink(link: string | LinkProfile): LinkProfile {
  if (typeof link === "string") return parseLink(link);
  checkLink(link);
  return normalizeLink(link);
}

/** A share as text, and its correlation when there is one. */
function shareText(probability: number, correlation = 0): string {
  const rest = correlation === 0 ? "" : ` ${probabilityText(correlation)}`;
  return probabilityText(probability) + rest;
}

function lossText(link: LinkProfile): string {
  switch (link.loss) {
    case "bernoulli":
      return `loss ${shareText(link.lossProbability ?? 0, link.lossCorrelation)}`;
    case "gilbert_elliott": {
      const { geP = 0, geR = 0, geLossBad = 1, geLossGood = 0 } = link;
      return `loss gemodel ${[geP, geR, geLossBad, geLossGood].map(probabilityText).join(" ")}`;
    }
    case "by_size": {
      const points = (link.lossBySize ?? []).map(([bytes, p]) => `${bytes}:${probabilityText(p)}`);
      return `loss size ${points.join(",")}`;
    }
    case "trace":
      return `loss trace ${Array.from(link.lossTrace ?? [], (bit) => (bit !== 0 ? 1 : 0)).join("")}`;
    default:
      return "";
  }
}

function delayText({ delayNs = 0, jitterNs, delayCorrelation, distribution }: LinkProfile): string {
  if (delayNs === 0 && jitterNs === undefined) return "";
  const parts = [`delay ${timeText(delayNs)}`];
  if (jitterNs !== undefined) parts.push(timeText(jitterNs));
  if (delayCorrelation !== undefined) parts.push(probabilityText(delayCorrelation));
  if (distribution !== undefined) parts.push(`distribution ${distribution}`);
  return parts.join(" ");
}

/** Text that parseLink reads back as the same link; "none" when there is nothing to say. */
export function formatLink(profile: LinkProfile): string {
  const link = normalizeLink(profile);
  const { rateBps, packetOverheadBytes, duplicateProbability, corruptProbability } = link;
  const { reorderProbability, reorderGap, limitPackets, drops = [] } = link;
  const overhead = packetOverheadBytes === undefined ? "" : ` ${packetOverheadBytes}`;
  const gap = reorderGap === undefined ? "" : ` gap ${reorderGap}`;
  const terms = [
    rateBps && `rate ${rateText(rateBps)}${overhead}`,
    delayText(link),
    lossText(link),
    duplicateProbability &&
      `duplicate ${shareText(duplicateProbability, link.duplicateCorrelation)}`,
    corruptProbability && `corrupt ${shareText(corruptProbability, link.corruptCorrelation)}`,
    reorderProbability && `reorder ${shareText(reorderProbability, link.reorderCorrelation)}${gap}`,
    limitPackets && `limit ${limitPackets}`,
    ...drops.map(
      ({ kind, first, last }) =>
        `drop ${PACKET_KINDS[kind]} ${first === last ? first : `${first}-${last}`}`,
    ),
  ];
  return terms.filter((term) => term).join(" ") || "none";
}

function describeLoss(link: LinkProfile): string | undefined {
  switch (link.loss) {
    case "bernoulli":
      return `${formatProbability(link.lossProbability ?? 0)} loss`;
    case "gilbert_elliott": {
      const { geP = 0, geR = 0, geLossBad = 1, geLossGood = 0 } = link;
      const bad = geP / (geP + geR);
      const mean = bad * geLossBad + (1 - bad) * geLossGood;
      const stay = geR === 0 ? "for good" : `of ${Number((1 / geR).toPrecision(3))} packets`;
      return `${formatProbability(mean)} loss on average, bad spells ${stay}`;
    }
    case "by_size": {
      const points = (link.lossBySize ?? []).map(
        ([bytes, p]) => `${formatProbability(p)} at ${formatSize(bytes)}`,
      );
      return `loss by payload: ${points.join(", ")}`;
    }
    case "trace":
      return `loss from a trace of ${link.lossTrace?.length ?? 0} packets`;
    default:
      return undefined;
  }
}

/** For people, one line: "400 Gbit/s, 12.5 ms one way, 1e-5 loss". */
export function describeLink(profile: LinkProfile): string {
  const link = normalizeLink(profile);
  const jitter =
    link.jitterNs === undefined
      ? ""
      : ` ± ${formatTime(link.jitterNs)} (${link.distribution ?? "uniform"})`;
  const share = (probability: number | undefined, what: string) =>
    probability === undefined ? undefined : `${formatProbability(probability)} ${what}`;
  const parts = [
    link.rateBps === undefined ? undefined : formatRate(link.rateBps),
    link.delayNs === undefined && jitter === ""
      ? undefined
      : `${formatTime(link.delayNs ?? 0)}${jitter} one way`,
    describeLoss(link),
    share(link.duplicateProbability, "duplicated"),
    share(link.corruptProbability, "corrupted"),
    share(link.reorderProbability, "reordered"),
    link.limitPackets === undefined ? undefined : `queue of ${link.limitPackets} packets`,
    link.drops === undefined
      ? undefined
      : `${link.drops.length} drop rule${link.drops.length === 1 ? "" : "s"}`,
  ];
  return parts.filter((part) => part !== undefined).join(", ") || "no impairment";
}
