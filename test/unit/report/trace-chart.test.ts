import { parse, View } from "vega";
import { describe, expect, test } from "vitest";
import { compileChart } from "../../../src/report/compile.ts";
import { pageOf } from "../../../src/report/html.ts";
import type { TraceEvent } from "../../../src/report/trace.ts";
import {
  condense,
  TRACE_MARKS_MAX,
  traceChart,
  tracePage,
} from "../../../src/report/trace-chart.ts";

/** `chunks` chunks, one sent each microsecond, each tenth lost and repaired. */
function life(chunks: number): TraceEvent[] {
  return Array.from({ length: chunks }, (_, chunk): TraceEvent[] => {
    const timeNs = chunk * 1000;
    const sent = { chunk, timeNs, endNs: timeNs + 12e6, text: "16 packets" };
    const done = (ns: number): TraceEvent => ({ kind: "chunk", chunk, timeNs: ns, text: "" });
    if (chunk % 10 !== 0) return [{ kind: "packet", ...sent }, done(sent.endNs)];
    const again = { ...sent, timeNs: timeNs + 25e6, endNs: timeNs + 37e6 };
    return [
      { kind: "lost", chunk, timeNs, text: "16 packets" },
      { kind: "nack", chunk, timeNs: timeNs + 13e6, text: "NACK" },
      { kind: "repair", ...again },
      done(again.endNs),
    ];
  }).flat();
}

async function svgOf(events: readonly TraceEvent[], chunkCount: number): Promise<string> {
  const spec = compileChart(traceChart(events, { id: "trace", chunkCount }));
  return await new View(parse(spec as Parameters<typeof parse>[0]), { renderer: "none" }).toSVG();
}

describe("a message's life as a picture", () => {
  test("every event is a mark", async () => {
    const events = life(50);
    const svg = await svgOf(events, 50);
    const drawn = (mark: string) => {
      const [, group] = new RegExp(`<g class="mark-${mark}[^>]*layer[^>]*>(.*?)</g>`).exec(svg)!;
      return group!.match(/<path/g)!.length;
    };
    const bars = events.filter(({ endNs }) => endNs !== undefined).length;
    expect(drawn("rect")).toBe(bars);
    expect(drawn("symbol")).toBe(events.length - bars);
    expect(svg).toContain("repeated packets");
    expect(svg).not.toMatch(/NaN|undefined/);
  });

  test("parity has a line below it, and only parity", async () => {
    const ack: TraceEvent = { kind: "ack", chunk: 50, timeNs: 1, text: "" };
    const parity: TraceEvent = { kind: "parity", chunk: 50, timeNs: 1, endNs: 2, text: "" };
    expect(await svgOf([...life(50), ack], 50)).not.toContain("mark-rule role-mark layer");
    expect(await svgOf([...life(50), parity], 50)).toContain("mark-rule role-mark layer");
  });

  test("more events than a picture draws are put together: all kinds, all chunks, the whole time", () => {
    const events = life(24_000);
    expect(events.length).toBeGreaterThan(50_000);
    const drawn = condense(events);
    expect(drawn.length).toBeLessThanOrEqual(TRACE_MARKS_MAX);
    expect(drawn.length).toBeGreaterThan(TRACE_MARKS_MAX / 10);
    const span = (all: readonly TraceEvent[], kind: string) => {
      const same = all.filter((event) => event.kind === kind);
      const chunks = same.map(({ chunk, count = 1 }) => [chunk, chunk + count]);
      return [
        Math.min(...chunks.map(([low]) => low!)),
        Math.max(...chunks.map(([, high]) => high!)),
        Math.min(...same.map(({ timeNs }) => timeNs)),
        Math.max(...same.map(({ endNs = 0 }) => endNs)),
      ];
    };
    for (const kind of ["packet", "lost", "nack", "repair", "chunk"]) {
      expect(span(drawn, kind), kind).toEqual(span(events, kind));
    }
    expect(traceChart(events, { id: "trace", chunkCount: 24_000 }).text).toMatch(/too many/);
  });

  test("few events stay as they are, and even a limit below the kinds ends", () => {
    expect(condense(life(50))).toEqual(life(50));
    expect(condense(life(50), 2).length).toBeLessThanOrEqual(5);
  });

  test("its page says what there was and gives the events away", () => {
    const page = tracePage(life(50), {
      title: "a",
      subtitle: "b",
      facts: [["c", "d"]],
      chunkCount: 50,
    });
    expect(page.data!.rows).toHaveLength(life(50).length);
    expect(pageOf(page)).toContain("<dt>c</dt><dd>d</dd>");
    const table = page.sections[0]!.blocks.find((block) => block.kind === "table")!;
    expect(table.rows.map((cells) => cells[0])).toEqual([
      ...["packets", "repeated packets", "lost packets", "chunk complete", "NACK"],
    ]);
  });
});
