/**
 * Finds and loads the native addon. No install script runs when the package is installed, so the
 * addon is looked for in fixed places, and a failure names all of them and the command that builds.
 */
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { SdrError } from "../base/errors.ts";

/** Environment variable that names an addon file to load instead of all others. */
const ADDON_VARIABLE = "SDR_RDMA_ADDON";
const FILE_NAME = "sdr_rdma.node";
/** src/transport/loader.ts and dist/transport/loader.js both lie two folders below the root. */
const PACKAGE_ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** Alpine and its kind: no glibc, so other prebuilt files. Decided by the dynamic loader's name. */
function isMusl(): boolean {
  if (process.platform !== "linux") return false;
  try {
    return readdirSync("/lib").some((name) => name.startsWith("ld-musl-"));
  } catch {
    return false; // No readable /lib: take the common case.
  }
}

/** The files tried, in order: the override alone when set, else own builds before prebuilt ones. */
export function addonCandidates(override: string | undefined, root = PACKAGE_ROOT): string[] {
  if (override !== undefined && override !== "") return [resolve(override)];
  const platform = `${process.platform}-${process.arch}${isMusl() ? "-musl" : ""}`;
  return [
    join(root, "build", "Release", FILE_NAME),
    join(root, "build", "Debug", FILE_NAME),
    join(root, "prebuilds", platform, FILE_NAME),
  ];
}

/**
 * Loads the first candidate that exists. One that exists but does not load (built for another
 * Node or machine) does not hide the ones after it.
 * Errors: ENVIRONMENT, listing every path with the reason it was not used.
 */
export function loadAddonFrom(candidates: readonly string[]): unknown {
  const require = createRequire(import.meta.url);
  const tried: string[] = [];
  let cause: unknown;
  for (const path of candidates) {
    if (!existsSync(path)) {
      tried.push(`${path}: no such file`);
      continue;
    }
    try {
      return require(path);
    } catch (error) {
      cause ??= error;
      tried.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new SdrError(
    "ENVIRONMENT",
    `the native addon could not be loaded; tried\n${tried.map((line) => `  ${line}`).join("\n")}\n`,
    `build it with "npm run build:native" in ${PACKAGE_ROOT}, or name a built file in ${ADDON_VARIABLE}`,
    cause === undefined ? undefined : { cause },
  );
}

let loaded: unknown;

/** The addon's exports; loaded once per thread. Errors: ENVIRONMENT (see loadAddonFrom). */
export function loadAddon(): unknown {
  loaded ??= loadAddonFrom(addonCandidates(process.env[ADDON_VARIABLE]));
  return loaded;
}
