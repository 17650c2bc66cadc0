/** The programs of README.md work as they are printed there. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import ts from "typescript";
import { afterEach, describe, expect, test } from "vitest";
import { cleanUp, Sdr, scratch } from "./sdr.ts";

afterEach(cleanUp);

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const text = readFileSync(join(ROOT, "README.md"), "utf8");
const DIST = pathToFileURL(join(ROOT, "dist", "sdk", "index.js")).href;
const DIST_MODEL = pathToFileURL(join(ROOT, "dist", "model", "index.js")).href;
const DIST_CODEC = pathToFileURL(join(ROOT, "dist", "codec", "index.js")).href;

/** Code blocks in `language` that hold `mark`. */
function block(language: string, mark: string): string {
  const blocks = [...text.matchAll(/```(\w*)\n([\s\S]*?)```/g)];
  const found = blocks.filter(([, tag, code]) => tag === language && code?.includes(mark));
  expect(found, `blocks with ${mark}`).toHaveLength(1);
  return found[0]?.[2] as string;
}

function runnable(code: string): string {
  return code.replaceAll('"sdr-rdma"', JSON.stringify(DIST));
}

async function output(code: string): Promise<string> {
  const path = join(scratch(), "program.mjs");
  writeFileSync(path, code);
  const { status, stdout, stderr } = await new Sdr(process.execPath, [path]).end();
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return stdout;
}

/** Complaints of the compiler about TypeScript that imports the package, under the project's own strictness. */
function complaints(code: string): string[] {
  // Inside the checkout, so that types of Node are found; never written to disk.
  const path = join(ROOT, "src", "readme-block.ts");
  const config = ts.readConfigFile(join(ROOT, "tsconfig.json"), ts.sys.readFile).config;
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, ROOT);
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists } = host;
  host.readFile = (name) => (name === path ? code : readFile(name));
  host.fileExists = (name) => name === path || fileExists(name);
  const source = code.replaceAll('"sdr-rdma"', '"./sdk/index.ts"');
  host.getSourceFile = (name, version) => {
    const content = name === path ? source : readFile(name);
    return content === undefined ? undefined : ts.createSourceFile(name, content, version, true);
  };
  const program = ts.createProgram([path], { ...options, noEmit: true }, host);
  const file = program.getSourceFile(path);
  const found = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
  return found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
}

describe("README.md", () => {
  const program = block("js", "EmulatedWorld");
  const policy = block("ts", "class RoundsSender");

  test("the first program is twenty lines or so, and delivers", async () => {
    expect(program.split("\n").filter((line) => line.trim() !== "").length).toBeLessThanOrEqual(22);
    expect(await output(runnable(program))).toMatch(/^[\d.]+ ms, \d+ chunks repeated, true 7\n$/);
  });

  test("the policy compiles, and delivers in place of the built-in one", async () => {
    expect(complaints(policy)).toEqual([]);
    const compiled = ts.transpileModule(policy, {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
    }).outputText;
    const own = program.replace('const policy = parsePolicy("sr-nack");', "const policy = rounds;");
    expect(own).not.toBe(program);
    expect(await output(runnable(`${compiled}\n${own}`))).toMatch(/chunks repeated, true 7\n$/);
  });

  test("the compiler would complain about a policy that is none", () => {
    const broken = policy.replace("handleTimeout(nowNs: number)", "handleTimeouts(nowNs: number)");
    expect(complaints(broken).join("\n")).toContain("handleTimeout");
  });

  test("the rendezvous connects two ends", async () => {
    const code = block("js", "server.accept()")
      .replace("port: 9000, secret", 'host: "127.0.0.1", port: 0, secret')
      .replace("const { qp, meta } = await server.accept();", "const accepted = server.accept();")
      .replace('"192.0.2.7"', '"127.0.0.1"')
      .replace("port: 9000", "port: server.port");
    const rest = `
      const { qp, context, meta } = await accepted;
      const policy = parsePolicy("sr-nack");
      const target = new Uint8Array(meta.bytes);
      const source = new Uint8Array(meta.bytes).fill(7);
      await Promise.all([reliableReceive(qp, target, policy), reliableWrite(peer.qp, source, policy)]);
      console.log(Buffer.compare(source, target));
      context.close();
      peer.context.close();
      await server.close();`;
    expect(await output(runnable(code + rest))).toBe("0\n");
  });

  test("the erasure code gives back what was lost", async () => {
    const code = block("js", "ErasureCode").replace('"sdr-rdma/codec"', JSON.stringify(DIST_CODEC));
    expect(await output(code)).toBe("fire water earth air\n");
  });

  test("the model predicts and plans, without the addon", async () => {
    const code = block("js", "sdr-rdma/model").replace(
      '"sdr-rdma/model"',
      JSON.stringify(DIST_MODEL),
    );
    const lines = (await output(code)).trim().split("\n");
    expect(lines.slice(0, 4).map((line) => line.split(" ")[0])).toEqual([
      ...["sr-rto", "sr-nack", "ec-mds(32,8)", "hybrid"],
    ]);
    const overBound = lines.slice(0, 4).map((line) => Number(line.split(" ")[1]));
    expect(overBound).toEqual([...overBound].sort((a, b) => b - a));
    expect(overBound[3]).toBeLessThan(1.01);
    expect(lines[4]).toMatch(/^hybrid\(.*\) has the least p99\.9, .* ms/);
  });

  test("every error code is explained", async () => {
    const { ERROR_NUMBERS } = await import("../../../src/base/errors.ts");
    const explained = text.slice(text.indexOf("## When something fails"));
    const missing = Object.keys(ERROR_NUMBERS).filter((code) => !explained.includes(`\`${code}\``));
    expect(missing).toEqual([]);
  });
});
