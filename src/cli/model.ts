/**
 * sdr model: the completion time of one message over a link, or of a collective operation over several, from formulas
 * or drawn at random.
 */
import { Command } from "commander";
import { check } from "../base/errors.ts";
import { formatSize, formatTime } from "../base/units.ts";
import { describeLink, type LinkProfile } from "../link/profile.ts";
import { boundNs, idealNs } from "../model/bounds.ts";
import { COLLECTIVES, makespanNs } from "../model/collectives.ts";
import { predict } from "../model/predict.ts";
import { parseScheme, SCHEME_NAMES } from "../model/scheme.ts";
import { settingOf } from "../model/setting.ts";
import type { Setting } from "../model/types.ts";
import { parsePolicy } from "../reliability/registry.ts";
import { type ModelResult, modelResult, modelTable } from "../report/model.ts";
import { type CollectiveShape, collectiveOf } from "./emulate/task.ts";
import type { TrialSetting } from "./emulate/trial.ts";
import { usage } from "./failure.ts";
import { referenceNs, samplePolicies } from "./model-jobs.ts";
import {
  collect,
  linkText,
  type PathTexts,
  parseJobs,
  parseSeed,
  parseWhole,
  readPath,
} from "./options.ts";
import { interruptible, note, print, printJson } from "./terminal.ts";

const SAMPLES_MAX = 10_000_000;
/** Of a collective operation, which has no formula. */
const SAMPLES_DEFAULT = "1000";

/** 2 TiB in chunks of 1 KiB. */
const MESSAGE_BYTES_MAX = 2 ** 44;
/** Rows that are no policy: what nothing is better than. */
const REFERENCES = ["ideal", "bound"];

interface Texts extends PathTexts {
  readonly policy?: string[];
  readonly samples?: string;
  readonly seed: string;
  readonly jobs?: string;
  readonly collective?: string;
  readonly datacenters: string;
  readonly json?: true;
}

/** What is drawn at random. */
interface Draws {
  readonly setting: TrialSetting;
  readonly trials: number;
  readonly jobs: number;
  readonly collective?: CollectiveShape;
}

interface Question {
  readonly setting: Setting;
  readonly forward: LinkProfile;
  readonly linkText: string;
  readonly reverseText: string;
  readonly policies: readonly string[];
  /** Absent: formulas. */
  readonly draws?: Draws;
  readonly json: boolean;
}

/** The policy's canonical text, as other commands show it. */
function canonical(text: string): string {
  return REFERENCES.includes(text) ? text : parsePolicy(text).name;
}

function readCollective({ collective, datacenters }: Texts): CollectiveShape | undefined {
  if (collective === undefined) return undefined;
  const kind = COLLECTIVES.find((name) => name === collective.toLowerCase());
  check(
    kind !== undefined,
    `collective "${collective}" is not known`,
    `give ${COLLECTIVES.join(", ")}`,
  );
  return { kind, datacenters: parseWhole("datacenters", datacenters, 2, 1024) };
}

/** What to draw, where something is; `setting` says over which links. */
function readDraws(given: Texts, setting: Omit<TrialSetting, "seed">): Draws | undefined {
  const collective = readCollective(given);
  const samples = given.samples ?? (collective === undefined ? undefined : SAMPLES_DEFAULT);
  if (samples === undefined) return undefined;
  const { jobs, seed } = given;
  return {
    setting: { ...setting, seed: parseSeed(seed) },
    trials: parseWhole("samples", samples, 1, SAMPLES_MAX),
    jobs: parseJobs(jobs),
    ...(collective === undefined ? {} : { collective }),
  };
}

function read(given: Texts): Question {
  const path = readPath(given, MESSAGE_BYTES_MAX);
  const { forward, reverse } = path;
  const setting = settingOf(forward, reverse, path);
  const policies = (given.policy ?? SCHEME_NAMES).map(canonical);
  check(new Set(policies).size === policies.length, "a policy is given twice", "give each once");
  for (const policy of policies) parseScheme(policy, setting);
  const draws = readDraws(given, path);
  if (draws?.collective !== undefined) {
    const task = { setting: draws.setting, policy: "ideal" };
    makespanNs(collectiveOf(task, draws.collective).options, () => 0); // Says what it cannot be.
  }
  return {
    setting,
    forward,
    ...(draws === undefined ? {} : { draws }),
    linkText: linkText(forward, given.link),
    reverseText: linkText(reverse, given.reverseLink ?? given.link),
    policies,
    json: given.json === true,
  };
}

interface Answers {
  readonly idealNs: number;
  readonly boundNs: number;
  readonly results: ModelResult[];
}

function fromFormulas({ policies, setting }: Question): Answers {
  const { bytes } = setting;
  const ideal = idealNs(setting);
  const results = policies.map((policy) =>
    modelResult(predict(parseScheme(policy, setting), setting), { policy, bytes, idealNs: ideal }),
  );
  return { idealNs: ideal, boundNs: boundNs(setting), results };
}

async function fromSamples({ policies, setting }: Question, draws: Draws): Promise<Answers> {
  const { collective, trials } = draws;
  const { bytes } = setting;
  const reference = (kind: "ideal" | "bound") =>
    collective === undefined
      ? predict({ kind }, setting).meanNs
      : referenceNs(draws.setting, collective, kind);
  const ideal = reference("ideal");
  const sampled = await interruptible((signal) => samplePolicies({ ...draws, policies }, signal));
  const results = sampled.map(({ prediction, ci95Ns }, index) => {
    const policy = policies[index] as string;
    return modelResult(prediction, { policy, bytes, idealNs: ideal, samples: { trials, ci95Ns } });
  });
  return { idealNs: ideal, boundNs: reference("bound"), results };
}

async function run(options: object): Promise<void> {
  const question = usage(() => read(options as Texts));
  const { draws, setting, forward, json, linkText, reverseText } = question;
  const { bytes } = setting;
  const chunks = Math.ceil(bytes / setting.chunkBytes);
  const packets = Math.ceil(bytes / setting.packetBytes);
  const answers = draws === undefined ? fromFormulas(question) : await fromSamples(question, draws);
  if (json) {
    printJson({
      link: linkText,
      reverseLink: reverseText,
      message: { bytes, chunks, packets },
      ...(draws === undefined ? {} : { seed: draws.setting.seed }),
      ...(draws?.collective === undefined ? {} : { collective: draws.collective }),
      ...answers,
    });
    return;
  }
  const parts = `${chunks} chunks of ${packets} packets`;
  const { collective } = draws ?? {};
  const what = collective && `${collective.kind} over ${collective.datacenters} datacenters, `;
  note(`${what ?? ""}${formatSize(bytes)} in ${parts} over ${describeLink(forward)}`);
  const drawn = draws && `, ${draws.trials} samples, seed ${draws.setting.seed}`;
  note(
    `lossless ${formatTime(answers.idealNs)}, bound ${formatTime(answers.boundNs)}${drawn ?? ""}`,
  );
  print(modelTable(answers.results));
}

export function modelCommand(): Command {
  return new Command("model")
    .description("completion times of one message over a link, from formulas or drawn at random")
    .option("--size <size>", "the message", "128MiB")
    .option("--link <link>", "a profile, or terms of tc-netem", "wan-3750km")
    .option("--reverse-link <link>", "the way back (default: the same link)")
    .option("--policy <policy>", "may be given several times (default: all)", collect)
    .option("--packet <size>", "payload of a packet", "4KiB")
    .option("--chunk <size>", "one bit of the bitmap, whole packets", "64KiB")
    .option("--samples <count>", "draw so many at random instead (default: formulas)")
    .option("--seed <seed>", "of what is drawn", "1")
    .option("--jobs <count>", "threads that draw (default: all cores)")
    .option("--collective <kind>", `Allreduce of --size: ${COLLECTIVES.join(", ")}; draws 1000`)
    .option("--datacenters <count>", "that take part in it, all as far from each other", "4")
    .option("--json", "print one JSON document on stdout")
    .action(run);
}
