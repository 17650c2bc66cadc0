/**
 * Who may import whom, who may know the time, and what files look like. Every finding names file
 * and line, so that a failure says where to look.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, extname, join, posix, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, test } from "vitest";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** Layers and what each may import besides itself: ARCHITECTURE.md has the picture. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  link: ["base"],
  model: ["link", "base"],
  reliability: ["model", "base"],
  transport: ["link", "base"],
  codec: ["transport", "base"],
  sdk: ["codec", "transport", "link", "reliability", "model", "base"],
  report: ["sdk", "model", "link", "reliability", "base"],
  cli: ["report", "sdk", "model", "transport", "link", "reliability", "base"],
};
/** The only layers that may read a real clock, wait in real time, or draw unseeded randomness. */
const MAY_READ_CLOCK = ["transport", "cli"];
/** Layers that run the same everywhere: no module of the platform at all. */
const PLATFORM_FREE = ["base", "link", "reliability", "model"];

const CLOCK_NAMES = new Set([
  ...["Date", "performance", "hrtime", "setTimeout", "setInterval", "setImmediate"],
]);
const CLOCK_MODULES = /^node:(perf_hooks|timers)/;

const FILE_LINES_MAX = 600;
const LINE_COLUMNS_MAX = 120;

interface Source {
  /** Relative to the root, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

function sources(folders: readonly string[], extensions: readonly string[]): Source[] {
  return folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && extensions.includes(extname(entry.name)))
      .map((entry) => {
        const file = join(entry.parentPath, entry.name);
        const path = relative(root, file).split(sep).join("/");
        return { path, text: readFileSync(file, "utf8") };
      }),
  );
}

function parse({ path, text }: Source): ts.SourceFile {
  return ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
}

function place(file: ts.SourceFile, node: ts.Node): string {
  const { line } = file.getLineAndCharacterOfPosition(node.getStart());
  return `${file.fileName}:${line + 1}`;
}

function visit(node: ts.Node, see: (node: ts.Node) => void): void {
  see(node);
  ts.forEachChild(node, (child) => visit(child, see));
}

/** What a node imports: of import and export declarations, import() and import types. */
function importedModule(node: ts.Node): ts.StringLiteralLike | undefined {
  let name: ts.Node | undefined;
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) name = node.moduleSpecifier;
  else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
    name = node.argument.literal;
  } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    name = node.arguments[0];
  }
  return name !== undefined && ts.isStringLiteralLike(name) ? name : undefined;
}

function layerOf(path: string): string {
  return path.split("/")[1] ?? "";
}

function wrongImports(source: Source): string[] {
  const file = parse(source);
  const layer = layerOf(source.path);
  const allowed = MAY_IMPORT[layer];
  if (allowed === undefined) return [`${source.path}:1 is in no known layer`];
  const found: string[] = [];
  visit(file, (node) => {
    const name = importedModule(node);
    if (name === undefined) return;
    const at = place(file, node);
    if (!name.text.startsWith(".")) {
      if (PLATFORM_FREE.includes(layer)) found.push(`${at} ${layer} imports ${name.text}`);
      return;
    }
    const target = posix.join(posix.dirname(source.path), name.text);
    const to = layerOf(target);
    if (!target.startsWith("src/")) found.push(`${at} imports ${target} outside src`);
    else if (to !== layer && !allowed.includes(to)) found.push(`${at} ${layer} imports ${to}`);
  });
  return found;
}

/** True for a name that is a property, key or declaration of its own rather than a global. */
function isOwnName(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.name === node;
  if (ts.isPropertyAssignment(parent) || ts.isPropertySignature(parent))
    return parent.name === node;
  return ts.isPropertyDeclaration(parent) && parent.name === node;
}

function clockReads(source: Source): string[] {
  const file = parse(source);
  const found: string[] = [];
  visit(file, (node) => {
    const name = importedModule(node);
    if (name !== undefined && CLOCK_MODULES.test(name.text)) {
      found.push(`${place(file, node)} imports ${name.text}`);
    }
    if (ts.isPropertyAccessExpression(node)) {
      const text = node.getText().replace(/\s+/g, "");
      if (text === "Math.random" || text === "process.hrtime") {
        found.push(`${place(file, node)} uses ${text}`);
      }
      const isGlobal = text.startsWith("globalThis.") && CLOCK_NAMES.has(node.name.text);
      if (isGlobal) found.push(`${place(file, node)} uses ${text}`);
    } else if (ts.isIdentifier(node) && CLOCK_NAMES.has(node.text) && !isOwnName(node)) {
      found.push(`${place(file, node)} uses ${node.text}`);
    }
  });
  return found;
}

/** Lines that match, comments left out; block comments are blanked so that line numbers stay. */
function codeLines({ path, text }: Source, pattern: RegExp): string[] {
  const code = text
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ""))
    .replace(/\/\/.*$/gm, "");
  return code
    .split("\n")
    .flatMap((line, i) => (pattern.test(line) ? [`${path}:${i + 1} ${line.trim()}`] : []));
}

const THREAD_HEADERS = ["thread", "mutex", "condition_variable"];
const WORLD_HEADERS = [
  ...["chrono", "ctime", "time\\.h", "random"],
  ...["fstream", "iostream", "unistd\\.h", "poll\\.h", "netdb\\.h", "netinet/.*", "arpa/.*"],
  ...["linux/.*", "sys/(socket|time|epoll|eventfd|timerfd|random|select|uio)\\.h"],
];
const including = (headers: string[]) =>
  new RegExp(`#\\s*include\\s*[<"](${headers.join("|")})[>"]`);
const NATIVE_HEADERS = including([...THREAD_HEADERS, ...WORLD_HEADERS]);
const CODEC_HEADERS = including(WORLD_HEADERS);
const FORBIDDEN_CALLS = [
  ...["s?rand", "random", "drand48", "getrandom", "arc4random", "time", "clock", "__rdtsc"],
  ...["clock_gettime", "gettimeofday", "nanosleep", "usleep", "socket"],
];
const NATIVE_CALLS = new RegExp(`\\b(${FORBIDDEN_CALLS.join("|")})\\s*\\(`);

/** Built from parts, so that this file does not find itself. */
const LEFTOVERS = new RegExp(`\\b(${["TO" + "DO", "FIX" + "ME", "X" + "XX"].join("|")})\\b`);
const FOCUSED = new RegExp(`\\.${"on" + "ly"}\\(`);

function untidy({ path, text }: Source): string[] {
  const lines = text.split("\n");
  const found: string[] = [];
  if (lines.length - 1 > FILE_LINES_MAX) {
    found.push(
      `${path}:${FILE_LINES_MAX + 1} is line ${FILE_LINES_MAX + 1} of ${lines.length - 1}`,
    );
  }
  if (text !== "" && !text.endsWith("\n"))
    found.push(`${path}:${lines.length} ends without newline`);
  for (const [i, line] of lines.entries()) {
    const at = `${path}:${i + 1}`;
    const columns = [...line].length;
    if (columns > LINE_COLUMNS_MAX) found.push(`${at} has ${columns} columns`);
    if (LEFTOVERS.test(line)) found.push(`${at} leaves something to do: ${line.trim()}`);
    if (FOCUSED.test(line)) found.push(`${at} runs one test only`);
    if (/[ \t]$/.test(line)) found.push(`${at} ends in a blank`);
    if (line.includes("\t")) found.push(`${at} has a tab`);
  }
  return found;
}

const typescript = sources(["src"], [".ts"]);
const pureNative = sources(["native/engine", "native/link"], [".c", ".cc", ".h"]);
const codecNative = sources(["native/codec"], [".cc", ".h"]);
/** The codec's threads, and what they share. */
const CODEC_WITH_THREADS = ["pool.cc", "pool.h", "lru.h"].map((name) => `native/codec/${name}`);

describe("layers", () => {
  test("there is something to look at", () => {
    expect(typescript.length).toBeGreaterThan(5);
    expect(pureNative.length).toBeGreaterThan(1);
  });

  test("a layer imports only the layers below it", () => {
    expect(typescript.flatMap(wrongImports)).toEqual([]);
  });

  test("only transports and the command line read a clock or draw unseeded randomness", () => {
    const others = typescript.filter(({ path }) => !MAY_READ_CLOCK.includes(layerOf(path)));
    expect(others.flatMap(clockReads)).toEqual([]);
  });

  test("the engine and the links know no clock, socket, thread or randomness of the system", () => {
    expect(pureNative.flatMap((source) => codeLines(source, NATIVE_HEADERS))).toEqual([]);
    expect(pureNative.flatMap((source) => codeLines(source, NATIVE_CALLS))).toEqual([]);
  });

  test("the codec knows no clock, socket or randomness, and threads in one place only", () => {
    const others = codecNative.filter(({ path }) => !CODEC_WITH_THREADS.includes(path));
    expect(others.length).toBeGreaterThan(1);
    expect(codecNative.length - others.length).toBe(CODEC_WITH_THREADS.length);
    expect(others.flatMap((source) => codeLines(source, NATIVE_HEADERS))).toEqual([]);
    expect(codecNative.flatMap((source) => codeLines(source, CODEC_HEADERS))).toEqual([]);
    expect(codecNative.flatMap((source) => codeLines(source, NATIVE_CALLS))).toEqual([]);
  });
});

describe("tidiness", () => {
  test("lengths, leftovers, focused tests and blanks", () => {
    const all = [
      ...sources(["src", "test", "bench"], [".ts", ".mjs", ".js"]),
      ...sources(["native", "test", "bench"], [".c", ".cc", ".h"]),
      ...sources(["cmake"], [".mjs", ".cmake"]),
    ];
    expect(all.flatMap(untidy)).toEqual([]);
  });
});

describe("the rules themselves notice a breach", () => {
  test("imports", () => {
    const breach = (path: string, text: string) => wrongImports({ path, text });
    expect(breach("src/link/a.ts", '\nimport type { A } from "../transport/b.ts";')).toEqual([
      "src/link/a.ts:2 link imports transport",
    ]);
    expect(breach("src/sdk/a.ts", 'export * from "../cli/b.ts";')).toHaveLength(1);
    expect(breach("src/sdk/a.ts", 'await import("../report/b.ts");')).toHaveLength(1);
    expect(breach("src/sdk/a.ts", 'let a: import("../report/b.ts").B;')).toHaveLength(1);
    expect(breach("src/sdk/a.ts", 'import "../../test/b.ts";')).toHaveLength(1);
    expect(breach("src/base/a.ts", 'import "node:fs";')).toHaveLength(1);
    expect(breach("src/other/a.ts", "")).toHaveLength(1);
    expect(breach("src/sdk/a.ts", '// from "../cli/b.ts"\nimport "../base/b.ts";')).toEqual([]);
  });

  test("clocks", () => {
    const breach = (text: string) => clockReads({ path: "src/sdk/a.ts", text });
    const uses = [
      ...["Date.now()", "new Date()", "const { now } = Date", "performance.now()"],
      ...["process.hrtime.bigint()", "setTimeout(f, 1)", "globalThis.setTimeout(f, 1)"],
      ...["Math.random()", 'import { setTimeout as s } from "node:timers/promises"'],
    ];
    for (const use of uses) expect(breach(use), use).not.toEqual([]);
    expect(breach("// Date.now()\nclock.setTimeout(1); const a = { performance: 1 };")).toEqual([]);
  });

  test("native code", () => {
    const breach = (text: string, pattern: RegExp) => codeLines({ path: "a.c", text }, pattern);
    for (const name of ["chrono", "time.h", "sys/socket.h", "netinet/in.h", "random"]) {
      expect(breach(`/* a\n */#include <${name}>`, NATIVE_HEADERS)).toEqual([
        `a.c:2 #include <${name}>`,
      ]);
    }
    expect(breach("x = rand();", NATIVE_CALLS)).toHaveLength(1);
    expect(breach("// rand()\noperand(1); #include <stdint.h>", NATIVE_CALLS)).toEqual([]);
  });

  test("tidiness", () => {
    const breach = (text: string) => untidy({ path: "a.ts", text });
    expect(breach(`${"x".repeat(121)}\n`)).toEqual(["a.ts:1 has 121 columns"]);
    expect(breach("\n".repeat(601))).toHaveLength(1);
    expect(breach(`// ${"TO" + "DO"}: later\n`)).toHaveLength(1);
    expect(breach(`test.${"on" + "ly"}("x")\n`)).toHaveLength(1);
    expect(breach("a \n")).toHaveLength(1);
    expect(breach("\ta\n")).toHaveLength(1);
    expect(breach("a")).toHaveLength(1);
    expect(breach("a\n")).toEqual([]);
  });
});
