// Where and how figures were measured, and how repeats become one figure.
import { execFileSync } from "node:child_process";
import { arch, cpus, loadavg, release, totalmem, type } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { max, min, percentile } from "../dist/base/statistics.js";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Output of a git command, or undefined outside a git checkout. */
function git(...args) {
  try {
    const options = { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] };
    return execFileSync("git", args, options).trim();
  } catch {
    return undefined;
  }
}

/** What a figure depends on beside the code. */
export function describeMachine() {
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? "unknown",
    cores: processors.length,
    memoryBytes: totalmem(),
    // Of the last minute: what others do here shows in absolute figures and in times.
    loadAverage: loadavg()[0],
    kernel: `${type()} ${release()} ${arch()}`,
    node: process.version,
    v8: process.versions.v8,
  };
}

/** The commit at work; `modified` when tracked files differ from it. */
export function describeCommit() {
  const hash = git("rev-parse", "HEAD");
  if (hash === undefined) return undefined;
  const changes = git("status", "--porcelain", "--untracked-files=no");
  return { hash, modified: changes !== "" };
}

/** The middle sample and the extremes; an even count has the lower middle one, a sample that occurred. */
export function spread(samples) {
  return { median: percentile(samples, 50), min: min(samples), max: max(samples) };
}

/** The same list, begun `by` places later: each round has another order. */
export function rotated(list, by) {
  const first = by % list.length;
  return [...list.slice(first), ...list.slice(0, first)];
}

/** "26.1 (24.7 to 27.9)" */
export function spreadText({ median, min: low, max: high }, digits = 1) {
  return `${median.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;
}
