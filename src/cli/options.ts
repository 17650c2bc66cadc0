/** Values of options, from text. Everything here throws SdrError for what it does not understand. */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { availableParallelism } from "node:os";
import { check, SdrError } from "../base/errors.ts";
import { parseRate, parseSize, parseTime } from "../base/units.ts";
import { formatLink, type LinkProfile, parseLink } from "../link/profile.ts";
import type { Policy } from "../reliability/policy.ts";
import { parsePolicy } from "../reliability/registry.ts";
import { fileError } from "./failure.ts";

const PEER_TIMEOUT_NS_MIN = 100e6;
const PEER_TIMEOUT_NS_MAX = 3600e9;
const JOBS_MAX = 256;
/** Of a link in output. */
export const LINK_TEXT_MAX = 1000;
const TRACE_FILE_BYTES_MAX = 64 << 20;

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export function parsePort(text: string, least = 0): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  check(port >= least && port <= 65535, `port "${text}" is not valid`, `use ${least} to 65535`);
  return port;
}

/** "host:port", "1.2.3.4:port" or "[::1]:port". */
export function parseEndpoint(text: string): Endpoint {
  const form = "give HOST:PORT, with brackets around an IPv6 address: [::1]:9000";
  const parts = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):([^:]*)$/.exec(text);
  const host = parts?.[1] ?? parts?.[2];
  if (parts === null || host === undefined) {
    throw new SdrError("INVALID_ARGUMENT", `address "${text}" is not understood`, form);
  }
  if (parts[1] !== undefined) {
    check(isIP(host) === 6, `"${host}" is not an IPv6 address`, form);
  }
  return { host, port: parsePort(parts[3] ?? "", 1) };
}

export function parseWhole(name: string, text: string, least: number, most: number): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  check(
    value >= least && value <= most,
    `${name} "${text}" is not valid`,
    `use a whole number from ${least} to ${most}`,
  );
  return value;
}

export function parseSizeWithin(name: string, text: string, least: number, most: number): number {
  const bytes = parseSize(text, name);
  check(
    bytes >= least && bytes <= most,
    `${name} "${text}" is not valid`,
    `use ${least} to ${most} bytes`,
  );
  return bytes;
}

/** Where all randomness of a run comes from. */
export function parseSeed(text: string): number {
  return parseWhole("seed", text, 0, 2 ** 53 - 1);
}

/** Threads; absent: one a core. */
export function parseJobs(text: string | undefined): number {
  return text === undefined ? availableParallelism() : parseWhole("jobs", text, 1, JOBS_MAX);
}

/** Bits a second; undefined for 0, "no limit". */
export function parsePace(text: string): number | undefined {
  return parseRate(text, "rate") || undefined;
}

export function parsePeerTimeout(text: string): number {
  const ns = parseTime(text, "peer timeout");
  const valid = ns >= PEER_TIMEOUT_NS_MIN && ns <= PEER_TIMEOUT_NS_MAX;
  check(valid, `peer timeout "${text}" is not valid`, "use 100ms to 3600s");
  return ns;
}

/** A link as output shows it: its terms, or as it was given where they are long, as a trace is. */
export function linkText(link: LinkProfile, given: string): string {
  const text = formatLink(link);
  return text.length <= LINK_TEXT_MAX ? text : given;
}

/** What one message over an emulated or modelled path is given by. */
export interface PathTexts {
  readonly size: string;
  readonly link: string;
  readonly reverseLink?: string;
  readonly packet: string;
  readonly chunk: string;
}

/** Both links, the way back like the way there unless it is given, and the sizes; `bytesMax`: the largest message. */
export function readPath(given: PathTexts, bytesMax: number) {
  return {
    forward: parseLinkOption(given.link),
    reverse: parseLinkOption(given.reverseLink ?? given.link),
    bytes: parseSizeWithin("size", given.size, 0, bytesMax),
    packetBytes: parseSizeWithin("packet", given.packet, 64, 65_000),
    chunkBytes: parseSizeWithin("chunk", given.chunk, 64, 2 ** 30),
  };
}

/** A link's text; `loss trace @FILE` reads the file. */
export function parseLinkOption(text: string): LinkProfile {
  return parseLink(text, { readTrace });
}

function readTrace(path: string): string {
  try {
    const bytes = readFileSync(path);
    const most = TRACE_FILE_BYTES_MAX;
    check(bytes.length <= most, `${path} has ${bytes.length} B`, `give a trace of at most ${most}`);
    return bytes.toString("latin1");
  } catch (error) {
    throw fileError(path, error);
  }
}

export function parsePolicies(texts: readonly string[]): Policy[] {
  return texts.map((text) => parsePolicy(text));
}

/** Collects the values of an option that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}
