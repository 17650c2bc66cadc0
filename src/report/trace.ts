/**
 * One message's life as events, for a time-sequence picture: packets on the wire and what became of them, chunks
 * completed and recovered, what was acknowledged and asked for. Packets are those that an emulated world recorded; the
 * rest is seen by wrapping the policy, through the interface that every policy has.
 */
import {
  ChunkBitmap,
  type CodingTask,
  type ControlFrame,
  type PacketRecord,
  type Policy,
  type ReceiveSession,
  type SendSession,
} from "../sdk/index.ts";

/**
 * packet, parity, repair: a chunk's packets from its first one's departure to its last one's arrival: sent a first
 * time, made from others, or sent again; lost: those of a chunk that did not arrive; chunk, recovered: complete at the
 * receiver by its packets, or made there from parity; ack, nack, control: a frame leaves the receiver, or the sender.
 */
export const TRACE_KINDS = [
  ...(["packet", "repair", "parity", "lost"] as const),
  ...(["chunk", "recovered", "ack", "nack", "control"] as const),
];
export type TraceKind = (typeof TRACE_KINDS)[number];

export interface TraceEvent {
  readonly kind: TraceKind;
  /** From the first departure of a packet of the message on. */
  readonly timeNs: number;
  /** When it was over, for what takes time. */
  readonly endNs?: number;
  /** The message's own chunks count from 0, parity chunks go on behind them. */
  readonly chunk: number;
  /** Neighbouring chunks that it is about; 1 when absent. */
  readonly count?: number;
  /** Packets, or what a frame says. */
  readonly text: string;
}

export interface MessageShape {
  readonly packetsPerChunk: number;
  readonly chunkCount: number;
}

type Hooks<T> = {
  [K in keyof T]?: T[K] extends ((...args: infer A) => infer R) | undefined
    ? (result: R, ...args: A) => void
    : never;
};

/** The same session, with a look at the calls named in `hooks` after each of them. */
function watched<T extends object>(session: T, hooks: Hooks<T>): T {
  return new Proxy(session, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== "function") return value;
      const hook = hooks[key as keyof T] as ((...all: unknown[]) => void) | undefined;
      if (hook === undefined) return value.bind(target);
      return (...args: unknown[]) => {
        const result: unknown = value.apply(target, args);
        hook(result, ...args);
        return result;
      };
    },
  });
}

function frameText(frame: ControlFrame): string {
  if (frame.kind === "ack") return `ACK, all below ${frame.cumulative}`;
  if (frame.kind === "nack") return `NACK of ${frame.ranges.length} ranges`;
  return frame.kind === "policy" ? `policy frame ${frame.type}` : frame.kind.toUpperCase();
}

/** Follows one message. Times in events() are counted from its first packet. */
export class MessageTrace {
  private readonly seen: TraceEvent[] = [];
  private known = new ChunkBitmap(new Uint32Array(0), 0);
  private readonly making = new Map<CodingTask, number[]>();

  /** The policy to use at both ends instead of `policy`. */
  watch(policy: Policy): Policy {
    return {
      ...policy,
      createSender: (params) => this.watchSender(policy.createSender(params)),
      createReceiver: (params) => {
        const words = new Uint32Array(Math.ceil(params.chunkCount / 32));
        this.known = new ChunkBitmap(words, params.chunkCount);
        return this.watchReceiver(policy.createReceiver(params));
      },
    };
  }

  private watchSender(session: SendSession): SendSession {
    return watched(session, {
      pollControl: (frame, nowNs) => {
        if (frame !== undefined) this.add("control", nowNs, 0, frameText(frame));
      },
    });
  }

  private watchReceiver(session: ReceiveSession): ReceiveSession {
    return watched(session, {
      handleProgress: (_, bitmap, nowNs) => this.handleProgress(bitmap, nowNs),
      pollTask: (task) => {
        if (task !== undefined) this.making.set(task, this.missingOf(task));
      },
      handleTaskDone: (_, task, nowNs, recovered) => {
        if (recovered === 0) return;
        for (const chunk of this.making.get(task) ?? []) {
          this.mark(chunk);
          this.add("recovered", nowNs, chunk, "made from parity");
        }
      },
      pollControl: (frame, nowNs) => {
        if (frame?.kind === "nack")
          for (const { first, count } of frame.ranges)
            this.seen.push({ kind: "nack", timeNs: nowNs, chunk: first, count, text: "asked for" });
        else if (frame?.kind === "ack") this.add("ack", nowNs, frame.cumulative, frameText(frame));
        else if (frame !== undefined) this.add("control", nowNs, 0, frameText(frame));
      },
    });
  }

  private missingOf({ first, count, stride = 1 }: CodingTask): number[] {
    const chunks = Array.from({ length: count }, (_, index) => first + index * stride);
    return chunks.filter((chunk) => !this.known.has(chunk));
  }

  private handleProgress(bitmap: ChunkBitmap, nowNs: number): void {
    const { words, chunkCount } = this.known;
    for (let index = 0; index < words.length; index++) {
      const live = bitmap.words[index] as number;
      for (let fresh = live & ~(words[index] as number); fresh !== 0; fresh &= fresh - 1) {
        const chunk = (index << 5) + 31 - Math.clz32(fresh & -fresh);
        if (chunk >= chunkCount) break;
        this.mark(chunk);
        this.add("chunk", nowNs, chunk, "complete");
      }
    }
  }

  private mark(chunk: number): void {
    (this.known.words[chunk >>> 5] as number) |= 1 << (chunk & 31);
  }

  private add(kind: TraceKind, timeNs: number, chunk: number, text: string): void {
    this.seen.push({ kind, timeNs, chunk, text });
  }

  /**
   * All events, by time. `records`: the packets of a world in which nothing else was sent; `packetsPerChunk` and
   * `chunkCount`, the message's own, say which packet is of which chunk.
   */
  events(records: readonly PacketRecord[], shape: MessageShape): TraceEvent[] {
    const data = records.filter(({ kind }) => kind === "data");
    const startNs = data[0]?.departNs ?? 0;
    const events = [...this.seen, ...packetEvents(data, shape)].map((event) => ({
      ...event,
      timeNs: event.timeNs - startNs,
      ...(event.endNs === undefined ? {} : { endNs: event.endNs - startNs }),
    }));
    return events.sort((a, b) => a.timeNs - b.timeNs);
  }
}

/** One event for the packets of a chunk that were sent in a row, one more for those of them that were lost. */
function packetEvents(
  records: readonly PacketRecord[],
  { packetsPerChunk, chunkCount }: MessageShape,
): TraceEvent[] {
  const events: TraceEvent[] = [];
  const sent = new Set<number>();
  for (let at = 0; at < records.length; ) {
    const first = records[at] as PacketRecord;
    const chunk = Math.floor(first.packet / packetsPerChunk);
    const kind = chunk >= chunkCount ? "parity" : sent.has(chunk) ? "repair" : "packet";
    let endNs = first.departNs;
    let lost = 0;
    let count = 0;
    let before = -1;
    for (; at < records.length; at++) {
      const { packet, departNs, arriveNs } = records[at] as PacketRecord;
      if (Math.floor(packet / packetsPerChunk) !== chunk || packet < before) break;
      before = packet;
      count++;
      if (arriveNs === undefined) lost++;
      endNs = Math.max(endNs, arriveNs ?? departNs);
    }
    sent.add(chunk);
    events.push({ kind, timeNs: first.departNs, endNs, chunk, text: `${count} packets` });
    if (lost > 0)
      events.push({
        kind: "lost",
        timeNs: first.departNs,
        chunk,
        text: `${lost} of ${count} packets lost`,
      });
  }
  return events;
}
