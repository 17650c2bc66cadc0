/** Values of options, from text. Everything here throws SdrError for what it does not understand. */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { check, SdrError } from "../base/errors.ts";
import { parseRate, parseSize, parseTime } from "../base/units.ts";
import { type LinkProfile, parseLink } from "../link/profile.ts";
import type { Policy } from "../reliability/policy.ts";
import { parsePolicy } from "../reliability/registry.ts";
import { fileError } from "./failure.ts";

const PEER_TIMEOUT_NS_MIN = 100e6;
const PEER_TIMEOUT_NS_MAX = 3600e9;
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
