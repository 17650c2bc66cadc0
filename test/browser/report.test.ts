/** The report as its reader sees it: opened from disk in a headless browser. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pageOf, writeWhole } from "../../src/report/html.ts";
import { writeReport } from "../../src/report/html-report.ts";
import type { ResultRow } from "../../src/report/row.ts";
import type { TraceEvent } from "../../src/report/trace.ts";
import { tracePage } from "../../src/report/trace-chart.ts";
import { sampleRow, sampleRows } from "../unit/report/sample-rows.ts";
import { colourCount, findBrowser, launch, openFile } from "./browser.ts";

const program = findBrowser();
const HOSTILE = `</script><script>document.title="taken"</script><img src=x onerror="document.title='taken'">`;

describe.skipIf(program === undefined)("a report in a browser", () => {
  const folder = mkdtempSync(join(tmpdir(), "sdr-browser-"));
  const path = join(folder, "report.html");
  const rows: ResultRow[] = [
    ...sampleRows(),
    ...[1e-4, 1e-3].map((loss) => ({
      ...sampleRow({ experiment: HOSTILE, policy: HOSTILE, bytes: 2 ** 20, loss }),
      link: HOSTILE,
    })),
  ];
  let browser: Browser;

  beforeAll(async () => {
    browser = await launch(program!);
    await writeReport(rows, path, { title: "A report", version: "0.1.0", notices: [HOSTILE] });
  });
  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true });
  });

  test("opens from disk: no errors, no requests, every chart drawn, nothing of the data run", async () => {
    const { page, complaints, requests } = await openFile(browser, path);
    const charts = await page.locator("figure.chart").count();
    expect(charts).toBeGreaterThan(20);
    const marks = await page
      .locator(".plot svg")
      .evaluateAll((all) =>
        all.map((svg) => svg.querySelectorAll(".mark-group path, .mark-rect path").length),
      );
    expect(marks).toHaveLength(charts);
    expect(Math.min(...marks)).toBeGreaterThan(0);
    expect(await page.title()).toBe("A report");
    expect(await page.locator("img").count()).toBe(0);
    expect({ complaints, requests }).toEqual({ complaints: [], requests: [] });
    expect(
      await page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')"),
    ).toBe("refused");
    expect(complaints.join()).toMatch(/Content Security Policy/);
    await page.close();
  });

  test("tables sort by their headers, with the mouse and the keyboard, and say how", async () => {
    const { page } = await openFile(browser, path);
    const table = page.locator("table").last();
    const titles = await table.locator("th").allTextContents();
    const column = titles.indexOf("mean");
    const header = table.locator("th").nth(column);
    const policies = () =>
      table.locator(`tbody tr td:nth-child(${titles.indexOf("policy") + 1})`).allTextContents();
    const before = await policies();
    const inOrder = [...rows].sort((a, b) => a.meanNs - b.meanNs).map(({ policy }) => policy);
    expect(before).not.toEqual(inOrder);
    await header.locator("button").click();
    expect(await header.getAttribute("aria-sort")).toBe("ascending");
    expect(await policies()).toEqual(inOrder);
    await header.locator("button").press("Enter");
    expect(await header.getAttribute("aria-sort")).toBe("descending");
    expect((await policies())[0]).toBe(inOrder.at(-1));
    expect(await table.locator("th[aria-sort=none]").count()).toBe(titles.length - 1);
    await page.close();
  });

  test("light and dark: as the system prefers, as the switch says, and white in print", async () => {
    const { page } = await openFile(browser, path, { colorScheme: "dark" });
    const paper = () => page.evaluate("getComputedStyle(document.body).backgroundColor");
    const title = ".plot svg .role-axis-title text";
    const label = () => page.evaluate(`getComputedStyle(document.querySelector("${title}")).fill`);
    const [dark, darkLabel] = [await paper(), await label()];
    await page.click("#theme");
    const [light, lightLabel] = [await paper(), await label()];
    expect(light).toBe("rgb(255, 255, 255)");
    expect(dark).not.toBe(light);
    expect(darkLabel).not.toBe(lightLabel);
    await page.click("#theme");
    expect(await paper()).toBe(dark);
    await page.emulateMedia({ media: "print" });
    expect(await paper()).toBe(light);
    expect(await label()).toBe(lightLabel);
    expect(await page.locator(".controls").isVisible()).toBe(false);
    expect(await page.locator(".picks").first().isVisible()).toBe(false);
    await page.close();
  });

  test("downloads: JSON Lines give the rows back, CSV has a line for each", async () => {
    const { page } = await openFile(browser, path);
    const download = async (kind: string) => {
      const [event] = await Promise.all([
        page.waitForEvent("download"),
        page.click(`[data-download=${kind}]`),
      ]);
      return { name: event.suggestedFilename(), text: readFileSync(await event.path(), "utf8") };
    };
    const lines = await download("jsonl");
    expect(lines.name).toBe("results.jsonl");
    expect(
      lines.text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual(rows);
    const csv = await download("csv");
    expect(csv.name).toBe("results.csv");
    const [head, ...rest] = csv.text.trimEnd().split("\r\n");
    expect(head).toContain("policy");
    expect(rest).toHaveLength(rows.length);
    expect(csv.text).toContain(`"${HOSTILE.replaceAll('"', '""')}"`);
    await page.close();
  });

  test("a setting chosen above a chart changes the chart", async () => {
    const { page } = await openFile(browser, path);
    const plot = page.locator("[data-chart=e1-over-size]");
    const lines = () =>
      plot
        .locator("svg .mark-line path")
        .evaluateAll((all) => all.map((one) => one.getAttribute("d")));
    const before = await lines();
    await plot.locator("select").selectOption("chunk loss 1e-6");
    await expect.poll(lines).not.toEqual(before);
    expect(await plot.getAttribute("data-picked")).toBe("chunk loss 1e-6");
    await page.close();
  });

  test("on a narrow screen nothing but plots and tables is wider than the screen", async () => {
    const { page, complaints } = await openFile(browser, path, {
      viewport: { width: 390, height: 800 },
    });
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(390);
    const legends = await page
      .locator("[data-chart=e1-over-size] svg .role-legend-entry")
      .first()
      .evaluate((legend) => legend.getBoundingClientRect().right);
    expect(legends).toBeLessThan(390);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("a message's life zooms with the wheel", async () => {
    const events = Array.from({ length: 200 }, (_, chunk): TraceEvent => {
      const timeNs = chunk * 1e5;
      return { kind: "packet", chunk, timeNs, endNs: timeNs + 12e6, text: "16 packets" };
    });
    const trace = join(folder, "trace.html");
    const options = { title: "A trace", subtitle: "", facts: [], chunkCount: 200 };
    await writeWhole(trace, pageOf(tracePage(events, options)));
    const { page, complaints } = await openFile(browser, trace);
    const labels = () => page.locator(".plot svg .role-axis-label text").allTextContents();
    const before = await labels();
    const box = (await page.locator(".plot svg").boundingBox())!;
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await page.mouse.wheel(0, -400);
    await expect.poll(labels).not.toEqual(before);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("a screenshot shows the colours of a heat map", async () => {
    const { page } = await openFile(browser, path);
    await page.locator("[data-chart=e1-heat-ideal-p999]").scrollIntoViewIfNeeded();
    expect(await colourCount(page)).toBeGreaterThan(8);
    await page.close();
  });
});
