/** One cell of a sweep: all parameters of one row of results. Plain data, for worker threads. */
import { createHash } from "node:crypto";
import { check } from "../../base/errors.ts";
import { sizeText } from "../../base/units.ts";
import { formatLink, meanLoss } from "../../link/profile.ts";
import { parseScheme } from "../../model/scheme.ts";
import { settingOf } from "../../model/setting.ts";
import type { CollectiveShape } from "../emulate/task.ts";
import { type Phase, phasesOf, type TrialSetting } from "../emulate/trial.ts";
import type { TransportName } from "./axes.ts";

export interface Cell extends TrialSetting {
  readonly transport: TransportName;
  readonly policy: string;
  /** 0: nothing is drawn. */
  readonly trials: number;
  readonly warmup: number;
  readonly messages: number;
  readonly phases?: readonly Phase[];
  readonly collective?: CollectiveShape;
}

/** Longer keys end in a hash of all of it. */
const KEY_MAX = 1000;
const UDP_BYTES_MAX = 2 ** 30;
const UDP_PACKET_MIN = 512;
const PACKET_MAX = 65_000;

/** What a cell is called: the same parameters have the same key, others another. */
export function cellKey(cell: Cell): string {
  const { bytes, packetBytes, chunkBytes, forward, reverse, trials, seed, warmup, messages } = cell;
  const link = formatLink(forward);
  const back = formatLink(reverse);
  const words = [
    ...[cell.transport, cell.policy, sizeText(bytes)],
    ...[`packet=${sizeText(packetBytes)}`, `chunk=${sizeText(chunkBytes)}`, `link=(${link})`],
    ...(back === link ? [] : [`reverse=(${back})`]),
    ...(cell.collective ? [`${cell.collective.kind}=${cell.collective.datacenters}`] : []),
    ...(trials === 0 ? [] : [`trials=${trials}`, `seed=${seed}`]),
    ...(warmup === 0 ? [] : [`warmup=${warmup}`]),
    ...(messages === 1 ? [] : [`messages=${messages}`]),
    ...(cell.phases ?? []).map((phase) => {
      const [there, here] = [formatLink(phase.forward), formatLink(phase.reverse)];
      return `phase=${phase.messages}x(${there}${here === there ? "" : `; ${here}`})`;
    }),
  ];
  const key = words.join(" ");
  if (key.length <= KEY_MAX) return key;
  const hash = createHash("sha256").update(key).digest("hex").slice(0, 32);
  return `${key.slice(0, KEY_MAX)} sha256=${hash}`;
}

/** Whether a cell's figures come from the model: no packet is sent. */
export function isPredicted({ transport }: Cell): boolean {
  return transport === "model" || transport === "sampled";
}

/** Lines that the model draws; no policies. */
function isReference(policy: string): boolean {
  return policy === "ideal" || policy === "bound";
}

function checkChunk({ packetBytes, chunkBytes }: Cell): void {
  check(
    Number.isInteger(chunkBytes / packetBytes),
    `a chunk of ${chunkBytes} B is not whole packets of ${packetBytes} B`,
    "make chunk a multiple of packet",
  );
}

/** In the model a packet may be as large as a chunk. */
function checkPacket(cell: Cell): void {
  const { packetBytes, transport } = cell;
  if (isPredicted(cell)) return;
  const least = transport === "udp" ? UDP_PACKET_MIN : 0;
  const isRight = packetBytes >= least && packetBytes <= PACKET_MAX;
  check(
    isRight,
    `${packetBytes} B`,
    `give ${transport} packets of ${least || 64} to ${PACKET_MAX} B`,
  );
}

function checkPolicy(cell: Cell): void {
  if (isPredicted(cell)) parseScheme(cell.policy, settingOf(cell.forward, cell.reverse, cell));
  else {
    const remedy = "leave it out, or give transport: model";
    check(!isReference(cell.policy), `${cell.policy} is none: nothing can be sent by it`, remedy);
  }
}

function checkTransport(cell: Cell): void {
  const { transport, collective, phases } = cell;
  if (collective !== undefined) {
    const remedy = "leave out collective, or give transport: sampled";
    check(transport === "sampled", `${transport} runs no collectives`, remedy);
    const { kind, datacenters } = collective;
    check(
      kind !== "recursive-doubling" || Number.isInteger(Math.log2(datacenters)),
      `${datacenters} datacenters cannot double recursively`,
      "give a power of two",
    );
  }
  if (phases !== undefined) {
    const remedy = "leave out phases, or give transport: emulated";
    check(transport === "emulated", `${transport} knows no phases`, remedy);
  }
}

function checkSize({ transport, bytes }: Cell): void {
  const fits = transport !== "udp" || bytes <= UDP_BYTES_MAX;
  check(fits, `${bytes} B`, `give udp messages of up to ${UDP_BYTES_MAX} B`);
}

/** Errors: INVALID_ARGUMENT for links over which nothing arrives, or in no time. */
function checkLinks(cell: Cell): void {
  const { packetBytes } = cell;
  for (const { forward, reverse } of [cell, ...phasesOf(cell)]) {
    const remedy = 'add "rate 400gbit" to the link, or a line "rate: …"';
    check((forward.rateBps ?? 0) > 0, `link "${formatLink(forward)}" has no rate`, remedy);
    for (const link of [forward, reverse]) {
      const lost = meanLoss(link, packetBytes);
      check(lost < 1, `link "${formatLink(link)}" loses every packet`, "give a loss below 1");
    }
  }
}

/** What a cell must be, by the key that is to blame. Errors: INVALID_ARGUMENT. */
export const CELL_CHECKS = {
  link: checkLinks,
  policy: checkPolicy,
  transport: checkTransport,
  packet: checkPacket,
  chunk: checkChunk,
  size: checkSize,
} as const;

/** Rough microseconds of one core that a cell takes; only ratios matter. */
export function cellCost(cell: Cell): number {
  const { transport, bytes, packetBytes, forward, trials, warmup } = cell;
  const messages = warmup + phasesOf(cell).reduce((sum, phase) => sum + phase.messages, 0);
  switch (transport) {
    case "model":
      return COST.prediction;
    case "sampled":
      return COST.prediction + trials * stepsOf(cell) * COST.sample;
    case "emulated":
      return (
        trials * (COST.world + messages * (COST.message + (bytes / packetBytes) * COST.packet))
      );
    case "udp": {
      const wireUs = (bytes * 8e6) / (forward.rateBps ?? 1);
      return trials * (COST.connection + messages * (wireUs + ((forward.delayNs ?? 0) * 2) / 1e3));
    }
  }
}

/** Messages of a collective operation, about. */
function stepsOf({ collective }: Cell): number {
  if (collective === undefined) return 1;
  const { kind, datacenters } = collective;
  return datacenters * (kind === "ring" ? 2 * datacenters : Math.ceil(Math.log2(datacenters)));
}

const COST = {
  ...{ prediction: 5000, sample: 50, world: 500, message: 200, packet: 0.25, connection: 20_000 },
} as const;
