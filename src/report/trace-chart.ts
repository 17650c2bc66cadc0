/** One message's life as a time-sequence picture that one can zoom: time to the right, chunks upwards. */
import { formatTime } from "../base/units.ts";
import { type Chart, FINE_TIME_LABEL, type JsonObject } from "./charts-format.ts";
import { type Page, pageData } from "./html.ts";
import { TRACE_KINDS, type TraceEvent, type TraceKind } from "./trace.ts";

/** Marks one picture draws: what a browser still zooms without a pause. More events are put together. */
export const TRACE_MARKS_MAX = 8000;
/** Stretches of time that events are put together in. */
const SLOTS = 1500;
const PIXELS = { width: 880, height: 460 };

interface Look {
  readonly word: string;
  readonly colour: string;
  readonly shape: string;
}

const LOOKS: Readonly<Record<TraceKind, Look>> = {
  packet: { word: "packets", colour: "var(--series-0)", shape: "square" },
  repair: { word: "repeated packets", colour: "var(--series-2)", shape: "square" },
  parity: { word: "parity", colour: "var(--series-3)", shape: "square" },
  lost: { word: "lost packets", colour: "var(--series-1)", shape: "cross" },
  chunk: { word: "chunk complete", colour: "var(--series-5)", shape: "circle" },
  recovered: { word: "chunk recovered", colour: "var(--series-4)", shape: "diamond" },
  ack: { word: "ACK", colour: "var(--ink-soft)", shape: "triangle-left" },
  nack: { word: "NACK", colour: "var(--series-7)", shape: "triangle-down" },
  control: { word: "control", colour: "var(--series-6)", shape: "triangle-right" },
};

/** Events of a kind that are near each other as one, so that at most `most` are left. */
export function condense(events: readonly TraceEvent[], most = TRACE_MARKS_MAX): TraceEvent[] {
  if (events.length <= most) return [...events];
  const last = events.reduce((end, { timeNs, endNs = timeNs }) => Math.max(end, endNs), 1);
  for (let chunks = 2, slots = SLOTS; ; chunks *= 2, slots = Math.floor(slots / 1.5)) {
    const groups = new Map<string, { event: TraceEvent; events: number }>();
    for (const event of events) {
      const slot = Math.min(slots - 1, Math.floor((event.timeNs / last) * slots));
      const name = `${event.kind} ${Math.floor(event.chunk / chunks)} ${slot}`;
      const group = groups.get(name);
      if (group === undefined) groups.set(name, { event, events: 1 });
      else groups.set(name, { event: joined(group.event, event), events: group.events + 1 });
    }
    // With one slot and one range of chunks, kinds are all that is left.
    if (groups.size > most && slots > 1) continue;
    return [...groups.values()].map(({ event, events: count }) =>
      count === 1 ? event : { ...event, text: `${count} events near each other` },
    );
  }
}

function joined(a: TraceEvent, b: TraceEvent): TraceEvent {
  const top = Math.max(a.chunk + (a.count ?? 1), b.chunk + (b.count ?? 1));
  const chunk = Math.min(a.chunk, b.chunk);
  const merged = { ...a, timeNs: Math.min(a.timeNs, b.timeNs), chunk, count: top - chunk };
  const ends = [a.endNs, b.endNs].filter((ns) => ns !== undefined);
  return ends.length === 0 ? merged : { ...merged, endNs: Math.max(...ends) };
}

function markOf(event: TraceEvent, top: number): JsonObject {
  const { kind, timeNs, endNs, chunk, count = 1, text } = event;
  const chunks = count === 1 ? `chunk ${chunk}` : `chunks ${chunk} to ${chunk + count - 1}`;
  const shared = { kind: LOOKS[kind].word, t: timeNs, text, chunks };
  const at =
    endNs === undefined
      ? formatTime(timeNs, 7)
      : `${formatTime(timeNs, 7)} – ${formatTime(endNs, 7)}`;
  if (endNs === undefined) return { ...shared, at, c: chunk + count / 2 };
  // At least a pixel high, before one zooms in.
  const high = Math.max(count, (1.2 * top) / PIXELS.height);
  return { ...shared, at, end: endNs, c: chunk, high: chunk + high };
}

export interface TraceOptions {
  readonly id: string;
  /** Of the message itself: parity is numbered behind. */
  readonly chunkCount: number;
}

/** The picture of a message's events; more than TRACE_MARKS_MAX are put together, and the text says so. */
export function traceChart(events: readonly TraceEvent[], { id, chunkCount }: TraceOptions): Chart {
  const top = events.reduce(
    (most, { chunk, count = 1 }) => Math.max(most, chunk + count),
    chunkCount,
  );
  const hasParity = events.some(({ kind }) => kind === "parity");
  const last = events.reduce((end, { timeNs, endNs = timeNs }) => Math.max(end, endNs), 1);
  const drawn = condense(events);
  const values = drawn.map((event) => markOf(event, top));
  const kinds = TRACE_KINDS.filter((kind) => drawn.some((event) => event.kind === kind));
  const domain = kinds.map((kind) => LOOKS[kind].word);
  const legend = { title: null, orient: "top", columns: domain.length };
  const channel = { field: "kind", type: "nominal", sort: domain, legend };
  const color = { ...channel, scale: { domain, range: kinds.map((kind) => LOOKS[kind].colour) } };
  const shape = { ...channel, scale: { domain, range: kinds.map((kind) => LOOKS[kind].shape) } };
  const x = {
    ...{
      field: "t",
      type: "quantitative",
      scale: { domain: [-0.01 * last, 1.02 * last], nice: false },
    },
    axis: {
      title: "time since the first packet",
      labelExpr: FINE_TIME_LABEL,
      labelOverlap: "greedy",
      labelSeparation: 12,
    },
  };
  const y = {
    ...{
      field: "c",
      type: "quantitative",
      axis: { title: "chunk", format: ",~r", tickMinStep: 1 },
    },
    scale: { domain: [-0.02 * top - 0.2, 1.02 * top + 0.2], nice: false },
  };
  const tooltip = [
    ...[
      { field: "kind", title: "what" },
      { field: "chunks", title: "of" },
    ],
    ...[
      { field: "at", title: "when" },
      { field: "text", title: "details" },
    ],
  ];
  const condensed =
    drawn.length < events.length
      ? ` The ${events.length} events are too many for one picture: those near each other are drawn as one; ` +
        "the downloads have all."
      : "";
  return {
    ...{
      id,
      title: "One message, packet by packet",
      panelPixels: PIXELS.width + 80,
      elastic: true,
    },
    text:
      "Bars run from the departure of a chunk's first packet to the arrival of its last; points are chunks complete " +
      "at the receiver and control frames as they leave. Wheel to zoom, drag to move, double-click for the whole." +
      `${hasParity ? ` Chunks from ${chunkCount} on (above the line) are parity.` : ""}${condensed}`,
    spec: {
      ...{ ...PIXELS, data: { values }, encoding: { x, y, color } },
      layer: [
        {
          params: [{ name: "zoom", select: { type: "interval" }, bind: "scales" }],
          transform: [{ filter: "isValid(datum.end)" }],
          mark: { type: "rect", clip: true, opacity: 0.5 },
          encoding: { x2: { field: "end" }, y2: { field: "high" }, tooltip },
        },
        {
          transform: [{ filter: "!isValid(datum.end)" }],
          mark: { type: "point", clip: true, filled: true, size: 26, opacity: 1 },
          encoding: { shape, tooltip },
        },
        ...(hasParity
          ? [
              {
                data: { values: [{ c: chunkCount }] },
                mark: { type: "rule", strokeDash: [4, 3], color: "var(--ink-soft)", clip: true },
                encoding: { x: null, color: null, y: { field: "c", type: "quantitative" } },
              },
            ]
          : []),
      ],
    },
  } as unknown as Chart;
}

export interface TracePageOptions extends Omit<TraceOptions, "id"> {
  readonly title: string;
  /** Under the title: policy, size, link. */
  readonly subtitle: string;
  /** What was run: names and values. */
  readonly facts: readonly (readonly [name: string, value: string])[];
}

/** The page of one message's life: its picture, how many events of each kind, all events to download. */
export function tracePage(events: readonly TraceEvent[], options: TracePageOptions): Page {
  const { title, subtitle, facts, chunkCount } = options;
  const counts = TRACE_KINDS.map((kind) => events.filter((event) => event.kind === kind));
  const found = counts.filter((same) => same.length > 0);
  return {
    ...{ title, subtitle, data: pageData("trace", events) },
    sections: [
      {
        title: "The message's life",
        blocks: [
          { kind: "chart", chart: traceChart(events, { id: "trace", chunkCount }) },
          { kind: "facts", facts },
          {
            ...{ kind: "table", caption: "Events by kind" },
            columns: [
              { title: "what" },
              ...["events", "first", "last"].map((name) => ({ title: name, numeric: true })),
            ],
            rows: found.map((same) => {
              const first = same.reduce(
                (ns, { timeNs }) => Math.min(ns, timeNs),
                Number.POSITIVE_INFINITY,
              );
              const last = same.reduce((ns, { timeNs, endNs = timeNs }) => Math.max(ns, endNs), 0);
              return [
                ...[LOOKS[same[0]!.kind].word, [String(same.length), same.length] as const],
                ...[[formatTime(first), first] as const, [formatTime(last), last] as const],
              ];
            }),
          },
        ],
      },
    ],
  };
}
