// Installs, builds, tests and starts the project. Plain Node: it runs before anything is installed.
//   node cmake/build.mjs start | test [vitest arguments] | build | native | ts | bench [arguments]
//   node cmake/build.mjs native-tests [sanitizers, e.g. address,undefined or thread]
//   node cmake/build.mjs native-test-programs | agent
// Every step is incremental: what is up to date is not done again.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const jobs = String(Math.max(2, availableParallelism()));

class Failed extends Error {
  constructor(message, status = 1) {
    super(message);
    this.status = status;
  }
}

/** Runs a command in the project's folder with our own standard streams; throws when it fails. */
function run(command, args, remedy = "") {
  const windows = process.platform === "win32";
  const done = spawnSync(command, args, { cwd: root, stdio: "inherit", shell: windows });
  if (done.error) throw new Failed(`${command} did not run: ${done.error.message}. ${remedy}`);
  if (done.signal) throw new Failed(`${basename(command)} was ended by ${done.signal}`);
  if (done.status !== 0) {
    throw new Failed(`${basename(command)} ${args.join(" ")} failed`, done.status ?? 1);
  }
}

/** Runs a JavaScript file of an installed package with this same Node. */
function runPackage(file, args) {
  run(process.execPath, [join(root, "node_modules", file), ...args]);
}

function step(text) {
  process.stderr.write(`> ${text}\n`);
}

/** A checkout has the lock file; the published package has not, and builds the addon alone. */
const isCheckout = existsSync(join(root, "package-lock.json"));

/** True when node_modules holds what package-lock.json asks for; platform-specific extras aside. */
function isInstalled() {
  if (!isCheckout) return existsSync(join(root, "node_modules", "cmake-js"));
  const installedFile = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(installedFile)) return false;
  const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  const installed = JSON.parse(readFileSync(installedFile, "utf8")).packages;
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === "" ||
      entry.optional === true ||
      entry.peer === true ||
      (installed[path]?.version === entry.version && existsSync(join(root, path))),
  );
}

function install() {
  if (isInstalled()) return;
  const how = isCheckout ? ["ci"] : ["install", "--no-save", "--no-package-lock"];
  step(`installing packages (npm ${how[0]})`);
  const args = [...how, "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"];
  const npm = process.env.npm_execpath;
  if (npm?.endsWith(".js")) run(process.execPath, [npm, ...args]);
  else run("npm", args, "Install Node.js with npm.");
}

function requireCmake() {
  const cmake = spawnSync("cmake", ["--version"], { stdio: "ignore" });
  if (cmake.error) {
    throw new Failed(
      "cmake was not found: install CMake 3.20 or newer and a C++20 compiler " +
        "(Debian, Ubuntu: apt-get install cmake g++; macOS: xcode-select --install, brew install cmake)",
    );
  }
}

/** A build folder configured for another place (a copied checkout) cannot be used: starts anew. */
function dropForeignBuild(folder) {
  const cache = join(root, folder, "CMakeCache.txt");
  if (!existsSync(cache)) return;
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readFileSync(cache, "utf8"))?.[1];
  if (home !== undefined && join(home) !== root) rmSync(join(root, folder), { recursive: true });
}

function buildNative() {
  requireCmake();
  step("building the native addon");
  dropForeignBuild("build");
  runPackage("cmake-js/bin/cmake-js", ["build", "-l", "warn", "-p", jobs]);
}

/** Files below `folder`, relative to it. */
function filesBelow(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .map(String)
    .filter((file) => statSync(join(folder, file)).isFile());
}

/** Removes compiled files whose source is gone, so that none is imported or published by mistake. */
function pruneDist() {
  for (const file of filesBelow(join(root, "dist"))) {
    const stem = file.replace(/\.(d\.ts|js|js\.map)$/, "");
    if (stem === file || existsSync(join(root, "src", `${stem}.ts`))) continue;
    rmSync(join(root, "dist", file));
  }
}

function buildTs() {
  step("compiling TypeScript");
  pruneDist();
  runPackage("typescript/bin/tsc", ["-p", "tsconfig.build.json"]);
}

function build() {
  install();
  buildNative();
  buildTs();
}

/**
 * Configures and builds native code without Node in `folder`, quietly unless it fails.
 * `sanitize` is empty or what -fsanitize= takes.
 */
function buildPlain(folder, sanitize, target) {
  requireCmake();
  dropForeignBuild(folder);
  run("cmake", [
    ...["-S", ".", "-B", folder, "-Wno-dev", "--log-level=WARNING"],
    ...["-DSDR_ADDON=OFF", "-DSDR_TESTS=ON", `-DSDR_SANITIZE=${sanitize}`],
  ]);
  const only = target === undefined ? [] : ["--target", target];
  run("cmake", ["--build", folder, "--parallel", jobs, ...only, "--", ...quietFlags(folder)]);
}

function quietFlags(folder) {
  return existsSync(join(root, folder, "Makefile")) ? ["--no-print-directory", "-s"] : [];
}

function nativeTestFolder(sanitize) {
  return sanitize === "" ? "build-native" : `build-${sanitize.replace(/[^a-z]+/g, "-")}`;
}

function nativeTestPrograms() {
  buildPlain("build-native", "");
}

/** What runs inside the guests of test/vm: the server of transports, and a program of the C library. */
function agent() {
  for (const target of ["agent", "c_every_call"]) buildPlain("build-native", "", target);
}

function nativeTests(sanitize) {
  const folder = nativeTestFolder(sanitize);
  step(`building native tests in ${folder}`);
  buildPlain(folder, sanitize);
  run("ctest", ["--test-dir", folder, "--output-on-failure", "--no-tests=error"]);
}

function test(args) {
  build();
  step("building native tests in build-native");
  nativeTestPrograms();
  // vitest last: its summary ends the output. test/native.test.ts runs the native programs.
  runPackage("vitest/vitest.mjs", ["run", ...args]);
}

function bench(args) {
  build();
  step("building native benchmarks in build-native");
  buildPlain("build-native", "", "benches");
  run(process.execPath, [join("bench", "run.mjs"), ...args]);
}

function start(args) {
  build();
  run(process.execPath, [join("dist", "cli", "main.js"), "demo", ...args]);
}

const commands = {
  start,
  test,
  build,
  native: () => {
    install();
    buildNative();
  },
  ts: () => {
    install();
    buildTs();
  },
  "native-tests": ([sanitize = ""]) => nativeTests(sanitize),
  "native-test-programs": nativeTestPrograms,
  agent,
  bench,
};

function main([name = "", ...args]) {
  const command = commands[name];
  if (command === undefined) {
    const self = relative(process.cwd(), fileURLToPath(import.meta.url));
    process.stderr.write(`usage: node ${self} ${Object.keys(commands).join(" | ")}\n`);
    return 2;
  }
  try {
    command(args);
    return 0;
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    process.stderr.write(`${error.message}\n`);
    return error.status;
  }
}

process.exitCode = main(process.argv.slice(2));
