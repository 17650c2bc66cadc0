/** sdr model: the completion time of one message over a link, from formulas. */
import { Command } from "commander";
import { check } from "../base/errors.ts";
import { formatSize, formatTime } from "../base/units.ts";
import { describeLink, formatLink, type LinkProfile } from "../link/profile.ts";
import { boundNs, idealNs } from "../model/bounds.ts";
import { predict } from "../model/predict.ts";
import { parseScheme, SCHEME_NAMES } from "../model/scheme.ts";
import { settingOf } from "../model/setting.ts";
import type { Setting } from "../model/types.ts";
import { parsePolicy } from "../reliability/registry.ts";
import { modelResult, modelTable } from "../report/model.ts";
import { usage } from "./failure.ts";
import { collect, parseLinkOption, parseSizeWithin } from "./options.ts";
import { note, print, printJson } from "./terminal.ts";

/** 2 TiB in chunks of 1 KiB. */
const MESSAGE_BYTES_MAX = 2 ** 44;
/** A link's text in the output; a longer one (a trace) is named as it was given. */
const LINK_TEXT_MAX = 1000;
/** Rows that are no policy: what nothing is better than. */
const REFERENCES = ["ideal", "bound"];

interface Texts {
  readonly size: string;
  readonly link: string;
  readonly reverseLink?: string;
  readonly policy?: string[];
  readonly packet: string;
  readonly chunk: string;
  readonly json?: true;
}

interface Question {
  readonly setting: Setting;
  readonly forward: LinkProfile;
  readonly linkText: string;
  readonly reverseText: string;
  readonly policies: readonly string[];
  readonly json: boolean;
}

function textOf(link: LinkProfile, given: string): string {
  const text = formatLink(link);
  return text.length <= LINK_TEXT_MAX ? text : given;
}

/** The policy's canonical text, as other commands show it. */
function canonical(text: string): string {
  return REFERENCES.includes(text) ? text : parsePolicy(text).name;
}

function read(given: Texts): Question {
  const reverseText = given.reverseLink ?? given.link;
  const forward = parseLinkOption(given.link);
  const reverse = parseLinkOption(reverseText);
  const sizes = {
    bytes: parseSizeWithin("size", given.size, 0, MESSAGE_BYTES_MAX),
    packetBytes: parseSizeWithin("packet", given.packet, 64, 65_000),
    chunkBytes: parseSizeWithin("chunk", given.chunk, 64, 2 ** 30),
  };
  const setting = settingOf(forward, reverse, sizes);
  const policies = (given.policy ?? SCHEME_NAMES).map(canonical);
  check(new Set(policies).size === policies.length, "a policy is given twice", "give each once");
  for (const policy of policies) parseScheme(policy, setting);
  return {
    setting,
    forward,
    linkText: textOf(forward, given.link),
    reverseText: textOf(reverse, reverseText),
    policies,
    json: given.json === true,
  };
}

function run(options: object): void {
  const question = usage(() => read(options as Texts));
  const { setting, forward, policies, json, linkText, reverseText } = question;
  const { bytes } = setting;
  const chunks = Math.ceil(bytes / setting.chunkBytes);
  const packets = Math.ceil(bytes / setting.packetBytes);
  const ideal = idealNs(setting);
  const bound = boundNs(setting);
  const results = policies.map((policy) =>
    modelResult(predict(parseScheme(policy, setting), setting), { policy, bytes, idealNs: ideal }),
  );
  if (json) {
    printJson({
      link: linkText,
      reverseLink: reverseText,
      message: { bytes, chunks, packets },
      idealNs: ideal,
      boundNs: bound,
      results,
    });
    return;
  }
  const parts = `${chunks} chunks of ${packets} packets`;
  note(`${formatSize(bytes)} in ${parts} over ${describeLink(forward)}`);
  note(`lossless ${formatTime(ideal)}, bound ${formatTime(bound)}`);
  print(modelTable(results));
}

export function modelCommand(): Command {
  return new Command("model")
    .description("completion times of one message over a link, from formulas")
    .option("--size <size>", "the message", "128MiB")
    .option("--link <link>", "a profile, or terms of tc-netem", "wan-3750km")
    .option("--reverse-link <link>", "the way back (default: the same link)")
    .option("--policy <policy>", "may be given several times (default: all)", collect)
    .option("--packet <size>", "payload of a packet", "4KiB")
    .option("--chunk <size>", "one bit of the bitmap, whole packets", "64KiB")
    .option("--json", "print one JSON document on stdout")
    .action(run);
}
