/**
 * A page that opens from disk: text, charts and tables in sections, data to download, its own script and styles within.
 * It may reach nothing: its content security policy forbids every connection, and allows only the two scripts whose
 * hashes it names. Whatever comes from files is escaped as text of HTML, or packed (gzip, base64) for its script.
 */
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Chart, JsonObject } from "./charts-format.ts";
import { compileChart } from "./compile.ts";

/** A cell: its text, and what it is sorted by where that is not the text. */
export type Cell = string | readonly [text: string, sortKey: number | string];

/** A table that sorts by its headers. */
export interface Table {
  readonly kind: "table";
  readonly caption: string;
  readonly columns: readonly { readonly title: string; readonly numeric?: boolean }[];
  readonly rows: readonly (readonly Cell[])[];
}

/** Pairs of a name and what it is. */
export interface Facts {
  readonly kind: "facts";
  readonly facts: readonly (readonly [name: string, value: string])[];
}

export type Block = Table | Facts | { readonly kind: "chart"; readonly chart: Chart };

export interface Section {
  readonly title: string;
  readonly text?: string;
  readonly blocks: readonly Block[];
}

/** Records to download: each array of `rows` has the values of `fields`, null where a record has none. */
export interface PageData {
  /** Of the files: letters, digits, dashes. */
  readonly name: string;
  readonly fields: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
}

export interface Page {
  readonly title: string;
  /** A line under the title. */
  readonly subtitle?: string;
  /** What the reader should know first: lines left out, trials failed. */
  readonly notices?: readonly string[];
  readonly sections: readonly Section[];
  readonly data?: PageData;
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Text for an element or a quoted attribute. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}

/** What the page's script reads: JSON, packed, in letters that HTML has no use for. */
function packed(value: unknown): string {
  return gzipSync(JSON.stringify(value), { level: 9 }).toString("base64");
}

/** The page's own script and styles, the same below src and dist. */
function asset(name: string): string {
  return readFileSync(new URL(`../../src/report/page/${name}`, import.meta.url), "utf8");
}

/** Vega's build for browsers. */
function vegaScript(): string {
  const main = createRequire(import.meta.url).resolve("vega");
  return readFileSync(join(dirname(main), "vega.min.js"), "utf8");
}

/** A script that cannot be ended early; scripts of ours and vega's contain no such text. */
function inlineScript(code: string): { element: string; hash: string } {
  if (/<\/script|<!--/i.test(code)) throw new Error("a script would end its own element");
  const hash = createHash("sha256").update(code).digest("base64");
  return { element: `<script>${code}</script>`, hash: `'sha256-${hash}'` };
}

function anchorOf(index: number): string {
  return `s${index + 1}`;
}

function chartBlock({ id, title, text }: Chart): string {
  return `<figure class="chart" id="${escapeHtml(id)}">
<figcaption><h3>${escapeHtml(title)}</h3><p>${escapeHtml(text)}</p></figcaption>
<div class="plot" data-chart="${escapeHtml(id)}"></div>
</figure>`;
}

function factsBlock({ facts }: Facts): string {
  const items = facts.map(
    ([name, value]) => `<div><dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd></div>`,
  );
  return `<dl class="facts">${items.join("")}</dl>`;
}

function contents(sections: readonly Section[]): string {
  if (sections.length < 2) return "";
  const items = sections.map(
    ({ title }, index) => `<li><a href="#${anchorOf(index)}">${escapeHtml(title)}</a></li>`,
  );
  return `<nav aria-label="Contents"><ol>${items.join("")}</ol></nav>`;
}

function noticesOf(notices: readonly string[]): string {
  if (notices.length === 0) return "";
  const items = notices.map((notice) => `<li>${escapeHtml(notice)}</li>`);
  return `<ul class="notices" role="note">${items.join("")}</ul>`;
}

const BUTTONS = `<button type="button" data-download="jsonl">JSON Lines</button>
<button type="button" data-download="csv">CSV</button>`;

/** The page's HTML. Charts are compiled here; an invalid one throws. */
export function pageOf(page: Page): string {
  const { title, subtitle = "", notices = [], sections, data } = page;
  const tables: Omit<Table, "kind" | "caption">[] = [];
  const charts: object[] = [];
  const block = (item: Block): string => {
    if (item.kind === "facts") return factsBlock(item);
    if (item.kind === "chart") {
      const { id, title: label, panelPixels, elastic } = item.chart;
      charts.push({ id, label, panelPixels, elastic, spec: compileChart(item.chart) });
      return chartBlock(item.chart);
    }
    const index = tables.push({ columns: item.columns, rows: item.rows }) - 1;
    const caption = escapeHtml(item.caption);
    return `<div class="scroll" tabindex="0"><table data-table="${index}">
<caption><span>${caption}</span></caption></table></div>`;
  };
  const body = sections.map(
    (section, index) => `<section id="${anchorOf(index)}">
<h2>${escapeHtml(section.title)}</h2>
${section.text === undefined ? "" : `<p class="lead">${escapeHtml(section.text)}</p>`}
${section.blocks.map(block).join("\n")}
</section>`,
  );
  const scripts = [inlineScript(vegaScript()), inlineScript(asset("page.js"))];
  const hashes = scripts.map(({ hash }) => hash).join(" ");
  // Vega makes functions of the charts' expressions, hence eval; they are compiled from ours, data are never code.
  const policy = `default-src 'none'; script-src ${hashes} 'unsafe-eval'; style-src 'unsafe-inline'`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<style>${asset("page.css")}</style>
</head>
<body>
<header>
<div><h1>${escapeHtml(title)}</h1><p>${escapeHtml(subtitle)}</p></div>
<div class="controls">${data === undefined ? "" : BUTTONS}
<button type="button" id="theme" aria-pressed="false">Dark</button></div>
</header>
<main>
${noticesOf(notices)}
${contents(sections)}
${body.join("\n")}
</main>
<noscript><p class="notices">The pictures and tables of this page are drawn by a script.</p></noscript>
<script type="text/plain" id="contents">${packed({ charts, tables, data: data ?? null })}</script>
${scripts.map(({ element }) => element).join("\n")}
</body>
</html>
`;
}

/** Writes a file whole or not at all: into a neighbour first, which then takes its place. Errors: the file system's. */
export async function writeWhole(path: string, contents: string | Uint8Array): Promise<void> {
  const tag = randomBytes(6).toString("hex");
  const draft = join(dirname(path), `.${basename(path)}.${tag}.part`);
  try {
    await writeFile(draft, contents, { flag: "wx" });
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

/** Records as the page keeps them: every field that any of them has. */
export function pageData(name: string, records: readonly object[]): PageData {
  const fields = [...new Set(records.flatMap((record) => Object.keys(record)))];
  const rows = records.map((record) =>
    fields.map((field) => (record as JsonObject)[field] ?? null),
  );
  return { name, fields, rows };
}
