// What a Linux addon needs of the machine that loads it, as binutils report it; and what ours may need.
import { spawnSync } from "node:child_process";

/** The newest glibc that the published addon may ask for (Debian 11, Ubuntu 20.04, RHEL 9 and later have it). */
export const GLIBC_MAX = "2.31";
/** The shared libraries that every machine with glibc has. No C++ runtime, no rdma-core. */
export const NEEDED_ALLOWED = [
  "libc.so.6",
  "libm.so.6",
  "libpthread.so.0",
  "libdl.so.2",
  "librt.so.1",
].concat("ld-linux-x86-64.so.2");

function output(command, args) {
  const done = spawnSync(command, args, { encoding: "utf8", maxBuffer: 64 << 20 });
  if (done.error || done.status !== 0) {
    throw new Error(
      `${command} ${args.join(" ")}: ${done.error?.message ?? done.stderr}; install binutils`,
    );
  }
  return done.stdout;
}

/** True when version a ("2.34") is newer than b. */
export function newerThan(a, b) {
  const [majorA = 0, minorA = 0] = a.split(".").map(Number);
  const [majorB = 0, minorB = 0] = b.split(".").map(Number);
  return majorA > majorB || (majorA === majorB && minorA > minorB);
}

/** The newest glibc version that a file's symbols ask for, and the libraries it names. */
export function readAddon(file) {
  let glibc = "0.0";
  for (const [, version] of output("objdump", ["-T", file]).matchAll(/GLIBC_([0-9.]+)/g)) {
    if (newerThan(version, glibc)) glibc = version;
  }
  const needed = [...output("readelf", ["-d", file]).matchAll(/\(NEEDED\).*\[(.*)\]/g)];
  return { glibc, needed: needed.map(([, name]) => name) };
}
