/** A model's setting from two links and the sizes. */
import { check } from "../base/errors.ts";
import { type LinkProfile, meanLoss, rttNs } from "../link/model.ts";
import { parseLink } from "../link/profile.ts";
import { checkSetting } from "./timing.ts";
import type { LossSpells, PacketLoss, Setting } from "./types.ts";

export interface SettingSizes {
  readonly bytes: number;
  readonly packetBytes: number;
  readonly chunkBytes: number;
}

/** Control frames are short: the size at which loss by payload is taken for them. */
const CONTROL_BYTES = 64;

/**
 * One message of these sizes there over `forward` and its answers back over `reverse`. Packets that are corrupted count
 * as lost: receivers throw them away. Errors: INVALID_ARGUMENT for sizes that make no sense, and a path that loses
 * every packet.
 */
export function settingOf(
  forward: LinkProfile,
  reverse: LinkProfile,
  { bytes, packetBytes, chunkBytes }: SettingSizes,
): Setting {
  const setting: Setting = {
    bytes,
    packetBytes,
    chunkBytes,
    rateBps: forward.rateBps || Infinity,
    packetOverheadBytes: forward.packetOverheadBytes ?? 0,
    rttNs: rttNs(forward, reverse),
    loss: packetLossOf(forward, Math.max(1, Math.min(packetBytes, bytes))),
    controlLoss: (lostControl(forward) + lostControl(reverse)) / 2,
  };
  checkSetting(setting);
  return setting;
}

/** The same from the links' text: profiles' names, or terms of tc-netem. `reverse` absent: the same link. */
export function settingOfText(link: string, sizes: SettingSizes, reverseLink?: string): Setting {
  const forward = parseLink(link);
  return settingOf(forward, reverseLink === undefined ? forward : parseLink(reverseLink), sizes);
}

/** A recorded trace loses no control frames, nor does it say how those are lost. */
function lostControl(link: LinkProfile): number {
  const lost = link.loss === "trace" ? 0 : meanLoss(link, CONTROL_BYTES);
  return Math.min(1 - Number.EPSILON, 1 - (1 - lost) * (1 - (link.corruptProbability ?? 0)));
}

/** What a link does to data packets of this payload. Errors: INVALID_ARGUMENT when it loses all of them. */
export function packetLossOf(link: LinkProfile, payloadBytes: number): PacketLoss {
  const corrupt = link.corruptProbability ?? 0;
  const lost = 1 - (1 - meanLoss(link, payloadBytes)) * (1 - corrupt);
  check(lost < 1, "the link loses every packet", "give one with a loss below 100 %");
  const probability = corrupt === 0 ? meanLoss(link, payloadBytes) : lost;
  const spells = spellsOfLink(link);
  if (spells !== undefined) return { probability, ...describe(spells, probability), spells };
  const burstPackets = runLength(link, probability);
  return burstPackets === undefined ? { probability } : { probability, burstPackets };
}

function spellsOfLink(link: LinkProfile): LossSpells | undefined {
  if (link.loss !== "gilbert_elliott") return undefined;
  const { geP = 0, geR = 0, geLossBad = 1, geLossGood = 0, corruptProbability = 0 } = link;
  const with_ = (lost: number) => 1 - (1 - lost) * (1 - corruptProbability);
  return { enter: geP, leave: geR, lossBad: with_(geLossBad), lossGood: with_(geLossGood) };
}

/** Mean length of a run of losses: 1 / (1 - c), c the probability that the packet after a lost one is lost. */
function describe(spells: LossSpells, probability: number): { burstPackets?: number } {
  const { enter, leave, lossBad, lossGood } = spells;
  if (probability === 0) return {};
  const bad = (enter / (enter + leave)) * lossBad;
  const good = (leave / (enter + leave)) * lossGood;
  const afterBad = leave * lossGood + (1 - leave) * lossBad;
  const afterGood = enter * lossBad + (1 - enter) * lossGood;
  const again = (bad * afterBad + good * afterGood) / probability;
  return again < 1 ? { burstPackets: 1 / (1 - again) } : {};
}

/** Of a recorded trace, which repeats, and of loss that depends on the packet before. */
function runLength(link: LinkProfile, probability: number): number | undefined {
  if (link.loss === "bernoulli" && (link.lossCorrelation ?? 0) > 0) {
    const { lossCorrelation: same = 0 } = link;
    const again = probability + same * (1 - probability);
    return again < 1 ? 1 / (1 - again) : undefined;
  }
  if (link.loss !== "trace") return undefined;
  const trace = link.lossTrace ?? new Uint8Array();
  let lost = 0;
  let runs = 0;
  for (let i = 0; i < trace.length; i++) {
    if (trace[i] === 0) continue;
    lost++;
    if (trace[(i + trace.length - 1) % trace.length] === 0) runs++;
  }
  return runs === 0 ? undefined : lost / runs;
}
