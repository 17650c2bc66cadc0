/**
 * The C library as others get it: its headers, its symbols, an installation that pkg-config and CMake find, its example
 * programs over lossy UDP, and a C program that talks to a queue pair of the TypeScript SDK.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const built = join(root, "build-native");
const headers = join(root, "native", "lib", "include");
/** Where nothing is built yet: it takes minutes on a busy machine. */
const BUILD_MS_MAX = 900_000;
const NAMES = ["sdr.h", "sdr_mr.h", "sdr_ext.h"];
const folder = mkdtempSync(join(tmpdir(), "sdr-lib-"));
const prefix = join(folder, "prefix");

const run = async (file: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env) =>
  (await promisify(execFile)(file, args, { env, cwd: root })).stdout;

async function has(tool: string): Promise<boolean> {
  return run(tool, ["--version"]).then(
    () => true,
    () => false,
  );
}

/** Of the published functions, as the headers declare them. */
function declared(): string[] {
  return NAMES.flatMap((name) => {
    const text = readFileSync(join(headers, name), "utf8");
    return [...text.matchAll(/^SDR_API .*?\b(sdr_\w+)\(/gm)].map((match) => match[1] as string);
  }).sort();
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A program's output once it has ended well. */
function finished(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let out = "";
    child.stdout?.on("data", (data) => {
      out += data;
    });
    child.stderr?.on("data", (data) => {
      out += data;
    });
    child.on("error", reject);
    child.on("close", (code) =>
      code === 0 ? resolve(out) : reject(new Error(`exit ${code}: ${out}`)),
    );
  });
}

/** Both ends of an example over UDP; what they printed. */
async function transfer(program: string, bytes: number, link: string): Promise<[string, string]> {
  const args = ["127.0.0.1", String(await freePort()), "udp:127.0.0.1", String(bytes), link];
  const env = { ...process.env, SDR_PEER_TIMEOUT_MS: "60000" };
  const start = (role: string) => finished(spawn(join(built, program), [role, ...args], { env }));
  return Promise.all([start("recv"), start("send")]);
}

const hashOf = (text: string) => /^hash ([0-9a-f]{16})$/m.exec(text)?.[1];

// `npm test` has built these already.
beforeAll(async () => {
  if (!existsSync(join(built, "c_every_call")))
    await run(process.execPath, ["cmake/build.mjs", "native-test-programs"]);
  await run("cmake", ["--install", built, "--prefix", prefix, "--component", "sdr"]);
}, BUILD_MS_MAX);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("headers", () => {
  const dialects = [
    ["cc", "c", "-std=c99"],
    ["cc", "c", "-std=c11"],
    ["c++", "c++", "-std=c++17"],
    ["c++", "c++", "-std=c++20"],
  ] as const;
  test.each(dialects)(
    "compile alone and together with %s as %s, %s, without warnings",
    async (...dialect) => {
      const [compiler, language, standard] = dialect;
      const files = [
        ...NAMES.map((name) => `#include "${name}"\n`),
        NAMES.map((name) => `#include "${name}"\n`).join(""),
      ];
      for (const [index, text] of files.entries()) {
        const source = join(folder, `header-${language}-${index}.${language === "c" ? "c" : "cc"}`);
        writeFileSync(source, `${text}int main(void) { return 0; }\n`);
        await run(compiler, [
          ...[standard, "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"],
          ...["-I", join(prefix, "include"), source],
        ]);
      }
    },
  );
});

describe("symbols", () => {
  test("the shared library exports what the headers declare and nothing else", async () => {
    const out = await run("nm", ["-D", "--defined-only", join(built, "libsdr.so")]);
    const names = out
      .trim()
      .split("\n")
      .filter((line) => / [^A] /.test(line))
      .map((line) => (line.split(" ").pop() as string).replace(/@.*/, ""));
    expect(names.sort()).toEqual(declared());
  });

  test("the static library has no other C name that a program could meet", async () => {
    const out = await run("nm", ["-g", "--defined-only", join(built, "libsdr.a")]);
    const names = [...out.matchAll(/ [TDBR] (\w+)$/gm)].map((match) => match[1] as string);
    expect(names.sort()).toEqual(declared());
  });

  test("the shared library is named libsdr.so.0", async () => {
    expect(await run("objdump", ["-p", join(built, "libsdr.so")])).toMatch(
      /SONAME +libsdr\.so\.0\n/,
    );
  });
});

describe("installation", () => {
  const program = join(root, "test", "lib", "every_call.c");

  test("a program finds it with pkg-config", async (context) => {
    if (!(await has("pkg-config"))) context.skip("pkg-config is not installed");
    const library = join(
      prefix,
      (await run("find", [prefix, "-name", "sdr.pc", "-printf", "%P"])).replace(
        /\/pkgconfig.*/,
        "",
      ),
    );
    const env = { ...process.env, PKG_CONFIG_PATH: join(library, "pkgconfig") };
    const flags = (await run("pkg-config", ["--cflags", "--libs", "sdr"], env)).trim().split(/\s+/);
    const binary = join(folder, "with-pkg-config");
    await run("cc", [
      "-std=c99",
      program,
      "-o",
      binary,
      ...flags,
      "-lpthread",
      `-Wl,-rpath,${library}`,
    ]);
    expect(await run(binary, ["emu:installed"])).toContain("every call passed");
  });

  test("a program finds it with find_package, shared and static", async () => {
    const project = join(folder, "project");
    const source = `cmake_minimum_required(VERSION 3.20)
      project(user LANGUAGES C CXX)
      find_package(sdr 0.1 REQUIRED)
      find_package(Threads REQUIRED)
      foreach(kind sdr sdr_static)
        add_executable(user_\${kind} ${program})
        target_link_libraries(user_\${kind} PRIVATE sdr::\${kind} Threads::Threads)
        set_target_properties(user_\${kind} PROPERTIES LINKER_LANGUAGE CXX)
      endforeach()`;
    await run("mkdir", ["-p", project]);
    writeFileSync(join(project, "CMakeLists.txt"), source);
    await run("cmake", [
      "-S",
      project,
      "-B",
      join(project, "build"),
      `-DCMAKE_PREFIX_PATH=${prefix}`,
    ]);
    await run("cmake", ["--build", join(project, "build")]);
    for (const kind of ["sdr", "sdr_static"])
      expect(await run(join(project, "build", `user_${kind}`), ["emu:installed"])).toContain(
        "every call passed",
      );
  });
});

describe("programs", () => {
  test.each(["emu:one", "udp:127.0.0.1"])("every call over %s", async (device) => {
    expect(await run(join(built, "c_every_call"), [device])).toContain("every call passed");
  });

  // Built where rdma-core's headers are: apt-get install libibverbs-dev.
  const emulated = join(built, "libibverbs-emulated.so");
  const hasVerbs = existsSync("/usr/include/infiniband/verbs.h");
  test.skipIf(!hasVerbs).each([
    ["rxe0", "rxe"],
    ["mlx5_0", "mlx5"],
  ])("every call over the emulated RDMA device %s", async (name, kind) => {
    const env = {
      ...process.env,
      SDR_IBVERBS: emulated,
      SDR_MLX5: join(built, "libmlx5-emulated.so"),
      SDR_EMULATED_VERBS: `device ${name} ${kind}; port 1 active mtu 1024; gid 1 v2 10.0.0.1`,
    };
    expect(await run(join(built, "c_every_call"), [name], env)).toContain("every call passed");
  });

  test("a program for an RDMA device runs over UDP by the environment alone", async () => {
    const env = { ...process.env, SDR_DEVICE: "udp:127.0.0.1" };
    expect(await run(join(built, "c_every_call"), ["mlx5_0"], env)).toContain("every call passed");
  });

  test.each([
    ["c_write", 1_000_001, "none"],
    ["c_write", 1_000_001, "loss 2%"],
    ["c_selective_repeat", 5_000_001, "none"],
    ["c_selective_repeat", 5_000_001, "loss 2% delay 2ms reorder 5%"],
    ["c_selective_repeat", 1, "loss 30%"],
  ])("%s of %i B over UDP with %s brings every byte", async (program, bytes, link) => {
    const [received, sent] = await transfer(program, bytes, link);
    expect(hashOf(received)).toMatch(/./);
    expect(hashOf(received)).toBe(hashOf(sent));
    if (program === "c_selective_repeat" && link.startsWith("loss 2%"))
      expect(Number(/^repeats (\d+)/m.exec(sent)?.[1])).toBeGreaterThan(0);
  });
});
