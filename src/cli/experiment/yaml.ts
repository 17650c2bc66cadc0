/**
 * The text of an experiment as texts, lists and maps that know their places, so that every complaint can name line and
 * column. Knows YAML, nothing of experiments. A file is anybody's: its size, depth and aliases are bounded.
 */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type YAMLMap,
} from "yaml";
import { SdrError } from "../../base/errors.ts";

export const YAML_LIMITS = {
  fileBytes: 64 << 10,
  /** Nested lists and maps; what parses them is recursive. */
  depth: 16,
  /** Blanks and dashes that a line may begin with: nesting without brackets. */
  indent: 100,
  aliases: 100,
  /** Values, those behind aliases counted each time. */
  values: 10_000,
} as const;

export interface Place {
  readonly path: string;
  readonly line: number;
  readonly column: number;
}

export type Value =
  | { readonly kind: "text"; readonly at: Place; readonly text: string }
  | { readonly kind: "list"; readonly at: Place; readonly items: readonly Value[] }
  | { readonly kind: "map"; readonly at: Place; readonly entries: readonly Entry[] };

export interface Entry {
  readonly key: string;
  readonly at: Place;
  readonly value: Value;
}

/** Throws INVALID_ARGUMENT, "FILE:LINE:COLUMN: what (remedy)". */
export function refuseAt({ path, line, column }: Place, what: string, remedy: string): never {
  throw new SdrError("INVALID_ARGUMENT", `${path}:${line}:${column}: ${what}`, remedy);
}

/** An error of `read` about a value, with its place and key before it. */
export function withPlace<T>(at: Place, key: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SdrError)) throw error;
    const { message, remedy } = error;
    const tail = ` (${remedy})`;
    const what = remedy !== "" && message.endsWith(tail) ? message.slice(0, -tail.length) : message;
    const { path, line, column } = at;
    const place = `${path}:${line}:${column}: ${key}: `;
    throw new SdrError(error.code, place + what, remedy, { cause: error });
  }
}

/** The recursive parser is given nothing that is deep; brackets in quotes and comments count too. */
function checkDepth(text: string, path: string): void {
  const { depth, indent } = YAML_LIMITS;
  let open = 0;
  for (const [index, line] of text.split("\n").entries()) {
    const at = { path, line: index + 1, column: 1 };
    const leading = /^[ \t?-]*/.exec(line)?.[0].length ?? 0;
    if (leading > indent) refuseAt(at, "the line begins too far to the right", "indent less");
    for (const letter of line) {
      if (letter === "[" || letter === "{") open++;
      else if (letter === "]" || letter === "}") open = Math.max(0, open - 1);
      if (open > depth) refuseAt(at, `more than ${depth} brackets are open`, "close them");
    }
  }
}

/** The keys of a file, in order. Errors: INVALID_ARGUMENT, TOO_LARGE. */
export function readYaml(text: string, path: string): readonly Entry[] {
  if (text.length > YAML_LIMITS.fileBytes) {
    const most = YAML_LIMITS.fileBytes;
    throw new SdrError("TOO_LARGE", `${path} has ${text.length} B`, `give at most ${most}`);
  }
  checkDepth(text, path);
  const lineCounter = new LineCounter();
  // Failsafe: every value is the text that was written, "1e-3" and "64KiB" alike.
  const options = {
    lineCounter,
    schema: "failsafe",
    prettyErrors: false,
    uniqueKeys: false,
  } as const;
  const place = (offset: number): Place => {
    const { line, col } = lineCounter.linePos(offset);
    return { path, line, column: col };
  };
  let doc: Document.Parsed;
  try {
    doc = parseDocument(text, options) as Document.Parsed;
  } catch (cause) {
    const remedy = "write plain YAML";
    throw new SdrError("INVALID_ARGUMENT", `${path} is not understood`, remedy, { cause });
  }
  const problem = doc.errors[0] ?? doc.warnings[0];
  if (problem !== undefined) refuseAt(place(problem.pos[0]), problem.message, "write plain YAML");
  const start = { path, line: 1, column: 1 };
  const { contents } = doc;
  if (!isMap(contents)) refuseAt(start, "this is no experiment", 'write lines "key: value"');
  return new Reader(doc, place).entries(contents);
}

class Reader {
  private readonly doc: Document.Parsed;
  private readonly place: (offset: number) => Place;
  private values = 0;
  private aliases = 0;

  constructor(doc: Document.Parsed, place: (offset: number) => Place) {
    this.doc = doc;
    this.place = place;
  }

  private at(node: Node): Place {
    return this.place(node.range?.[0] ?? 0);
  }

  /** `at`: where it is used, if that is not where it stands. */
  private value(node: Node | null, at: Place): Value {
    if (++this.values > YAML_LIMITS.values) {
      refuseAt(at, `more than ${YAML_LIMITS.values} values`, "write several experiments");
    }
    if (isAlias(node)) {
      if (++this.aliases > YAML_LIMITS.aliases) {
        refuseAt(at, `more than ${YAML_LIMITS.aliases} aliases`, "write the values out");
      }
      const target = node.resolve(this.doc);
      if (target === undefined) {
        refuseAt(at, `alias *${node.source} has no anchor`, `write &${node.source} before it`);
      }
      return this.value(target, at);
    }
    if (node?.tag?.startsWith("!")) {
      refuseAt(at, `tag ${node.tag} is not known`, "leave it out");
    }
    if (isMap(node)) return { kind: "map", at, entries: this.entries(node) };
    if (isSeq(node)) {
      const items = node.items.map((item) => this.value(item as Node, this.at(item as Node)));
      return { kind: "list", at, items };
    }
    const text = isScalar(node) && typeof node.value === "string" ? node.value : "";
    return { kind: "text", at, text: text.trim() };
  }

  entries(map: YAMLMap): Entry[] {
    const entries: Entry[] = [];
    const seen = new Map<string, Place>();
    for (const { key, value } of map.items) {
      const at = this.at(key as Node);
      if (!isScalar(key) || typeof key.value !== "string") {
        refuseAt(at, "a key is no plain word", 'write "key: value"');
      }
      const before = seen.get(key.value);
      if (before !== undefined) {
        refuseAt(at, `${key.value} is given twice, first in line ${before.line}`, "give it once");
      }
      seen.set(key.value, at);
      const node = value as Node | null;
      const where = node?.range ? this.at(node) : at;
      entries.push({ key: key.value, at, value: this.value(node, where) });
    }
    return entries;
  }
}
