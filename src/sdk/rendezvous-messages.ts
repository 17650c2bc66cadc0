/** The messages of the rendezvous (rendezvous.ts has the exchange): made, and checked when they come from outside. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFailure, SdrError } from "../base/errors.ts";
import { INFO_BYTES_MAX } from "./info.ts";
import { type JsonObject, type MessageChannel, notThisProtocol } from "./rendezvous-channel.ts";

const PROTOCOL = "rendezvous";
const VERSION = 1;

export function hello(nonce: string, secret: string | undefined): JsonObject {
  return { sdr: PROTOCOL, version: VERSION, nonce, secret: secret !== undefined };
}

export function readHello(message: JsonObject, secret: string | undefined): string {
  if (message.sdr !== PROTOCOL) throw notThisProtocol("does not speak its protocol");
  if (message.version !== VERSION)
    throw notThisProtocol(
      `has version ${JSON.stringify(message.version)?.slice(0, 20)}, this is ${VERSION}`,
    );
  const { nonce } = message;
  if (typeof nonce !== "string" || !/^[0-9a-f]{64}$/.test(nonce))
    throw notThisProtocol("sends no valid nonce");
  if (message.secret === true && secret === undefined)
    throw new SdrError(
      "ACCESS_DENIED",
      "the peer asks for a secret",
      "give the same secret on both ends",
    );
  if (message.secret !== true && secret !== undefined)
    throw new SdrError(
      "ACCESS_DENIED",
      "the peer knows no secret",
      "give the same secret on both ends",
    );
  return nonce;
}

/** The next message; an {error} of the peer is thrown. */
export async function receive(channel: MessageChannel): Promise<JsonObject> {
  const message = await channel.receive();
  if (message.error === undefined) return message;
  const { code, text } = readFailure(message.error ?? {}, "PEER_INCOMPATIBLE");
  throw new RefusedByPeer(code, `the peer refused: ${text}`, "");
}

/** Not told to the peer again: it said so itself. */
export class RefusedByPeer extends SdrError {}

export function infoOf(message: JsonObject): Uint8Array {
  if (typeof message.info !== "string" || message.info.length > INFO_BYTES_MAX * 2)
    throw notThisProtocol("sends no valid info");
  return new Uint8Array(Buffer.from(message.info, "base64"));
}

function proof(secret: string, role: string, parts: readonly string[]): Buffer {
  const hmac = createHmac("sha256", secret);
  for (const part of [`sdr-${PROTOCOL}-${VERSION}`, role, ...parts])
    hmac.update(`${Buffer.byteLength(part)}:`).update(part);
  return hmac.digest();
}

export function prove(
  secret: string | undefined,
  role: string,
  parts: readonly string[],
): { proof?: string } {
  return secret === undefined ? {} : { proof: proof(secret, role, parts).toString("hex") };
}

/** The body, once its proof is right. */
export function readSigned(
  message: JsonObject,
  secret: string | undefined,
  role: string,
  parts: (body: string) => string[],
): string {
  const { body } = message;
  if (typeof body !== "string") throw notThisProtocol("sends no body");
  if (secret === undefined) return body;
  const given =
    typeof message.proof === "string" && /^[0-9a-f]{64}$/.test(message.proof)
      ? Buffer.from(message.proof, "hex")
      : Buffer.alloc(32);
  if (timingSafeEqual(given, proof(secret, role, parts(body)))) return body;
  throw new SdrError(
    "ACCESS_DENIED",
    "the secrets of the two ends differ",
    "give the same secret on both ends",
  );
}
