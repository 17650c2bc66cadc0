// What the guests boot: Debian's kernel, taken from its package without installing it, and a small initramfs. Kept in
// build-vm, and made again only when something of it is missing. Says why when it cannot be made.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = join(root, "build-vm");
const initSource = join(root, "test", "vm", "init.sh");

/** Why the test bed cannot run on this machine. */
export class CannotRun extends Error {}

/** Programs and the Debian packages that have them. */
const PROGRAMS = [
  ["qemu-system-x86_64", "qemu-system-x86"],
  ["busybox", "busybox-static"],
  ["modprobe", "kmod"],
  ["ip", "iproute2"],
  ["rdma", "iproute2"],
  ["setpriv", "util-linux"],
];
/** The verbs library and rxe's part of it: loaded by the guests from the host's file system. */
const LIBRARIES = [
  ["libibverbs.so.1", "libibverbs1"],
  ["librxe-rdmav", "ibverbs-providers"],
];
/** In this order; what each needs is loaded before it. */
const MODULES = [
  ...["virtio_pci", "virtio_net", "virtio_console", "9p", "9pnet_virtio"],
  ...["crc32_generic", "ib_uverbs", "rdma_rxe", "sch_netem"],
];
const PATHS = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const LIBRARY_FOLDERS = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];

function run(command, args, options = {}) {
  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" };
  environment.PATH = [...PATHS, process.env.PATH].join(":");
  return execFileSync(command, args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 64 << 20,
    env: environment,
    ...options,
  });
}

function missingPackages() {
  const missing = new Set();
  for (const [program, name] of PROGRAMS) {
    if (!PATHS.some((path) => existsSync(join(path, program)))) missing.add(name);
  }
  for (const [library, name] of LIBRARIES) {
    const found = LIBRARY_FOLDERS.flatMap((at) => [at, join(at, "libibverbs")]).some(
      (at) => existsSync(at) && readdirSync(at).some((file) => file.startsWith(library)),
    );
    if (!found) missing.add(name);
  }
  return [...missing];
}

function installPackages(log) {
  const missing = missingPackages();
  if (missing.length === 0) return;
  const what = missing.join(" ");
  const isRoot = process.getuid?.() === 0;
  const hasApt = PATHS.some((path) => existsSync(join(path, "apt-get")));
  if (!isRoot) throw new CannotRun(`not root, and these packages are missing: ${what}`);
  if (!hasApt) throw new CannotRun(`no apt-get, and these packages are missing: ${what}`);
  log(`installing ${what}`);
  try {
    run("apt-get", ["update", "-q"]);
    run("apt-get", ["install", "-y", "-q", "--no-install-recommends", ...missing]);
  } catch (error) {
    throw new CannotRun(`apt-get could not install ${what}: ${lastLine(error)}`);
  }
}

function lastLine(error) {
  return (error.stderr || error.message).trim().split("\n").at(-1);
}

/** Unpacks the kernel package's kernel and modules below build-vm/kernel; gives the kernel's version. */
function takeKernel(log) {
  const kernel = join(folder, "kernel");
  const modules = join(kernel, "lib", "modules");
  if (existsSync(modules)) return readdirSync(modules)[0];
  const work = join(folder, "download");
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  try {
    let depends = "";
    try {
      depends = run("apt-cache", ["depends", "linux-image-amd64"]);
    } catch {
      run("apt-get", ["update", "-q"]);
      depends = run("apt-cache", ["depends", "linux-image-amd64"]);
    }
    const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
    if (name === undefined) throw new CannotRun("apt knows no kernel package linux-image-amd64");
    log(`fetching ${name}`);
    try {
      run("apt-get", ["download", "-q", name], { cwd: work });
    } catch {
      run("apt-get", ["update", "-q"]);
      run("apt-get", ["download", "-q", name], { cwd: work });
    }
    const file = readdirSync(work).find((entry) => entry.endsWith(".deb"));
    run("dpkg", ["-x", file, "tree"], { cwd: work });
    const version = readdirSync(join(work, "tree", "lib", "modules"))[0];
    run("depmod", ["-b", join(work, "tree"), version]);
    rmSync(kernel, { recursive: true, force: true });
    renameSync(join(work, "tree"), kernel);
    rmSync(work, { recursive: true, force: true });
    return version;
  } catch (error) {
    if (error instanceof CannotRun) throw error;
    throw new CannotRun(`the kernel package could not be fetched: ${lastLine(error)}`);
  }
}

/** Files of the modules, in load order. */
function moduleFiles(version) {
  const files = [];
  for (const name of MODULES) {
    const args = ["-d", join(folder, "kernel"), "-S", version, "--show-depends", name];
    for (const [, file] of run("modprobe", args).matchAll(/^insmod (\S.*?)\s*$/gm)) {
      if (!files.includes(file)) files.push(file);
    }
  }
  return files;
}

function makeInitramfs(version) {
  const image = join(folder, "initramfs");
  const tree = join(folder, "initramfs.d");
  rmSync(tree, { recursive: true, force: true });
  for (const name of ["bin", "modules"]) mkdirSync(join(tree, name), { recursive: true });
  const busybox = PATHS.map((path) => join(path, "busybox")).find((path) => existsSync(path));
  copyFileSync(busybox, join(tree, "bin", "busybox"));
  const files = moduleFiles(version);
  for (const file of files) copyFileSync(file, join(tree, "modules", basename(file)));
  writeFileSync(
    join(tree, "modules", "order"),
    files.map((file) => `${basename(file)}\n`).join(""),
  );
  const init = readFileSync(initSource, "utf8").replaceAll("@PROJECT@", root);
  writeFileSync(join(tree, "init"), init);
  chmodSync(join(tree, "init"), 0o755);
  run("sh", ["-c", 'find . | busybox cpio -o -H newc > "$0"', image], { cwd: tree });
  return image;
}

/** Gives {kernel, initramfs}, files to boot. Throws CannotRun. */
export function prepare(log) {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new CannotRun(
      `the guests need Linux on x64, this is ${process.platform} ${process.arch}`,
    );
  }
  if (root.includes("'")) throw new CannotRun(`the project's path has a quote in it: ${root}`);
  installPackages(log);
  const version = takeKernel(log);
  const kernel = join(folder, "kernel", "boot", `vmlinuz-${version}`);
  return { kernel, initramfs: makeInitramfs(version) };
}
