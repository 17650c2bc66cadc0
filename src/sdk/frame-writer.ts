/** Packs control frames back to back into datagrams and hands them to the native queue pair. */
import { encodeFrame } from "../reliability/codec.ts";
import { type ControlFrame, FRAME_KINDS } from "../reliability/frames.ts";
import type { NativeQp } from "../transport/native.ts";

const KIND_OTHER = 9; // sdr::PacketKind::other

export class FrameWriter {
  private readonly native: NativeQp;
  private readonly datagram: Uint8Array;
  private readonly scratch: Uint8Array;
  private used = 0;
  private kind = 0;
  private sequence = 0;
  /** Frames handed to the transport. */
  framesSent = 0;
  /** Frames the transport had no room for; losing one costs time only. */
  framesRefused = 0;
  private framesWaiting = 0;

  constructor(native: NativeQp, datagramBytesMax: number) {
    this.native = native;
    this.datagram = new Uint8Array(datagramBytesMax);
    this.scratch = new Uint8Array(datagramBytesMax);
  }

  /** `message` overrides the frame's: sessions do not know their message's number. */
  write(frame: ControlFrame, message?: number): void {
    const bytes = encodeFrame(frame, this.sequence, this.scratch, 0, message);
    this.sequence = (this.sequence + 1) >>> 0;
    if (this.used + bytes > this.datagram.length) this.flush();
    if (this.used === 0) this.kind = frame.kind === "policy" ? KIND_OTHER : FRAME_KINDS[frame.kind];
    this.datagram.set(this.scratch.subarray(0, bytes), this.used);
    this.used += bytes;
    this.framesWaiting++;
  }

  flush(): void {
    if (this.used === 0) return;
    const status = this.native.sendControl(this.kind, this.datagram, this.used);
    if (status === 0) this.framesSent += this.framesWaiting;
    else this.framesRefused += this.framesWaiting;
    this.used = 0;
    this.framesWaiting = 0;
  }
}
