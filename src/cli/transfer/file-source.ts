/** The file being sent: opened once, read in order, its length fixed when it was opened. */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { SdrError } from "../../base/errors.ts";
import { fileError } from "../failure.ts";

export class FileSource {
  readonly path: string;
  readonly bytes: number;
  private readonly file: FileHandle;

  private constructor(path: string, bytes: number, file: FileHandle) {
    this.path = path;
    this.bytes = bytes;
    this.file = file;
  }

  /** Errors: NOT_FOUND, ACCESS_DENIED, FILE (a directory, a device). */
  static async open(path: string): Promise<FileSource> {
    let file: FileHandle | undefined;
    try {
      // O_NONBLOCK: opening a pipe that nobody writes to would wait forever.
      file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const status = await file.stat();
      if (!status.isFile()) {
        const what = status.isDirectory() ? "is a directory" : "is not a regular file";
        throw new SdrError("FILE", `${path} ${what}`, "give a regular file");
      }
      return new FileSource(path, status.size, file);
    } catch (error) {
      await file?.close();
      throw fileError(path, error);
    }
  }

  /** Fills `target` from byte `position` on. Errors: FILE when the file has become shorter. */
  async read(target: Uint8Array, position: number): Promise<void> {
    for (let at = 0; at < target.length; ) {
      let got: number;
      try {
        got = (await this.file.read(target, at, target.length - at, position + at)).bytesRead;
      } catch (error) {
        throw fileError(this.path, error);
      }
      if (got === 0) {
        throw new SdrError(
          "FILE",
          `${this.path} became shorter while it was sent: ${position + at} of ${this.bytes} B`,
          "send it again when nothing changes it",
        );
      }
      at += got;
    }
  }

  async close(): Promise<void> {
    await this.file.close().catch(() => {});
  }
}
