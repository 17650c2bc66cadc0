/** The two links of a cell, from a base and what a sweep changes of it. */
import { type LinkProfile, meanLoss, normalizeLink } from "../../link/profile.ts";
import type { LinkChoice } from "./axes.ts";
import { refuseAt } from "./yaml.ts";

export interface Links {
  readonly forward: LinkProfile;
  readonly reverse: LinkProfile;
}

export interface PacketShape {
  readonly packetBytes: number;
  readonly chunkBytes: number;
}

/** Packet loss p that makes chunks of N packets go missing with P = 1 - (1 - p)^N, packets being lost independently. */
export function packetLossOf(chunkLoss: number, packetsPerChunk: number): number {
  return -Math.expm1(Math.log1p(-chunkLoss) / packetsPerChunk);
}

/**
 * Fields of a link that loses a share of its packets, in runs of so many on average: the chain of Gilbert and Elliott
 * whose bad state loses all. Runs shorter than those of independent losses are those.
 */
function lossFields(share: number, burst: number): LinkProfile {
  if (share === 0) return { loss: "none" };
  if (burst <= 1 / (1 - share)) return { loss: "bernoulli", lossProbability: share };
  const geR = 1 / burst;
  const geP = (geR * share) / (1 - share);
  return { loss: "gilbert_elliott", geP, geR, geLossBad: 1, geLossGood: 0 };
}

function withLoss(link: LinkProfile, choice: LinkChoice, shape: PacketShape): LinkProfile {
  const { loss, burst, "chunk-loss": chunkLoss } = choice;
  const packets = Math.max(1, Math.round(shape.chunkBytes / shape.packetBytes));
  let share = meanLoss(link, shape.packetBytes);
  if (loss !== undefined) share = loss.value;
  else if (chunkLoss !== undefined) share = packetLossOf(chunkLoss.value, packets);
  if ([loss, burst, chunkLoss].every((value) => value === undefined)) return link;
  if (burst !== undefined && share === 0 && loss === undefined && chunkLoss === undefined) {
    refuseAt(burst.at, "burst without loss", "give loss or chunk-loss, or a link that loses");
  }
  const { lossCorrelation: _, lossProbability: __, ...rest } = link;
  return { ...rest, ...lossFields(share, burst?.value ?? 1) };
}

function changed(link: LinkProfile, choice: LinkChoice, shape: PacketShape): LinkProfile {
  const { rate, delay } = choice;
  const isSame = [rate, delay, choice.loss, choice["chunk-loss"], choice.burst].every(
    (value) => value === undefined,
  );
  if (isSame) return link;
  const { name: _, ...base } = link;
  const moved = {
    ...base,
    ...(rate === undefined ? {} : { rateBps: rate.value }),
    ...(delay === undefined ? {} : { delayNs: delay.value }),
  };
  return normalizeLink(withLoss(moved, choice, shape));
}

/**
 * `choice` over `base`: a link replaces the whole base, the other keys single terms of it. The way back is like the way
 * there, unless it is given: then it is taken as it stands.
 */
export function linksOf(base: Links, choice: LinkChoice, shape: PacketShape): Links {
  const { link, "reverse-link": reverse } = choice;
  const forward = changed(link?.value ?? base.forward, choice, shape);
  if (reverse !== undefined) return { forward, reverse: reverse.value };
  const isBack = link === undefined && base.reverse !== base.forward;
  return { forward, reverse: isBack ? base.reverse : forward };
}
