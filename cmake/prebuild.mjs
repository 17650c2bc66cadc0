// Builds the addon that the published package carries: prebuilds/linux-x64/sdr_rdma.node, which runs on any Linux with
// glibc 2.31 (2020) or newer. It is compiled and linked with Debian 11's own compiler and libraries in a private
// folder, so that nothing of the building machine's C library gets into it.
//   npm run prebuilt    (not "prebuild": npm would run that before every "build"); npm pack does it too
// Needs apt-get and dpkg-deb with Debian's archive keys, cmake, make and binutils, and the network the first time.
// Knows nothing of how the rest is built.
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { GLIBC_MAX, NEEDED_ALLOWED, newerThan, readAddon } from "./elf.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const work = join(root, "build-prebuild");
const sysroot = join(work, "sysroot");
const output = join(root, "prebuilds", "linux-x64", "sdr_rdma.node");

/** Debian's mirror; its archive once a release has left it. */
const MIRRORS = ["http://deb.debian.org/debian", "http://archive.debian.org/debian"];
/** From Debian 11: the compiler with what it is linked with, the C and C++ libraries, and the headers. */
const TOOLCHAIN = [
  ...["gcc-10", "g++-10", "cpp-10", "libisl23", "libmpc3", "libmpfr6", "libgmp10", "libzstd1"],
  ...["zlib1g", "libgcc-10-dev", "libgcc-s1", "libstdc++-10-dev", "libc6", "libc6-dev"],
  ...["linux-libc-dev", "libcrypt1", "libcrypt-dev"],
];
/** From Debian 12, because Debian 11's lack ibv_reg_dmabuf_mr: rdma-core's headers. Nothing is linked from there. */
const PACKAGES = { bullseye: TOOLCHAIN, bookworm: ["libibverbs-dev"] };
/** Where the compiler's own shared libraries lie once unpacked. */
const TOOL_LIBRARIES = join(sysroot, "usr", "lib", "x86_64-linux-gnu");

class Failed extends Error {}
/** Debian could not be reached: exit status 3, so that a caller may go on without. */
class Unreachable extends Failed {}

function run(command, args, options = {}) {
  const done = spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"], ...options });
  if (done.error) throw new Failed(`${command} did not run: ${done.error.message}`);
  if (done.status !== 0) throw new Failed(`${command} ${args[0]} failed (${done.status})`);
}

/** apt-get with lists and state of its own: the machine's configuration is neither read nor changed. */
function aptGet(mirror, release, args, cwd) {
  const apt = join(work, "apt", release);
  for (const folder of ["state/lists/partial", "cache/archives/partial"]) {
    mkdirSync(join(apt, folder), { recursive: true });
  }
  writeFileSync(join(apt, "sources.list"), `deb ${mirror} ${release} main\n`);
  writeFileSync(join(apt, "status"), "");
  const settings = {
    "Dir::State": join(apt, "state"),
    "Dir::State::status": join(apt, "status"),
    "Dir::Cache": join(apt, "cache"),
    "Dir::Etc::sourcelist": join(apt, "sources.list"),
    "Dir::Etc::sourceparts": "/nonexistent",
    "APT::Architecture": "amd64",
    "APT::Sandbox::User": "root",
    "Acquire::Languages": "none",
    "Acquire::Check-Valid-Until": "false",
    "Acquire::Retries": "3",
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`]);
  run("apt-get", [...options, "-q", ...args], { cwd });
}

/** Absolute links inside the unpacked system would lead to the building machine's files. */
function relink(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) relink(path);
    if (!entry.isSymbolicLink()) continue;
    const target = readlinkSync(path);
    if (!target.startsWith("/")) continue;
    rmSync(path);
    symlinkSync(relative(folder, join(sysroot, target)), path);
  }
}

/** Fetches the packages of one release into `folder`, from the first mirror that has them. */
function fetch(release, packages, folder) {
  let cause;
  for (const mirror of MIRRORS) {
    try {
      aptGet(mirror, release, ["update"], folder);
      aptGet(mirror, release, ["download", ...packages], folder);
      return;
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      cause ??= error;
    }
  }
  throw new Unreachable(`Debian's packages could not be fetched: ${cause.message}`);
}

function makeSysroot() {
  const finished = join(work, "sysroot.done");
  const wanted = JSON.stringify(PACKAGES);
  if (existsSync(finished) && readFileSync(finished, "utf8") === wanted) return;
  process.stderr.write("> fetching Debian's compiler, libraries and headers\n");
  rmSync(work, { recursive: true, force: true });
  for (const [release, packages] of Object.entries(PACKAGES)) {
    const debs = join(work, "debs", release);
    mkdirSync(debs, { recursive: true });
    fetch(release, packages, debs);
    for (const deb of readdirSync(debs)) run("dpkg-deb", ["-x", join(debs, deb), sysroot]);
  }
  relink(sysroot);
  writeFileSync(finished, wanted);
}

function compile() {
  process.stderr.write("> building the addon against glibc 2.31\n");
  const folder = join(work, "cmake");
  const bin = join(sysroot, "usr", "bin");
  const env = { ...process.env, LD_LIBRARY_PATH: TOOL_LIBRARIES };
  // The linker and assembler of the building machine do not need, and must not see, the unpacked libraries.
  const settings = {
    CMAKE_BUILD_TYPE: "Release",
    CMAKE_SYSROOT: sysroot,
    CMAKE_C_COMPILER: join(bin, "x86_64-linux-gnu-gcc-10"),
    CMAKE_CXX_COMPILER: join(bin, "x86_64-linux-gnu-g++-10"),
    // One C++ runtime of its own, hidden: the machine may have none, or an older one.
    CMAKE_MODULE_LINKER_FLAGS:
      "-static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL -Wl,--as-needed -s",
  };
  const defines = Object.entries(settings).map(([key, value]) => `-D${key}=${value}`);
  run("cmake", ["-S", root, "-B", folder, "-Wno-dev", "--log-level=WARNING", ...defines], { env });
  run("cmake", ["--build", folder, "--parallel", "2", "--target", "sdr_rdma"], { env });
  return join(folder, "sdr_rdma.node");
}

/** What would keep the file from loading elsewhere, said before it is published. */
function check(file) {
  const { glibc, needed } = readAddon(file);
  if (newerThan(glibc, GLIBC_MAX))
    throw new Failed(`${file} needs glibc ${glibc}, above ${GLIBC_MAX}`);
  const foreign = needed.filter((name) => !NEEDED_ALLOWED.includes(name));
  if (foreign.length > 0) throw new Failed(`${file} needs ${foreign.join(", ")}`);
  return glibc;
}

function main() {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Failed("the prebuilt addon is made on Linux x64");
  }
  if (!existsSync(join(root, "node_modules", "node-addon-api"))) {
    throw new Failed("node_modules is missing: run npm ci first");
  }
  makeSysroot();
  const built = compile();
  const glibc = check(built);
  mkdirSync(dirname(output), { recursive: true });
  copyFileSync(built, output);
  const kib = Math.round(lstatSync(output).size / 1024);
  process.stderr.write(`> ${relative(root, output)}: ${kib} KiB, needs glibc ${glibc}\n`);
}

try {
  main();
} catch (error) {
  if (!(error instanceof Failed)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = error instanceof Unreachable ? 3 : 1;
}
