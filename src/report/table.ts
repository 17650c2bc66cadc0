/** Tables for people: plain lines that fit a terminal, numbers to the right. */
import Table from "cli-table3";

export interface Column<Row> {
  /** Words on top; a line break starts a second line. */
  readonly title: string;
  readonly align?: "left" | "right";
  cell(row: Row): string;
}

const RULES = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: " ",
};

/** Rows under their titles, with a line between; ends in a line break. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const table = new Table({
    chars: RULES,
    colAligns: columns.map(({ align = "right" }) => align),
    style: { head: [], border: [], "padding-left": 0, "padding-right": 1 },
  });
  table.push(columns.map(({ title }) => title));
  for (const row of rows) table.push(columns.map((column) => column.cell(row)));
  const lines = table
    .toString()
    .split("\n")
    .map((line) => line.trimEnd());
  const titleLines = Math.max(...columns.map(({ title }) => title.split("\n").length));
  const width = Math.max(...lines.map((line) => [...line].length));
  lines.splice(titleLines, 0, "─".repeat(width));
  return `${lines.join("\n")}\n`;
}
