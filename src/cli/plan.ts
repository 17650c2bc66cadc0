/** sdr plan: which scheme, with which parameters, for one message over a link, and why. */
import { Command } from "commander";
import { check, SdrError } from "../base/errors.ts";
import { formatSize, formatTime, parseProbability } from "../base/units.ts";
import { describeLink, type LinkProfile } from "../link/profile.ts";
import { reasonFor } from "../model/plan-text.ts";
import { type Objective, type Plan, plan } from "../model/planner.ts";
import { predict } from "../model/predict.ts";
import { settingOf } from "../model/setting.ts";
import type { Setting } from "../model/types.ts";
import { planResult, planTable } from "../report/plan.ts";
import { usage } from "./failure.ts";
import { LINK_TEXT_MAX, linkText, parseLinkOption, parseSizeWithin } from "./options.ts";
import { note, print, printJson } from "./terminal.ts";

const MESSAGE_BYTES_MAX = 2 ** 44;
/** Chunk sizes that are looked at: this many packets' multiples by powers of two, within these. */
const CHUNK_BYTES_USUAL = 65_536;
const CHUNK_BYTES_MIN = 4096;
const CHUNK_BYTES_MAX = 2 ** 20;
/**
 * Another chunk size is taken only if it saves so much of the time: each chunk costs a policy a decision, about a
 * microsecond, and what is gained by a thousandth on paper is lost there.
 */
const WORTH_OTHER_CHUNKS = 0.01;
const OBJECTIVES: Readonly<Record<string, Objective>> = { mean: "mean", p99: 0.99, "p99.9": 0.999 };

interface Texts {
  readonly size: string;
  readonly link: string;
  readonly reverseLink?: string;
  readonly objective: string;
  readonly overheadMax?: string;
  readonly packet: string;
  readonly chunk?: string;
  readonly json?: true;
}

interface Question {
  readonly settings: readonly Setting[];
  readonly objective: Objective;
  readonly overheadMax: number;
  readonly forward: LinkProfile;
  readonly linkText: string;
  readonly reverseText: string;
  readonly json: boolean;
}

/** The size given; else the usual one first, then the others. */
function chunkSizes(given: string | undefined, packetBytes: number): number[] {
  if (given !== undefined) return [parseSizeWithin("chunk", given, 64, 2 ** 30)];
  const usual = packetBytes * Math.max(1, Math.round(CHUNK_BYTES_USUAL / packetBytes));
  const sizes = new Set([usual]);
  for (let bytes = packetBytes; bytes <= CHUNK_BYTES_MAX; bytes *= 2)
    if (bytes >= CHUNK_BYTES_MIN) sizes.add(bytes);
  return [...sizes];
}

function parseOverhead(text: string | undefined): number {
  if (text === undefined) return Infinity;
  return parseProbability(text, "overhead-max");
}

function read(given: Texts): Question {
  const reverseText = given.reverseLink ?? given.link;
  const forward = parseLinkOption(given.link);
  const reverse = parseLinkOption(reverseText);
  check(
    (forward.rateBps ?? 0) > 0,
    `link "${given.link.slice(0, LINK_TEXT_MAX)}" has no rate`,
    'planning weighs injection against delay: add one, such as "rate 400gbit"',
  );
  const objective = OBJECTIVES[given.objective];
  check(
    objective !== undefined,
    `objective "${given.objective}" is not known`,
    `give one of ${Object.keys(OBJECTIVES).join(", ")}`,
  );
  const bytes = parseSizeWithin("size", given.size, 1, MESSAGE_BYTES_MAX);
  const packetBytes = parseSizeWithin("packet", given.packet, 64, 65_000);
  return {
    settings: chunkSizes(given.chunk, packetBytes).map((chunkBytes) =>
      settingOf(forward, reverse, { bytes, packetBytes, chunkBytes }),
    ),
    objective,
    overheadMax: parseOverhead(given.overheadMax),
    forward,
    linkText: linkText(forward, given.link),
    reverseText,
    json: given.json === true,
  };
}

interface Found {
  readonly setting: Setting;
  readonly made: Plan;
}

/**
 * The first chunk size, unless another is better by more than what counts as the same. Sizes at which hardly a chunk
 * arrives are left out. Errors: UNSUPPORTED when that leaves none.
 */
function search({ settings, objective, overheadMax }: Question): Found {
  let best: Found | undefined;
  let refusal: unknown;
  for (const setting of settings) {
    try {
      const made = plan({ setting, objective, overheadMax, judge: predict });
      if (best === undefined || isBetter(made, best.made)) best = { setting, made };
    } catch (error) {
      if (!(error instanceof SdrError && error.code === "UNSUPPORTED")) throw error;
      refusal ??= error;
    }
  }
  if (best === undefined) throw refusal;
  return best;
}

function isBetter(a: Plan, b: Plan): boolean {
  if (a.isWithinOverhead !== b.isWithinOverhead) return a.isWithinOverhead;
  if (!a.isWithinOverhead) return a.best.estimate.wireOverhead < b.best.estimate.wireOverhead;
  return a.best.valueNs < b.best.valueNs * (1 - WORTH_OTHER_CHUNKS);
}

function run(options: object): void {
  const question = usage(() => read(options as Texts));
  const { objective, overheadMax, forward, linkText, reverseText, json } = question;
  const { setting, made } = search(question);
  const { bytes, packetBytes, chunkBytes } = setting;
  const results = [made.best, ...made.runnersUp].map((entry) =>
    planResult(entry, setting, made.boundNs),
  );
  const reason = reasonFor(made, { setting, objective, overheadMax });
  const [best, ...runnersUp] = results;
  if (json) {
    printJson({
      link: linkText,
      reverseLink: reverseText,
      message: { bytes, packetBytes, chunkBytes, chunks: Math.ceil(bytes / chunkBytes) },
      objective: objective === "mean" ? "mean" : `p${objective * 100}`,
      overheadMax: overheadMax === Infinity ? null : overheadMax,
      chunkLoss: made.view.probability,
      burstChunks: made.view.burstChunks,
      idealNs: made.idealNs,
      boundNs: made.boundNs,
      isWithinOverhead: made.isWithinOverhead,
      best,
      runnersUp,
      reason,
    });
  } else {
    note(
      `${formatSize(bytes)} in chunks of ${formatSize(chunkBytes)} over ${describeLink(forward)}`,
    );
    note(`lossless ${formatTime(made.idealNs)}, bound ${formatTime(made.boundNs)}`);
    print(`${planTable(results)}\n${reason}\n`);
  }
  if (!made.isWithinOverhead) {
    throw new SdrError(
      "UNSUPPORTED",
      reason.replace(/\.$/, ""),
      "allow more, or choose another link",
    );
  }
}

export function planCommand(): Command {
  return new Command("plan")
    .description("the best scheme for one message over a link, its parameters, and why")
    .option("--size <size>", "the message", "128MiB")
    .option("--link <link>", "a profile, or terms of tc-netem", "wan-3750km")
    .option("--reverse-link <link>", "the way back (default: the same link)")
    .option("--objective <what>", "what is to be least: mean, p99 or p99.9", "p99.9")
    .option(
      "--overhead-max <share>",
      "most sent over the message's own, such as 10% (default: any)",
    )
    .option("--packet <size>", "payload of a packet", "4KiB")
    .option("--chunk <size>", "one bit of the bitmap (default: the best from 4KiB to 1MiB)")
    .option("--json", "print one JSON document on stdout")
    .action(run);
}
