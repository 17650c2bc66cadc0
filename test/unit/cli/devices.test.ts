/** sdr devices: what facts mean, on machines that have it all, some of it, or nothing. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { diagnose, type HardwareReport } from "../../../src/cli/devices/diagnose.ts";
import type { DeviceFacts, HardwareFacts, PortFacts } from "../../../src/cli/devices/facts.ts";
import { readMemlock } from "../../../src/cli/devices/gather.ts";
import { gidAddress, reportText } from "../../../src/cli/devices/text.ts";
import {
  readDeviceAttributes,
  readGids,
  readPortAttributes,
} from "../../../src/cli/devices/verbs-library.ts";
import { cleanUp, run } from "./sdr.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const VARIABLE = "SDR_IBVERBS";
const before = process.env[VARIABLE];

afterEach(async () => {
  if (before === undefined) delete process.env[VARIABLE];
  else process.env[VARIABLE] = before;
  await cleanUp();
});

const GID = "0000:0000:0000:0000:0000:ffff:0a09:0001";
const PORT: PortFacts = {
  port: 1,
  state: "active",
  linkLayer: "Ethernet",
  activeMtu: 4096,
  maxMtu: 4096,
  rateBps: 400e9,
  gids: [{ index: 3, type: "RoCE v2", gid: GID, netdev: "enp1s0" }],
};
const YES = { can: true, how: "" };
const NO = { can: false, how: "" };
const CARD: DeviceFacts = {
  ...{ name: "mlx5_0", driver: "mlx5_core", openError: null, firmware: "32.39.1002" },
  ...{ vendorId: 0x02c9, partId: 41692, queuePairsMax: 131_072, queueRequestsMax: 32_768 },
  ...{ completionsMax: 4_194_303, ports: [PORT], uc: YES, writeWithImmediate: YES },
  ...{ nullKey: YES, indirectKeys: YES, dmabuf: YES, dpa: YES },
};
const ALL: HardwareFacts = {
  ...{ platform: "linux", arch: "x64", kernel: "6.1.0" },
  library: { path: "libibverbs.so.1", error: null },
  koffiError: null,
  addon: { error: null, verbs: true, flexio: true, dpaEmulation: true },
  ...{ uverbs: true, rxeModule: "loaded", deviceFolder: true, deniedFiles: [] },
  ...{ memlockBytes: null, flexioLibrary: "/opt/mellanox/flexio/lib/libflexio.so", netdev: "eth0" },
  devices: [CARD],
};
const NOTHING: HardwareFacts = {
  ...ALL,
  library: { path: "libibverbs.so.1", error: "cannot open shared object file" },
  addon: { error: null, verbs: false, flexio: null, dpaEmulation: true },
  ...{ uverbs: false, rxeModule: "unknown", deviceFolder: false, memlockBytes: 8 << 20 },
  ...{ flexioLibrary: null, devices: [] },
};

function ids({ reasons }: { readonly reasons: HardwareReport["devices"][number]["reasons"] }) {
  return reasons.map(({ id }) => id);
}

describe("backends", () => {
  test("a machine with everything", () => {
    const { backends, devices } = diagnose(ALL);
    expect(backends.verbs).toEqual({ available: true, reasons: [] });
    expect(backends.dpa).toEqual({ implementation: "flexio", available: true, reasons: [] });
    expect(devices[0]).toMatchObject({ name: "mlx5_0", usable: true, reasons: [] });
  });

  test("a machine with nothing: each thing that is missing, each with what to do", () => {
    const { backends, devices } = diagnose(NOTHING);
    expect(devices).toEqual([]);
    expect(backends.udp.available).toBe(true);
    expect(backends.verbs.available).toBe(false);
    expect(ids(backends.verbs)).toEqual([
      ...["addon-without-verbs", "library-missing", "kernel-module", "no-device", "memlock"],
    ]);
    expect(backends.dpa).toMatchObject({ implementation: "emulation", available: true });
    expect(ids(backends.dpa)).toEqual(["no-dpa-device", "flexio-missing", "addon-without-flexio"]);
    for (const { reasons } of Object.values(backends))
      for (const { what, remedy } of reasons) expect(what !== "" && remedy !== "").toBe(true);
  });

  test("no addon: neither emulation nor UDP nor the DPA's emulation", () => {
    const { backends } = diagnose({ ...NOTHING, addon: { ...NOTHING.addon, error: "not built" } });
    expect([backends.udp, backends.emulated].flatMap(ids)).toEqual([
      ...["addon-missing", "addon-missing"],
    ]);
    expect(backends.dpa).toMatchObject({ implementation: "none", available: false });
  });

  test("another system", () => {
    expect(ids(diagnose({ ...NOTHING, platform: "darwin" }).backends.verbs)).toEqual(["platform"]);
  });

  test.each<[string, Partial<HardwareFacts>, string, RegExp]>([
    ["no koffi", { koffiError: "not found" }, "ffi-missing", /npm install koffi/],
    ["a container", { deviceFolder: false, devices: [] }, "device-folder", /--device/],
    [
      "files of another group",
      { deniedFiles: ["/dev/infiniband/uverbs0"], devices: [] },
      "permission",
      /group/,
    ],
    ["no card, but Soft-RoCE", { devices: [], netdev: "ens3" }, "no-device", /rdma link .* ens3/],
    ["no card, no Soft-RoCE", { devices: [], rxeModule: "missing" }, "no-device", /test:rxe/],
    [
      "no headers",
      { addon: { ...ALL.addon, verbs: false } },
      "addon-without-verbs",
      /libibverbs-dev/,
    ],
  ])("%s", (_, facts, id, remedy) => {
    const { verbs } = diagnose({ ...ALL, ...facts }).backends;
    expect(verbs.available).toBe(false);
    expect(verbs.reasons.find((one) => one.id === id)?.remedy).toMatch(remedy);
  });

  test("64 KiB of locked memory is said, also where everything else is there", () => {
    const { verbs } = diagnose({ ...ALL, memlockBytes: 64 << 10 }).backends;
    expect(verbs.available).toBe(true);
    expect(verbs.reasons).toHaveLength(1);
    expect(verbs.reasons[0]?.what).toContain("64 KiB");
    expect(verbs.reasons[0]?.remedy).toContain("ulimit -l unlimited");
  });
});

describe("devices", () => {
  test.each<[string, Partial<DeviceFacts>, string, RegExp]>([
    ["its port is down", { ports: [{ ...PORT, state: "down" }] }, "port-down", /port 1 is down/],
    ["it has no port", { ports: [] }, "port-down", /it has none/],
    ["its port has no GID", { ports: [{ ...PORT, gids: [] }] }, "no-gid", /no GID/],
    ["it has no UC", { uc: { can: false, how: "EINVAL" } }, "no-uc", /EINVAL/],
    ["it may not be opened", { openError: "EACCES" }, "device-open", /EACCES/],
  ])("%s", (_, facts, id, what) => {
    const { backends, devices } = diagnose({ ...ALL, devices: [{ ...CARD, ...facts }] });
    expect(devices[0]?.usable).toBe(false);
    expect(devices[0]?.reasons.map((one) => one.id)).toEqual([id]);
    expect(devices[0]?.reasons[0]?.what).toMatch(what);
    expect(backends.verbs.available).toBe(false);
    expect(ids(backends.verbs)).toContain(id);
  });

  test("one that works is enough, and a second port that is down is no matter", () => {
    const ports = [{ ...PORT, state: "down" as const, port: 2 }, PORT];
    const devices = [
      { ...CARD, openError: "EIO" },
      { ...CARD, name: "mlx5_1", ports },
    ];
    const { backends, devices: reports } = diagnose({ ...ALL, devices });
    expect(backends.verbs).toEqual({ available: true, reasons: [] });
    expect(reports.map(({ usable }) => usable)).toEqual([false, true]);
  });

  test("a card without a DPA runs its emulation", () => {
    const { dpa } = diagnose({ ...ALL, devices: [{ ...CARD, dpa: NO }] }).backends;
    expect(dpa.implementation).toBe("emulation");
    expect(ids(dpa)).toEqual(["no-dpa-device"]);
  });
});

describe("text", () => {
  test("names device, port, GID, abilities and how to use it", () => {
    const text = reportText(diagnose(ALL));
    expect(text).toContain("port 1: active, Ethernet (RoCE), MTU 4096 (at most 4096), 400 Gbit/s");
    expect(text).toContain("GID 3   RoCE v2  10.9.0.1 on enp1s0");
    expect(text).toMatch(/null key +yes/);
    expect(text).toContain("usable: --device mlx5_0");
  });

  test("nothing but reasons and remedies, line by line", () => {
    const text = reportText(diagnose(NOTHING));
    expect(text).toMatch(/^verbs +no$/m);
    expect(text).toMatch(/^dpa +yes, emulated on this machine's processors$/m);
    expect(text).toMatch(/^ {2}libibverbs.so.1 cannot be loaded: .*\n {4}-> apt-get install/m);
  });

  test.each([
    [GID, "10.9.0.1"],
    ["fe80:0000:0000:0000:0202:c9ff:fe00:0001", "fe80::202:c9ff:fe00:1"],
    ["2001:0db8:0000:0001:0000:0000:0000:0001", "2001:db8:0:1::1"],
    ["0000:0000:0000:0000:0000:0000:0000:0001", "::1"],
    ["fe80:0000:0000:0000:0000:0000:0000:0000", "fe80::"],
    ["0001:0002:0003:0004:0005:0006:0007:0008", "1:2:3:4:5:6:7:8"],
  ])("%s is %s", (gid, address) => {
    expect(gidAddress(gid)).toBe(address);
  });
});

describe("reading", () => {
  test("the limit of locked memory, which root's capability lifts", () => {
    const limits = (soft: string) =>
      `Max locked memory         ${soft}              67108864   bytes\n`;
    expect(readMemlock(limits("65536"), "CapEff:\t0000000000000000\n")).toBe(65_536);
    expect(readMemlock(limits("65536"), "CapEff:\t000001ffffffffff\n")).toBeNull();
    expect(readMemlock(limits("unlimited"), "")).toBeNull();
    expect(readMemlock("", "")).toBeNull();
  });

  test("a port's attributes as libibverbs lays them out", () => {
    const bytes = Buffer.alloc(128);
    for (const [at, value] of [
      [0, 4],
      [4, 5],
      [8, 3],
    ] as const)
      bytes.writeUInt32LE(value, at);
    for (const [at, value] of [
      [43, 2],
      [44, 128],
      [46, 2],
    ] as const)
      bytes.writeUInt8(value, at);
    expect(readPortAttributes(1, bytes)).toEqual({
      ...{ port: 1, state: "active", linkLayer: "Ethernet", activeMtu: 1024, maxMtu: 4096 },
      rateBps: 400e9,
    });
    expect(readPortAttributes(2, Buffer.alloc(128, 0xff))).toEqual({
      ...{ port: 2, state: "unknown", linkLayer: "unknown", activeMtu: null, maxMtu: null },
      rateBps: null,
    });
  });

  test("a device's attributes and GIDs", () => {
    const bytes = Buffer.alloc(512);
    bytes.write("32.39.1002", "latin1");
    for (const [at, value] of [
      [96, 713],
      [100, 41692],
      [108, 7],
      [112, 8],
      [132, 9],
    ] as const)
      bytes.writeUInt32LE(value, at);
    bytes.writeUInt8(2, 227);
    expect(readDeviceAttributes(bytes)).toEqual({
      ...{ firmware: "32.39.1002", vendorId: 713, partId: 41692, ports: 2 },
      ...{ queuePairsMax: 7, queueRequestsMax: 8, completionsMax: 9 },
    });
    const entries = Buffer.alloc(64);
    Buffer.from(GID.replaceAll(":", ""), "hex").copy(entries, 32);
    for (const [at, value] of [
      [48, 3],
      [52, 1],
      [56, 2],
    ] as const)
      entries.writeUInt32LE(value, at);
    expect(readGids(entries, 2)[1]).toEqual({ gid: GID, index: 3, port: 1, type: "RoCE v2" });
  });
});

describe("on this machine", () => {
  test("it says something useful whatever is here", async () => {
    const { status, stdout, stderr } = await run("devices", "--json");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const { backends, devices, machine } = JSON.parse(stdout);
    expect(backends.udp.available).toBe(true);
    expect(machine.platform).toBe(process.platform);
    expect(backends.verbs.available || backends.verbs.reasons.length > 0).toBe(true);
    expect(Array.isArray(devices)).toBe(true);
    const text = await run("devices");
    expect(text.stdout).toMatch(/^verbs +(yes|no)$/m);
  });

  test("a library that is not there is named, with what the loader said", async () => {
    process.env[VARIABLE] = "/nowhere/libibverbs.so";
    const { stdout } = await run("devices", "--json");
    const { reasons } = JSON.parse(stdout).backends.verbs;
    const found = reasons.find(({ id }: { id: string }) => id === "library-missing");
    expect(found?.what).toContain("/nowhere/libibverbs.so cannot be loaded");
  });

  test("the emulated device is found and tried out", async (context) => {
    const library = join(ROOT, "build-native", "libibverbs-emulated.so");
    if (!existsSync(library)) return context.skip(`${library} is not built`);
    process.env[VARIABLE] = library;
    const { stdout } = await run("devices", "--json");
    const { devices } = JSON.parse(stdout) as HardwareReport;
    expect(devices.map(({ name }) => name)).toEqual(["emu0", "emu1"]);
    expect(devices[0]).toMatchObject({ usable: true, uc: { can: true }, dmabuf: { can: false } });
    expect(devices[1]).toMatchObject({ usable: true, uc: { can: true }, dmabuf: { can: true } });
    expect(devices[1]?.ports[0]?.gids.map(({ type }) => type)).toEqual([
      ...["RoCE v1", "RoCE v2", "RoCE v1", "RoCE v2"],
    ]);
  });

  test("a device of this machine is opened and has ports", async (context) => {
    const folder = "/sys/class/infiniband";
    const names = existsSync(folder) ? readdirSync(folder) : [];
    if (names.length === 0) return context.skip(`no RDMA device in ${folder}`);
    const { stdout } = await run("devices", "--json");
    const { devices } = JSON.parse(stdout) as HardwareReport;
    expect(devices.map(({ name }) => name).sort()).toEqual(names.sort());
    for (const { ports } of devices) expect(ports.length).toBeGreaterThan(0);
  });

  test("koffi is loaded by this command only, when it runs", () => {
    const files = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" });
    const naming = files
      .filter((file) => file.endsWith(".ts"))
      .map((file) => [file, readFileSync(join(ROOT, "src", file), "utf8")] as const)
      .filter(([, text]) => /(?<!import type [^;]*)from "koffi"|import\("koffi"\)/.test(text));
    expect(naming.map(([file]) => file).sort()).toEqual([
      join("cli", "devices", "gather.ts"),
      join("cli", "devices", "verbs-library.ts"),
    ]);
    const gather = naming.find(([file]) => file.endsWith("gather.ts"))?.[1] ?? "";
    expect(gather).not.toMatch(/^import .*"koffi"/m);
    expect(gather).toContain('await import("koffi")');
  });
});
