/** How commands fail: exit statuses, and one line on stderr for whatever was thrown. */
import { getSystemErrorName } from "node:util";
import { type ErrorCode, SdrError } from "../base/errors.ts";

export const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

/** What was asked for cannot be understood: exit status 2. */
export class UsageError extends SdrError {
  constructor(code: ErrorCode, message: string, remedy: string, options?: ErrorOptions) {
    super(code, message, remedy, options);
  }
}

/** Reads options: an SdrError of `read` becomes a usage error. */
export function usage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof SdrError)) throw error;
    throw toUsage(error);
  }
}

function toUsage(error: SdrError): UsageError {
  const { message, remedy } = error;
  const tail = ` (${remedy})`;
  const what = remedy !== "" && message.endsWith(tail) ? message.slice(0, -tail.length) : message;
  return new UsageError(error.code, what, remedy, { cause: error });
}

const FILE_REASONS: Readonly<Record<string, readonly [ErrorCode, string, string]>> = {
  ENOENT: ["NOT_FOUND", "does not exist", "check the path"],
  ENOTDIR: ["NOT_FOUND", "does not exist", "check the path"],
  EACCES: ["ACCESS_DENIED", "may not be opened", "check its permissions"],
  EPERM: ["ACCESS_DENIED", "may not be changed", "check its permissions"],
  EROFS: ["ACCESS_DENIED", "is on a read-only file system", "choose another place"],
  EISDIR: ["FILE", "is a directory", "give a file"],
  ENOSPC: ["NO_SPACE", "cannot be written: the disk is full", "free some space"],
  EDQUOT: ["NO_SPACE", "cannot be written: the quota is used up", "free some space"],
  EFBIG: ["NO_SPACE", "cannot be written: it exceeds the file size limit", "raise the limit"],
  EMFILE: ["ENVIRONMENT", "cannot be opened: too many open files", "raise the limit of open files"],
  EIO: ["FILE", "cannot be read or written: the device failed", "check the device"],
};

/** An error of the file system, with our code and what it was about. */
export function fileError(path: string, cause: unknown): SdrError {
  if (cause instanceof SdrError) return cause;
  const { code = "", message } = cause as NodeJS.ErrnoException;
  const known = FILE_REASONS[code];
  if (known !== undefined) {
    const [own, what, remedy] = known;
    return new SdrError(own, `${path} ${what}`, remedy, { cause });
  }
  return new SdrError("FILE", `${path} failed: ${code || message}`, "check the file", { cause });
}

/** Whatever was thrown, as an error of ours. */
export function toSdrError(error: unknown): SdrError {
  if (error instanceof SdrError) return error;
  const { errno, code, message } = (error ?? {}) as NodeJS.ErrnoException;
  const name = typeof errno === "number" && errno < 0 ? getSystemErrorName(errno) : code;
  const text = message ?? String(error);
  return new SdrError("ENVIRONMENT", name === undefined ? text : `${name}: ${text}`, "", {
    cause: error,
  });
}

/** "sdr: CODE: what (remedy)", always one line. */
export function errorLine(error: SdrError): string {
  return `sdr: ${error.code}: ${error.message.replace(/\s*\n\s*/g, " ")}\n`;
}

/** Some values are found to be bad only when they are used: an address of another machine, a packet above the MTU. */
export function exitStatus(error: SdrError): number {
  const badValue = error instanceof UsageError || error.code === "INVALID_ARGUMENT";
  return badValue ? EXIT.usage : EXIT.failed;
}

/** What --json prints for a command that failed. */
export function errorDocument(error: SdrError): object {
  return { error: { code: error.code, number: error.number, message: error.message } };
}
