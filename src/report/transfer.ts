/** The table of the demo: one file, several policies, one link. */
import { formatRate, formatTime } from "../base/units.ts";
import { type Column, renderTable } from "./table.ts";

export interface TransferRow {
  readonly policy: string;
  readonly completionNs: number;
  /** Wire bytes at the link's rate + RTT; null where the link has no rate. */
  readonly idealNs: number | null;
  readonly slowdown: number | null;
  readonly goodputBps: number;
  /** Bytes sent by both ends over the file's, minus 1. */
  readonly overhead: number;
  readonly dropped: number;
  readonly duplicated: number;
  readonly reordered: number;
  readonly chunksRetransmitted: number;
  readonly parityChunks: number;
  /** Blocks that parity did not save. */
  readonly fallbacks: number;
  readonly controlFrames: number;
  readonly verdict: string;
}

const COLUMNS: readonly Column<TransferRow>[] = [
  { title: "policy\n", align: "left", cell: (row) => row.policy },
  { title: "completion\ntime", cell: (row) => formatTime(row.completionNs) },
  {
    title: "lossless\nideal",
    cell: (row) => (row.idealNs === null ? "-" : formatTime(row.idealNs)),
  },
  { title: "slow-\ndown", cell: (row) => (row.slowdown === null ? "-" : row.slowdown.toFixed(2)) },
  { title: "goodput\n", cell: (row) => formatRate(row.goodputBps, 3) },
  { title: "wire\noverhead", cell: (row) => `${(row.overhead * 100).toFixed(2)} %` },
  { title: "packets\ndropped", cell: (row) => String(row.dropped) },
  { title: "dupli-\ncated", cell: (row) => String(row.duplicated) },
  { title: "reor-\ndered", cell: (row) => String(row.reordered) },
  { title: "chunks\nrepeated", cell: (row) => String(row.chunksRetransmitted) },
  { title: "parity\nchunks", cell: (row) => String(row.parityChunks) },
  { title: "fall-\nbacks", cell: (row) => String(row.fallbacks) },
  { title: "control\nframes", cell: (row) => String(row.controlFrames) },
  { title: "verdict\n", align: "left", cell: (row) => row.verdict },
];

export function transferTable(rows: readonly TransferRow[]): string {
  return renderTable(COLUMNS, rows);
}
