/**
 * Records of what a path did to packets, from text: 0 and 1 (one character a packet, blanks ignored; bytes 0 and 1
 * too), or lines of sequence,sent_ns,received_ns in the order of sending, received_ns empty where a packet was lost.
 */
import { SdrError } from "../base/errors.ts";
import { LINK_LIMITS } from "./model.ts";

export interface PathRecord {
  /** One byte a packet in the order of sending; 1 is lost. */
  readonly lost: Uint8Array;
  /** Of those that arrived, where times were recorded, ns. */
  readonly delaysNs?: Float64Array;
}

export const RECORD_LIMITS = {
  packetsMax: LINK_LIMITS.lossTracePacketsMax,
  /** Of the text; a line of two times in nanoseconds since 1970 has about 45 characters. */
  charactersMax: 256 * 2 ** 20,
} as const;

const HEADER = /^sequence\s*,\s*sent_ns\s*,\s*received_ns$/i;
const LINE_SHOWN_MAX = 40;

function refuse(problem: string, remedy: string): never {
  throw new SdrError("INVALID_ARGUMENT", problem, remedy);
}

function tooMany(): never {
  refuse(`more than ${RECORD_LIMITS.packetsMax} packets`, "record fewer, or cut the record");
}

/** Errors: INVALID_ARGUMENT, naming the line or character. */
export function parseRecord(text: string): PathRecord {
  const { charactersMax } = RECORD_LIMITS;
  if (text.length > charactersMax)
    refuse(`a record of ${text.length} characters`, `give at most ${charactersMax}`);
  if (!/\S/.test(text)) refuse("the record is empty", "give 0 and 1, or lines of a CSV");
  return text.includes(",") ? parseLines(text) : { lost: parseBits(text) };
}

const CODES = { zero: 0x30, one: 0x31 } as const;

function isBlank(code: number): boolean {
  return code === 0x20 || (code >= 0x09 && code <= 0x0d);
}

function parseBits(text: string): Uint8Array {
  const bits = new Uint8Array(Math.min(text.length, RECORD_LIMITS.packetsMax));
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (isBlank(code)) continue;
    const bit = code === 0 || code === CODES.zero ? 0 : code === 1 || code === CODES.one ? 1 : -1;
    if (bit < 0) {
      const shown = JSON.stringify(text[i]);
      refuse(`character ${i + 1} is ${shown}`, "give 0 (arrives), 1 (lost) and blanks, or a CSV");
    }
    if (count === bits.length) tooMany();
    bits[count++] = bit;
  }
  return bits.slice(0, count);
}

const FORM = "each line is sequence,sent_ns,received_ns in whole numbers, the last empty if lost";
const LINE = /^(\d{1,19}),(\d{1,19}),(\d{0,19})$/;

function parseLines(text: string): PathRecord {
  // A line cut short could pass for a lost packet, or for an earlier arrival.
  if (!text.endsWith("\n"))
    refuse("the last line has no end", "the file seems cut off: record again, or end the line");
  const lost: number[] = [];
  const delays: number[] = [];
  let line = 0;
  let next: bigint | undefined;
  for (let at = 0, end = 0; at < text.length; at = end + 1) {
    end = text.indexOf("\n", at);
    const content = text.slice(at, end).trim();
    line++;
    if (content === "" || (line === 1 && HEADER.test(content))) continue;
    const parts = LINE.exec(content.replace(/\s+/g, ""));
    if (parts === null) {
      const shown = JSON.stringify(content.slice(0, LINE_SHOWN_MAX));
      refuse(`line ${line} is ${shown}`, FORM);
    }
    if (lost.length === RECORD_LIMITS.packetsMax) tooMany();
    const [, sequence, sent, received] = parts as unknown as [string, string, string, string];
    if (next !== undefined && BigInt(sequence) !== next)
      refuse(
        `line ${line} has sequence ${sequence} where ${next} follows`,
        "give every packet in the order of sending, lost ones too",
      );
    next = BigInt(sequence) + 1n;
    lost.push(received === "" ? 1 : 0);
    if (received === "") continue;
    // Nanoseconds since 1970 are beyond a number's whole digits; their difference is not.
    const delay = Number(BigInt(received) - BigInt(sent));
    if (delay < 0)
      refuse(
        `line ${line}: received ${-delay} ns before it was sent`,
        "record both times by one clock, or by synchronised ones",
      );
    delays.push(delay);
  }
  if (lost.length === 0) refuse("the record has a heading and no packets", FORM);
  return { lost: Uint8Array.from(lost), delaysNs: Float64Array.from(delays) };
}
