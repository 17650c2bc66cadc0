/** The info blob two queue pairs exchange out of band: JSON in UTF-8, checked field by field when read. */
import { SdrError } from "../base/errors.ts";
import { infoError, type TransportInfo } from "../transport/transport.ts";
import type { ResolvedAttributes } from "./attributes.ts";

const INFO_VERSION = 1;
export const INFO_BYTES_MAX = 8192;

/** What both ends must have alike. */
const AGREED = ["packetBytes", "chunkBytes", "maxMessages", "generations"] as const;

export interface PeerInfo {
  readonly transport: TransportInfo;
  readonly receiveBufferBytes: number;
}

export function encodeInfo(
  attributes: ResolvedAttributes,
  receiveBufferBytes: number,
  transport: TransportInfo,
): Uint8Array {
  const agreed = Object.fromEntries(AGREED.map((name) => [name, attributes[name]]));
  const buffer = Number.isFinite(receiveBufferBytes) ? receiveBufferBytes : 0; // 0: no limit
  return new TextEncoder().encode(
    JSON.stringify({
      sdr: INFO_VERSION,
      ...agreed,
      split: attributes.split,
      receiveBufferBytes: buffer,
      transport,
    }),
  );
}

/** Reads the agreed attributes of a peer's info, e.g. for a listener that takes over what the peer proposes. */
export function readInfo(info: Uint8Array): Record<string, unknown> {
  if (!(info instanceof Uint8Array)) throw infoError("is not a Uint8Array");
  if (info.byteLength > INFO_BYTES_MAX)
    throw infoError(`has ${info.byteLength} B, more than ${INFO_BYTES_MAX}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(info));
  } catch (cause) {
    throw infoError("is not readable", cause);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw infoError("is not an info");
  const fields = parsed as Record<string, unknown>;
  if (fields.sdr !== INFO_VERSION)
    throw infoError(`is of version ${JSON.stringify(fields.sdr)}, this is ${INFO_VERSION}`);
  return fields;
}

export function decodeInfo(info: Uint8Array, own: ResolvedAttributes): PeerInfo {
  const fields = readInfo(info);
  for (const name of AGREED) {
    if (fields[name] !== own[name]) throw differs(name, String(fields[name]), String(own[name]));
  }
  if (JSON.stringify(fields.split) !== JSON.stringify(own.split))
    throw differs("split", JSON.stringify(fields.split), JSON.stringify(own.split));
  const { receiveBufferBytes: buffer, transport } = fields;
  if (
    typeof transport !== "object" ||
    transport === null ||
    typeof buffer !== "number" ||
    !(buffer >= 0)
  )
    throw infoError("lacks its transport");
  return {
    transport: transport as TransportInfo,
    receiveBufferBytes: buffer === 0 ? Number.POSITIVE_INFINITY : buffer,
  };
}

function differs(name: string, theirs: string, ours: string): SdrError {
  return new SdrError(
    "PEER_INCOMPATIBLE",
    `the peer has ${name} ${theirs}, this end ${ours}`,
    `create both queue pairs with the same ${name}`,
  );
}
