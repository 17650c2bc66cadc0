/** Memory that messages are sent from and received into. */
import { check, SdrError } from "../base/errors.ts";
import { addon, type NativeRegion } from "../transport/native.ts";

/** Memory an application may register: an ArrayBuffer or any view of one. */
export type BufferSource = ArrayBuffer | ArrayBufferView;

/**
 * A memory region. Its owner is the application: native code reads and writes it in place while work refers to it, and
 * keeps it alive until then. Do not transfer (detach) its buffer while work is pending.
 */
export class MemoryRegion implements Disposable {
  readonly bytes: number;
  /** It has no memory, only a length. */
  readonly isPhantom: boolean;
  /** It is another device's memory: no processor reads it. */
  readonly isDmabuf: boolean;
  private handle: NativeRegion | undefined;
  private readonly view: Uint8Array | undefined;

  private constructor(
    handle: NativeRegion,
    view: Uint8Array | undefined,
    kind: "memory" | "phantom" | "dmabuf" = "memory",
  ) {
    this.handle = handle;
    this.isPhantom = kind === "phantom";
    this.isDmabuf = kind === "dmabuf";
    this.bytes = handle.bytes;
    this.view = view;
  }

  /** Registers user memory. Throws INVALID_ARGUMENT for another type, a SharedArrayBuffer or a detached buffer. */
  static register(source: BufferSource): MemoryRegion {
    const isView = ArrayBuffer.isView(source);
    const buffer: unknown = isView ? source.buffer : source;
    check(
      buffer instanceof ArrayBuffer,
      `memory of type ${describe(source)} cannot be registered`,
      "pass an ArrayBuffer, a TypedArray or a Buffer",
    );
    try {
      const handle = addon().createRegion(source);
      const view = isView
        ? new Uint8Array(buffer, source.byteOffset, source.byteLength)
        : new Uint8Array(buffer);
      return new MemoryRegion(handle, view);
    } catch (cause) {
      throw new SdrError(
        "INVALID_ARGUMENT",
        `the memory cannot be registered: ${(cause as Error).message}`,
        "pass a buffer that is not detached",
        { cause },
      );
    }
  }

  /** Page-aligned, zeroed memory. Throws ENVIRONMENT when the system has no such amount. */
  static allocate(bytes: number): MemoryRegion {
    checkBytes(bytes);
    const handle = fromSystem(bytes, () => addon().allocateRegion(bytes), "use a smaller region");
    return new MemoryRegion(handle, new Uint8Array(handle.buffer));
  }

  /** No memory, only a length: for transports with the `phantom` capability. */
  static phantom(bytes: number): MemoryRegion {
    checkBytes(bytes);
    return new MemoryRegion(addon().phantomRegion(bytes), undefined, "phantom");
  }

  /**
   * Memory of a GPU or another device, exported as a dmabuf: `bytes` bytes from `offset` on of what `fd` stands for, at
   * `address` on the device. The descriptor and the memory stay the caller's until all work on the region is over. For
   * transports with the `dmabuf` capability; policies that recover chunks from parity need host memory.
   * Errors: INVALID_ARGUMENT.
   */
  static dmabuf(from: {
    readonly fd: number;
    readonly offset?: number;
    readonly bytes: number;
    readonly address?: bigint;
  }): MemoryRegion {
    const { fd, offset = 0, bytes, address = 0n } = from;
    checkBytes(bytes);
    check(
      Number.isInteger(fd) &&
        fd >= 0 &&
        fd < 2 ** 31 &&
        Number.isSafeInteger(offset) &&
        offset >= 0,
      `fd ${fd}, offset ${offset} are no part of a dmabuf`,
      "pass an open file descriptor and a byte offset of 0 or more",
    );
    return new MemoryRegion(addon().dmabufRegion(fd, offset, bytes, address), undefined, "dmabuf");
  }

  /** @internal Memory that only native code reads and writes, freed at close() or with the last work on it. */
  static scratch(bytes: number): MemoryRegion {
    checkBytes(bytes);
    const remedy = "use smaller messages, or a code with less parity";
    return new MemoryRegion(
      fromSystem(bytes, () => addon().scratchRegion(bytes), remedy),
      undefined,
    );
  }

  /** A region as it is, other memory registered. Throws as register does. */
  static of(memory: MemoryRegion | BufferSource): MemoryRegion {
    return memory instanceof MemoryRegion ? memory : MemoryRegion.register(memory);
  }

  /** The bytes, in place. Throws INVALID_ARGUMENT for a phantom. */
  get data(): Uint8Array {
    if (this.view === undefined)
      throw new SdrError(
        "INVALID_ARGUMENT",
        "the region has no bytes to show",
        "allocate or register one",
      );
    return this.view;
  }

  /** @internal Throws CLOSED after close, INVALID_ARGUMENT when the buffer was detached since. */
  get native(): NativeRegion {
    if (this.view !== undefined && this.view.byteLength !== this.bytes)
      throw new SdrError(
        "INVALID_ARGUMENT",
        "the region's ArrayBuffer was detached",
        "do not transfer a registered buffer",
      );
    if (this.handle === undefined)
      throw new SdrError("CLOSED", "the memory region is closed", "register it again");
    return this.handle;
  }

  /**
   * @internal Throws CLOSED after close, INVALID_ARGUMENT when the range is not within the region, or for a phantom
   * where the transport needs memory.
   */
  checkRange(
    offset: number,
    bytes: number,
    can: { readonly phantom: boolean; readonly dmabuf: boolean },
  ): void {
    void this.native;
    check(
      !this.isDmabuf || can.dmabuf,
      "this transport cannot reach another device's memory",
      "use a verbs context on a card whose capabilities.dmabuf is true, or host memory",
    );
    check(
      !this.isPhantom || can.phantom,
      "this transport needs memory, not a phantom region",
      "allocate or register a region",
    );
    check(
      Number.isSafeInteger(offset) &&
        Number.isSafeInteger(bytes) &&
        offset >= 0 &&
        bytes >= 0 &&
        offset + bytes <= this.bytes,
      `bytes ${offset} to ${offset + bytes} are beyond the region's ${this.bytes}`,
      "stay within the region",
    );
  }

  /** Takes no further work. Memory that pending work refers to stays alive until that is over. */
  close(): void {
    this.handle?.close();
    this.handle = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Memory that the system may not have: ENVIRONMENT. */
function fromSystem<T>(bytes: number, allocate: () => T, remedy: string): T {
  try {
    return allocate();
  } catch (cause) {
    throw new SdrError("ENVIRONMENT", `${bytes} B cannot be allocated`, remedy, { cause });
  }
}

function checkBytes(bytes: number): void {
  check(
    Number.isSafeInteger(bytes) && bytes >= 0,
    `${bytes} B is not a valid size`,
    "use a whole number of bytes, 0 or more",
  );
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (ArrayBuffer.isView(value))
    return `${value.constructor.name} over ${value.buffer.constructor.name}`;
  return typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
}
