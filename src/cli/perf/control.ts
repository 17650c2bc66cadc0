/** The control queue pair's notes, in either direction: sent reliably, and kept until somebody asks for their kind. */
import { SdrError } from "../../base/errors.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import { MemoryRegion } from "../../sdk/region.ts";
import { reliableReceive, reliableWrite } from "../../sdk/reliable.ts";
import {
  CONTROL_MESSAGES,
  CONTROL_POLICY,
  decodeNote,
  encodeNote,
  NOTE_BYTES_MAX,
  type NoteKind,
} from "./protocol.ts";

/** Receives posted at a time; a run has at most four notes a direction, each kind once. */
const POSTED = CONTROL_MESSAGES / 2;

export class Control {
  readonly qp: QueuePair;
  private readonly notes = new Map<NoteKind, unknown>();
  private readonly waiting = new Map<NoteKind, (report: unknown) => void>();
  private readonly ended: Promise<never>;

  /** Reads from now on. */
  constructor(qp: QueuePair) {
    this.qp = qp;
    const lanes = Array.from({ length: POSTED }, () => this.read());
    this.ended = Promise.race(lanes);
    this.ended.catch(() => {});
    for (const lane of lanes) lane.catch(() => {});
  }

  private async read(): Promise<never> {
    const region = MemoryRegion.allocate(NOTE_BYTES_MAX);
    for (;;) {
      const { bytes } = await reliableReceive(this.qp, region, CONTROL_POLICY);
      const { kind, report } = decodeNote(region.data.subarray(0, bytes));
      if (this.notes.has(kind))
        throw new SdrError("PEER_INCOMPATIBLE", `the peer sent a second note of kind ${kind}`, "");
      this.notes.set(kind, report);
      this.waiting.get(kind)?.(report);
    }
  }

  /** Rejects with what ended the connection. */
  get failure(): Promise<never> {
    return this.ended;
  }

  /** Resolves when the peer has it. */
  async send(kind: NoteKind, report: object = {}): Promise<void> {
    await reliableWrite(this.qp, encodeNote(kind, report), CONTROL_POLICY);
  }

  /** The peer's note of that kind. Errors: those of the connection. */
  expect(kind: NoteKind): Promise<unknown> {
    const note = new Promise((resolve) => {
      if (this.notes.has(kind)) resolve(this.notes.get(kind));
      else this.waiting.set(kind, resolve);
    });
    return Promise.race([note, this.ended]);
  }
}
