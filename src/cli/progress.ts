/** A progress bar with the time left, on stderr, only where that is a terminal. */
import { formatSize, formatTime } from "../base/units.ts";

const REDRAW_MS = 100;
const BAR_COLUMNS = 24;
const COLUMNS_USUAL = 80;
/** No time left is told before this part is done: it would be a guess. */
const ETA_SHARE_MIN = 0.02;

export interface ProgressOptions {
  readonly label: string;
  readonly total: number;
  /** How amounts are written. Default: as sizes. */
  readonly format?: (amount: number) => string;
}

/** Time left at the speed so far; undefined while too little is done. */
export function remainingMs(done: number, total: number, elapsedMs: number): number | undefined {
  if (done < total * ETA_SHARE_MIN || done <= 0) return undefined;
  return (elapsedMs * (total - done)) / done;
}

export function progressLine(
  { label, total, format = formatSize }: ProgressOptions,
  done: number,
  elapsedMs: number,
): string {
  const share = total > 0 ? Math.min(1, done / total) : 1;
  const filled = Math.round(share * BAR_COLUMNS);
  const bar = "█".repeat(filled) + "░".repeat(BAR_COLUMNS - filled);
  const percent = `${Math.floor(share * 100)}`.padStart(3);
  const left = remainingMs(done, total, elapsedMs);
  const eta = left === undefined ? "" : `, ${formatTime(Math.max(0, left) * 1e6, 2)} left`;
  return `${label} ${bar} ${percent} % ${format(done)} of ${format(total)}${eta}`;
}

export class Progress implements Disposable {
  readonly active = process.stderr.isTTY === true;
  private readonly options: ProgressOptions;
  private readonly startMs = performance.now();
  private drawnMs = Number.NEGATIVE_INFINITY;
  private drawn = false;

  constructor(options: ProgressOptions) {
    this.options = options;
  }

  update(done: number): void {
    if (!this.active) return;
    const nowMs = performance.now();
    if (nowMs < this.drawnMs + REDRAW_MS) return;
    this.drawnMs = nowMs;
    this.drawn = true;
    const columns = (process.stderr.columns || COLUMNS_USUAL) - 1;
    const line = progressLine(this.options, done, nowMs - this.startMs);
    process.stderr.write(`\r\x1b[K${[...line].slice(0, columns).join("")}`);
  }

  /** Takes the bar away, so that what follows has the line. */
  end(): void {
    if (this.drawn) process.stderr.write("\r\x1b[K");
    this.drawn = false;
  }

  [Symbol.dispose](): void {
    this.end();
  }
}
