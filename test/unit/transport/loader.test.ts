import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { addonCandidates, loadAddon, loadAddonFrom } from "../../../src/transport/loader.ts";
import { expectRefusal } from "../base/refusal.ts";

const folder = mkdtempSync(join(tmpdir(), "sdr-loader-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("where the addon is looked for", () => {
  test("own builds first, then a prebuilt one for this platform", () => {
    const [release, debug, prebuilt, ...rest] = addonCandidates(undefined, "/package");
    expect(release).toBe(resolve("/package/build/Release/sdr_rdma.node"));
    expect(debug).toBe(resolve("/package/build/Debug/sdr_rdma.node"));
    expect(prebuilt).toContain(`${process.platform}-${process.arch}`);
    expect(rest).toEqual([]);
  });

  test("the environment's choice alone, when there is one; empty is none", () => {
    expect(addonCandidates("/elsewhere/x.node")).toEqual([resolve("/elsewhere/x.node")]);
    expect(addonCandidates("", "/p")).toEqual(addonCandidates(undefined, "/p"));
  });

  test("the default root is the package's, where package.json lies", () => {
    const root = resolve(import.meta.dirname, "..", "..", "..");
    expect(addonCandidates(undefined)[0]).toBe(join(root, "build", "Release", "sdr_rdma.node"));
  });
});

describe("what happens when it does not load", () => {
  test("one ENVIRONMENT error lists every path, each reason and the command that builds", () => {
    const broken = join(folder, "broken.node");
    writeFileSync(broken, "not a shared object");
    const missing = join(folder, "missing.node");
    expectRefusal(() => loadAddonFrom([missing, broken]), "ENVIRONMENT", [
      `${missing}: no such file`,
      `${broken}: `,
      "npm run build:native",
      "SDR_RDMA_ADDON",
    ]);
  });

  test("a file that does not load does not hide a later one", () => {
    const broken = join(folder, "other.node");
    writeFileSync(broken, "not a shared object either");
    const working = join(folder, "working.cjs");
    writeFileSync(working, "module.exports = { answer: 42 };");
    expect(loadAddonFrom([broken, working])).toEqual({ answer: 42 });
  });
});

test("the built addon loads, once", () => {
  const addon = loadAddon() as Record<string, unknown>;
  expect(addon.createWorld).toBeTypeOf("function");
  expect(addon.createUdpContext).toBeTypeOf("function");
  expect(loadAddon()).toBe(addon);
});
