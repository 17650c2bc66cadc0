/**
 * The file being received: under a temporary name until it is whole, checked and on the disk; then under its own.
 * Whatever fails, nothing is left under either name.
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, link, open, rename, stat, statfs, unlink } from "node:fs/promises";
import { join } from "node:path";
import { SdrError } from "../../base/errors.ts";
import { formatSize } from "../../base/units.ts";
import { fileError } from "../failure.ts";

const NAME_BYTES_MAX = 200; // leaves room for the temporary name's extra letters below the usual 255
/** Separators, control characters, characters that turn the writing direction, halves of surrogate pairs. */
const NAME_REFUSED = /[/\\\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]/u;

/** A peer's file name, once it is one that can do no harm. Errors: FILE. */
export function checkName(name: unknown): string {
  const refuse = (why: string) =>
    new SdrError("FILE", `the file name ${JSON.stringify(name)?.slice(0, 80)} ${why}`, "rename it");
  if (typeof name !== "string" || name === "" || name === "." || name === "..") {
    throw refuse("is not one");
  }
  if (NAME_REFUSED.test(name)) throw refuse("holds a separator or a control character");
  if (Buffer.byteLength(name) > NAME_BYTES_MAX)
    throw refuse(`has more than ${NAME_BYTES_MAX} bytes`);
  return name;
}

export interface SinkOptions {
  readonly folder: string;
  /** Checked by checkName. */
  readonly name: string;
  readonly bytes: number;
  /** Replace a file of that name. */
  readonly force: boolean;
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw fileError(path, error);
  }
}

function inTheWay(name: string): SdrError {
  return new SdrError(
    "FILE",
    `${name} exists already where it is received`,
    "remove it, or let the receiver use --force",
  );
}

/**
 * Whether such a file could be received now. The peer is told what is thrown: it names no folder.
 * Errors: FILE (exists), NO_SPACE, NOT_FOUND, ACCESS_DENIED.
 */
export async function checkRoom({ folder, name, bytes, force }: SinkOptions): Promise<void> {
  const path = join(folder, name);
  if (await exists(path)) {
    if (!force) throw inTheWay(path);
    if (!(await stat(path)).isFile())
      throw new SdrError("FILE", `${path} is not a file`, "remove it");
  }
  const { bavail, bsize } = await statfs(folder).catch((error: unknown) => {
    throw fileError(folder, error);
  });
  const free = bavail * bsize;
  if (bytes > free) {
    throw new SdrError(
      "NO_SPACE",
      `${name} has ${formatSize(bytes)}, where it is received there is room for ${formatSize(free)}`,
      "free some space, or choose another folder",
    );
  }
}

export class FileSink {
  readonly path: string;
  private readonly temporary: string;
  private readonly options: SinkOptions;
  private readonly file: FileHandle;
  private position = 0;
  private open = true;

  private constructor(options: SinkOptions, temporary: string, file: FileHandle) {
    this.options = options;
    this.path = join(options.folder, options.name);
    this.temporary = temporary;
    this.file = file;
  }

  static async create(options: SinkOptions): Promise<FileSink> {
    await checkRoom(options);
    const suffix = randomBytes(6).toString("hex");
    const temporary = join(options.folder, `.${options.name}.${suffix}.part`);
    try {
      return new FileSink(options, temporary, await open(temporary, "wx", 0o666));
    } catch (error) {
      throw fileError(temporary, error);
    }
  }

  /** Appends all of `bytes`. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      try {
        const { bytesWritten } = await this.file.write(bytes, at, bytes.length - at, this.position);
        at += bytesWritten;
        this.position += bytesWritten;
      } catch (error) {
        throw fileError(this.path, error);
      }
    }
  }

  /** Makes the file durable and gives it its name; the contents have been checked. */
  async commit(): Promise<void> {
    try {
      await this.file.sync();
      await this.file.close();
      this.open = false;
      if (this.options.force) await rename(this.temporary, this.path);
      else await this.nameUnlessTaken();
      await syncFolder(this.options.folder);
    } catch (error) {
      throw fileError(this.path, error);
    }
  }

  /** link() fails where the name was taken meanwhile; rename() would replace that file. */
  private async nameUnlessTaken(): Promise<void> {
    try {
      await link(this.temporary, this.path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EEXIST") throw inTheWay(this.options.name);
      const noLinks =
        code === "EPERM" || code === "ENOTSUP" || code === "ENOSYS" || code === "EMLINK";
      if (!noLinks) throw error;
      if (await exists(this.path)) throw inTheWay(this.options.name);
      await rename(this.temporary, this.path);
      return;
    }
    await unlink(this.temporary);
  }

  /** Takes the temporary file away; harmless after commit. */
  async discard(): Promise<void> {
    if (this.open) await this.file.close().catch(() => {});
    this.open = false;
    await unlink(this.temporary).catch(() => {});
  }
}

/** The new name itself must survive a power cut; file systems that cannot sync a folder are left alone. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r").catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close();
}
