/**
 * The schemes packet by packet and slot by slot, as plainly as they can be said: what the samplers, which look at lost
 * chunks only, are compared with. Sizes are those of tests.
 */
import type { Random } from "../../../src/base/random.ts";
import { spellsOf } from "../../../src/model/loss.ts";
import { messageShape } from "../../../src/model/timing.ts";
import type { Setting } from "../../../src/model/types.ts";

/** Whether the next packet is lost. */
export function packetLosses({ loss }: Setting, random: Random): () => boolean {
  const spells = spellsOf(loss);
  if (spells === undefined) return () => random.chance(loss.probability);
  const { enter, leave, lossBad, lossGood } = spells;
  let isBad = random.chance(enter / (enter + leave));
  return () => {
    const isLost = random.chance(isBad ? lossBad : lossGood);
    isBad = random.chance(isBad ? leave : enter) ? !isBad : isBad;
    return isLost;
  };
}

/** Chunks with their packets; sending one keeps what arrives. */
class Chunks {
  readonly packets: boolean[][];
  private readonly isLost: () => boolean;

  constructor(setting: Setting, random: Random, parity = 0) {
    const { chunks, lastPackets, packets } = messageShape(setting);
    this.isLost = packetLosses(setting, random);
    this.packets = Array.from({ length: chunks + parity }, (_, chunk) =>
      new Array<boolean>(chunk === chunks - 1 ? lastPackets : packets).fill(false),
    );
  }

  send(chunk: number): boolean {
    const packets = this.packets[chunk]!;
    for (let i = 0; i < packets.length; i++) if (!this.isLost()) packets[i] = true;
    return this.has(chunk);
  }

  has(chunk: number): boolean {
    return this.packets[chunk]!.every((packet) => packet);
  }
}

/** Selective Repeat: repairs `waitNs` after a chunk's injection, before anything new. All chunks are whole. */
export function repeatNs(setting: Setting, waitNs: number, random: Random): number {
  const { chunks, chunkNs } = messageShape(setting);
  const all = new Chunks(setting, random);
  const repairs: { readonly dueNs: number; readonly chunk: number }[] = [];
  let nowNs = 0;
  let doneNs = 0;
  for (let next = 0; next < chunks || repairs.length > 0; ) {
    const isRepair = (repairs[0]?.dueNs ?? Infinity) <= nowNs || next === chunks;
    const repair = isRepair ? repairs.shift() : undefined;
    const chunk = repair?.chunk ?? next++;
    nowNs = Math.max(nowNs, repair?.dueNs ?? 0) + chunkNs;
    if (all.send(chunk)) doneNs = nowNs;
    else repairs.push({ dueNs: nowNs + waitNs, chunk });
  }
  return doneNs + setting.rttNs;
}

/** Go-Back-N of a receiver that keeps what it gets; the last chunk's loss is known after `timeoutNs`. */
export function goBackNs(setting: Setting, timeoutNs: number, random: Random): number {
  const { chunks, chunkNs } = messageShape(setting);
  const all = new Chunks(setting, random);
  let nowNs = 0;
  for (let from = 0; ; ) {
    // All that this pass sends before it learns that it must go back.
    let missing = -1;
    let learnedNs = Infinity;
    for (let chunk = from; chunk < chunks && nowNs < learnedNs; chunk++) {
      nowNs += chunkNs;
      const came = all.send(chunk);
      if (!came && missing < 0) missing = chunk;
      else if (came && missing >= 0 && learnedNs === Infinity) learnedNs = nowNs + setting.rttNs;
    }
    if (missing < 0) return nowNs + setting.rttNs;
    if (learnedNs === Infinity) learnedNs = nowNs - (chunks - 1 - missing) * chunkNs + timeoutNs;
    nowNs = learnedNs;
    from = missing;
  }
}

interface Code {
  readonly kind: "ec-mds" | "ec-xor";
  readonly k: number;
  readonly m: number;
}

/** Whether a block's data can be made from what has come of it: `data` and `parity` by position. */
function isMade({ kind, m }: Code, data: readonly boolean[], parity: readonly boolean[]): boolean {
  const missing = data.flatMap((has, at) => (has ? [] : [at]));
  if (kind === "ec-mds") return missing.length <= parity.filter((has) => has).length;
  const groups = missing.map((at) => at % m);
  return new Set(groups).size === groups.length && groups.every((group) => parity[group]);
}

/** Erasure coding of a message whose injection is shorter than an RTT, so that its fallback starts at the end. */
export function codingNs(code: Code, setting: Setting, roundNs: number, random: Random): number {
  const { k, m, kind } = code;
  const { chunks, chunkNs } = messageShape(setting);
  const blocks = Math.ceil(chunks / k);
  const all = new Chunks(setting, random, blocks * m);
  const dataOf = (block: number) => Math.min(k, chunks - block * k);
  const parityOf = (block: number) => (kind === "ec-mds" ? m : Math.min(m, dataOf(block)));
  const made = new Array<boolean>(blocks).fill(false);
  let nowNs = 0;
  let doneNs = 0;
  const send = (chunk: number, block: number) => {
    nowNs += chunkNs;
    all.send(chunk);
    const data = Array.from({ length: dataOf(block) }, (_, i) => all.has(block * k + i));
    const parity = Array.from({ length: m }, (_, i) => all.has(chunks + block * m + i));
    if (made[block] || !isMade(code, data, parity)) return;
    made[block] = true;
    doneNs = nowNs;
  };
  const sendParity = (block: number) => {
    const count = parityOf(block);
    for (let i = 0; i < count; i++) send(chunks + block * m + ((dataOf(block) + i) % count), block);
  };
  // A block is not made before its data has been sent: chunks not sent yet count as missing.
  for (let block = 0; block < blocks; block++) {
    for (let i = 0; i < dataOf(block); i++) send(block * k + i, block);
    if (block > 0) sendParity(block - 1);
  }
  sendParity(blocks - 1);
  for (let dueNs = nowNs + roundNs; made.includes(false); dueNs += roundNs) {
    nowNs = Math.max(nowNs, dueNs);
    for (const [block, isWhole] of [...made.entries()]) {
      if (isWhole) continue;
      const chunk = Array.from({ length: dataOf(block) }, (_, i) => block * k + i);
      for (const missing of chunk.filter((one) => !all.has(one))) send(missing, block);
    }
  }
  return doneNs + setting.rttNs;
}
