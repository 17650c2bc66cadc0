/**
 * A lock file that keeps two runs out of one folder, on one machine or several that share the folder. It is taken from
 * a run that is gone: on the same machine when its process is, elsewhere when it has not touched the file for long.
 */
import {
  linkSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { SdrError } from "../../base/errors.ts";
import { fileError } from "../failure.ts";

export const LOCK_NAME = "lock";
const TOUCH_MS = 10_000;
/** A run on another machine that has not touched its lock for so long is gone. */
const STALE_MS = 60_000;

interface Holder {
  readonly pid: number;
  /** The machine, and where it tells, the namespace that `pid` is of. */
  readonly place: string;
  /** When that process began, by the system's own count: numbers of processes come again. Empty: not told. */
  readonly began: string;
}

function errorCode(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? "";
}

function placeHere(): string {
  try {
    return `${hostname()} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return hostname();
  }
}

/** proc(5): field 22 of stat is the start time; the second one, the name, may have blanks and brackets. */
function beganOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}

function isAlive({ pid, began }: Holder): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errorCode(error) === "ESRCH") return false;
  }
  return began === "" || beganOf(pid) === began;
}

function parseHolder(text: string): Holder | undefined {
  try {
    const { pid, place, began } = JSON.parse(text) as Partial<Holder>;
    const isHolder = Number.isSafeInteger(pid) && typeof place === "string";
    return isHolder ? { pid: pid as number, place, began: String(began ?? "") } : undefined;
  } catch {
    return undefined;
  }
}

export class FolderLock implements Disposable {
  private readonly path: string;
  private readonly text: string;
  private readonly timer: NodeJS.Timeout;
  private lost = false;

  /** Errors: BUSY when another run holds it; those of the file system. */
  constructor(folder: string) {
    this.path = join(folder, LOCK_NAME);
    const holder: Holder = { pid: process.pid, place: placeHere(), began: beganOf(process.pid) };
    this.text = `${JSON.stringify(holder)}\n`;
    if (!this.create()) {
      this.takeOver(folder);
      if (!this.create()) throw busy(folder, "another process");
    }
    this.timer = setInterval(() => this.touch(), TOUCH_MS);
    this.timer.unref();
  }

  /** False: there is one. */
  private create(): boolean {
    try {
      writeFileSync(this.path, this.text, { flag: "wx" });
      return true;
    } catch (error) {
      if (errorCode(error) === "EEXIST") return false;
      throw fileError(this.path, error);
    }
  }

  /** Moves a lock away whose holder is gone. Errors: BUSY. */
  private takeOver(folder: string): void {
    let text: string;
    try {
      text = readFileSync(this.path, "utf8");
    } catch (error) {
      if (errorCode(error) === "ENOENT") return;
      throw fileError(this.path, error);
    }
    const holder = parseHolder(text);
    if (!this.isStale(holder)) {
      throw busy(folder, holder === undefined ? "another run" : `process ${holder.pid}`);
    }
    const aside = `${this.path}.${process.pid}.tmp`;
    try {
      renameSync(this.path, aside);
      // Someone was faster, and this is the new one's: back with it, unless there is a third.
      const moved = readFileSync(aside, "utf8");
      if (moved !== text) linkSync(aside, this.path);
      rmSync(aside);
      if (moved !== text) throw busy(folder, "another process");
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw fileError(this.path, error);
    }
  }

  private isStale(holder: Holder | undefined): boolean {
    if (holder !== undefined && holder.place === placeHere()) return !isAlive(holder);
    // The folder's own clock on both sides: machines that share it may not agree on the time.
    const probe = `${this.path}.probe.${process.pid}.tmp`;
    try {
      writeFileSync(probe, "");
      const ageMs = statSync(probe).mtimeMs - statSync(this.path).mtimeMs;
      return ageMs > STALE_MS;
    } catch {
      return false;
    } finally {
      rmSync(probe, { force: true });
    }
  }

  private isMine(): boolean {
    try {
      return readFileSync(this.path, "utf8") === this.text;
    } catch {
      return false;
    }
  }

  private touch(): void {
    if (!this.isMine()) this.lost = true;
    else {
      const now = new Date();
      utimesSync(this.path, now, now);
    }
  }

  /** Throws BUSY when another run has taken the lock meanwhile: nothing more may be written. */
  check(): void {
    if (this.lost) throw new SdrError("BUSY", `${this.path} was taken by another run`, "stop one");
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
    if (this.isMine()) rmSync(this.path, { force: true });
  }
}

function busy(folder: string, by: string): SdrError {
  const remedy = `wait for it; if it is gone, remove ${join(folder, LOCK_NAME)}`;
  return new SdrError("BUSY", `${by} is writing to ${folder}`, remedy);
}
