// Lets Node run the project's TypeScript from source: types are stripped, nothing is checked or written.
import { readFileSync } from "node:fs";
import { register } from "node:module";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const compilerOptions = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  verbatimModuleSyntax: true,
  inlineSourceMap: true,
};

export async function load(url, context, next) {
  if (!url.startsWith("file:") || !url.endsWith(".ts")) return next(url, context);
  const fileName = fileURLToPath(url);
  const { outputText } = ts.transpileModule(readFileSync(fileName, "utf8"), {
    compilerOptions,
    fileName,
  });
  return { format: "module", source: outputText, shortCircuit: true };
}

/** Call once, before the first import() of a .ts file. */
export function registerTypeScript() {
  register(import.meta.url);
}
