/** sdr emulate: the completion time of one message over a link, in virtual time, many times over. */
import { Command } from "commander";
import { check, SdrError } from "../../base/errors.ts";
import { formatSize, formatTime } from "../../base/units.ts";
import { describeLink, meanLoss, rttNs } from "../../link/profile.ts";
import { type EmulationResult, emulationTable, summarizeTrials } from "../../report/emulation.ts";
import { usage } from "../failure.ts";
import {
  collect,
  linkText,
  type PathTexts,
  parseJobs,
  parsePolicies,
  parseSeed,
  parseWhole,
  readPath,
} from "../options.ts";
import { Progress } from "../progress.ts";
import { interruptible, note, print, printJson } from "../terminal.ts";
import { runJobs } from "./jobs.ts";
import { COLUMN, COLUMNS, checkSetting, failureCode, type TrialSetting } from "./trial.ts";

const TRIALS_MAX = 1_000_000;
const MESSAGE_BYTES_MAX = 2 ** 44;
const WARMUP_MAX = 100_000;

interface Settings {
  readonly setting: TrialSetting;
  readonly linkText: string;
  readonly reverseText: string;
  readonly policies: readonly string[];
  readonly trials: number;
  readonly jobs: number;
  readonly json: boolean;
}

interface Texts extends PathTexts {
  readonly policy?: string[];
  readonly trials: string;
  readonly seed: string;
  readonly warmup: string;
  readonly jobs?: string;
  readonly json?: true;
}

function read(given: Texts): Settings {
  const setting: TrialSetting = {
    ...readPath(given, MESSAGE_BYTES_MAX),
    seed: parseSeed(given.seed),
    warmup: parseWhole("warmup", given.warmup, 0, WARMUP_MAX),
  };
  const parsed = parsePolicies(given.policy ?? ["sr-rto", "sr-nack", "ec-mds"]);
  checkSetting(setting, parsed);
  const policies = parsed.map(({ name }) => name);
  check(new Set(policies).size === policies.length, "a policy is given twice", "give each once");
  return {
    setting,
    linkText: linkText(setting.forward, given.link),
    reverseText: linkText(setting.reverse, given.reverseLink ?? given.link),
    policies,
    trials: parseWhole("trials", given.trials, 1, TRIALS_MAX),
    jobs: parseJobs(given.jobs),
    json: given.json === true,
  };
}

interface Lines {
  readonly chunks: number;
  readonly packets: number;
  /** M T_inj + RTT: nothing is lost. */
  readonly idealNs: number;
  /** M T_inj / (1 - P) + RTT, P the chunks' loss were packets lost independently: the erasure channel's limit. */
  readonly boundNs: number | null;
}

function referenceLines({ bytes, packetBytes, chunkBytes, forward, reverse }: TrialSetting): Lines {
  const packets = Math.ceil(bytes / packetBytes);
  const chunks = Math.ceil(bytes / chunkBytes);
  const wireBytes = bytes + packets * (forward.packetOverheadBytes ?? 0);
  const injectionNs = forward.rateBps ? (wireBytes * 8e9) / forward.rateBps : 0;
  const packetsPerChunk = Math.min(Math.max(1, packets), chunkBytes / packetBytes);
  const packetLoss = meanLoss(forward, Math.min(packetBytes, Math.max(1, bytes)));
  const delivered = (1 - packetLoss) ** packetsPerChunk;
  const rtt = rttNs(forward, reverse);
  return {
    chunks,
    packets,
    idealNs: injectionNs + rtt,
    boundNs: delivered === 0 ? null : injectionNs / delivered + rtt,
  };
}

function column(rows: Float64Array, index: number): number[] {
  const values: number[] = [];
  for (let at = 0; at < rows.length; at += COLUMNS) {
    if (rows[at + COLUMN.failure] === 0) values.push(rows[at + index] as number);
  }
  return values;
}

function resultOf(
  policy: string,
  rows: Float64Array,
  settings: Settings,
  idealNs: number,
): EmulationResult {
  const columns = {
    completionNs: column(rows, COLUMN.completionNs),
    wireBytes: column(rows, COLUMN.wireBytes),
    chunksRetransmitted: column(rows, COLUMN.chunksRetransmitted),
    controlFrames: column(rows, COLUMN.controlFrames),
    parityChunks: column(rows, COLUMN.parityChunks),
    chunksRecovered: column(rows, COLUMN.chunksRecovered),
    parityWasted: column(rows, COLUMN.parityWasted),
    fallbacks: column(rows, COLUMN.fallbacks),
  };
  const { trials, setting } = settings;
  return summarizeTrials(columns, { policy, trials, messageBytes: setting.bytes, idealNs });
}

/** Number of the first trial that failed, and why. */
function firstFailure(results: ReadonlyMap<string, Float64Array>): SdrError | undefined {
  for (const [policy, rows] of results) {
    for (let at = 0; at < rows.length; at += COLUMNS) {
      const number = rows[at + COLUMN.failure] as number;
      if (number === 0) continue;
      const what = `trial ${at / COLUMNS} of ${policy} was not delivered`;
      return new SdrError(
        failureCode(number),
        what,
        "look at the link's loss, or choose another policy",
      );
    }
  }
  return undefined;
}

async function run(options: object): Promise<void> {
  const settings = usage(() => read(options as Texts));
  await interruptible((signal) => emulate(settings, signal));
}

async function emulate(settings: Settings, signal: AbortSignal): Promise<void> {
  const { setting, policies, trials, linkText, reverseText, json } = settings;
  const { chunks, packets, idealNs, boundNs } = referenceLines(setting);
  const { bytes, forward, seed } = setting;
  if (!json) {
    note(
      `${formatSize(bytes)} in ${chunks} chunks of ${packets} packets over ${describeLink(forward)}`,
    );
    const bound = boundNs === null ? "none" : formatTime(boundNs);
    note(`lossless ${formatTime(idealNs)}, bound ${bound}, ${trials} trials, seed ${seed}`);
  }
  const rows = await runAll(settings, signal);
  const results = policies.map((policy) =>
    resultOf(policy, rows.get(policy) as Float64Array, settings, idealNs),
  );
  const message = { bytes, chunks, packets };
  if (json)
    printJson({
      link: linkText,
      reverseLink: reverseText,
      seed,
      message,
      idealNs,
      boundNs,
      results,
    });
  else print(emulationTable(results));
  const failure = firstFailure(rows);
  if (failure !== undefined) throw failure;
}

/** Rows of every policy's trials. */
async function runAll(
  { setting, policies, trials, jobs }: Settings,
  signal: AbortSignal,
): Promise<Map<string, Float64Array>> {
  const rows: Float64Array[] = [];
  const tasks = policies.map((policy) => ({ kind: "emulated" as const, setting, policy, trials }));
  using progress = new Progress({ label: "trials", total: trials * tasks.length, format: String });
  let done = 0;
  await runJobs(tasks, {
    jobs,
    signal,
    onTrials: (_, count) => progress.update((done += count)),
    onDone: (index, numbers) => {
      rows[index] = numbers;
    },
  });
  return new Map(policies.map((policy, index) => [policy, rows[index] as Float64Array]));
}

export function emulateCommand(): Command {
  return new Command("emulate")
    .description("completion times of one message over a link, in virtual time")
    .option("--size <size>", "the message", "128MiB")
    .option("--link <link>", "a profile, or terms of tc-netem", "wan-3750km")
    .option("--reverse-link <link>", "the way back (default: the same link)")
    .option(
      "--policy <policy>",
      "may be given several times (default: sr-rto, sr-nack and ec-mds)",
      collect,
    )
    .option("--trials <number>", "messages sent, each in a world of its own", "1000")
    .option("--seed <number>", "all randomness comes from it", "1")
    .option("--warmup <number>", "messages before the one that counts, in its connection", "0")
    .option("--jobs <number>", "threads (default: one a core); results do not depend on it")
    .option("--packet <size>", "payload of a packet", "4KiB")
    .option("--chunk <size>", "one bit of the bitmap, whole packets", "64KiB")
    .option("--json", "print one JSON document on stdout")
    .action(run);
}
