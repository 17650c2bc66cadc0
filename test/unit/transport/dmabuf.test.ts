/**
 * Memory of another device: a file that can be mapped stands for a GPU's dmabuf, an emulated mlx5 device for the card.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import {
  Context,
  MemoryRegion,
  parseLink,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../../../src/sdk/index.ts";
import { codeThrown, sha256 } from "../../compliance/fixture.ts";
import { DEVICES, useEmulatedDevice } from "../../compliance/verbs-fixture.ts";

const unavailable = useEmulatedDevice(DEVICES);
if (unavailable !== undefined) process.stdout.write(`skipped dmabuf: ${unavailable}\n`);
const BYTES = 300_000; // some chunks, the last one short

describe.skipIf(unavailable !== undefined)("memory of another device", () => {
  const folder = mkdtempSync(join(tmpdir(), "sdr-dmabuf-"));
  const files = ["from", "to"].map((name) => join(folder, name));
  const payload = new Uint8Array(BYTES);
  new Random(3, "dmabuf").fill(payload);
  let fds: number[] = [];

  beforeAll(() => {
    writeFileSync(files[0]!, payload);
    writeFileSync(files[1]!, new Uint8Array(BYTES));
    fds = files.map((file) => openSync(file, "r+"));
  });
  afterAll(() => {
    for (const fd of fds) closeSync(fd);
    rmSync(folder, { recursive: true });
  });

  test("a message goes from one dmabuf to another, repaired where packets were lost", async () => {
    using a = Context.verbs({ device: "mlx5_0", link: parseLink("loss 5%") });
    using b = Context.verbs({ device: "mlx5_1" });
    expect(a.capabilities.dmabuf).toBe(true);
    const attributes = { packetBytes: 4096, chunkBytes: 16_384, maxMessageBytes: 1 << 20 };
    const [qa, qb] = [a.createQueuePair(attributes), b.createQueuePair(attributes)];
    await Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]);
    const [from, to] = fds.map((fd) => MemoryRegion.dmabuf({ fd, bytes: BYTES }));
    const policy = parsePolicy("sr-nack");
    const [report] = await Promise.all([
      reliableWrite(qa, from!, policy),
      reliableReceive(qb, to!, policy),
    ]);
    expect(report.bytes).toBe(BYTES);
    expect(sha256(readFileSync(files[1]!))).toBe(sha256(payload));
    await Promise.all([qa.close(), qb.close()]);
  });

  test("transports whose threads would touch it refuse it", async () => {
    using a = Context.udp();
    using b = Context.udp();
    const [qa, qb] = [a.createQueuePair(), b.createQueuePair()];
    await Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]);
    const region = MemoryRegion.dmabuf({ fd: fds[0]!, bytes: BYTES });
    expect(codeThrown(() => qa.send(region))).toBe("INVALID_ARGUMENT");
    expect(codeThrown(() => qb.postReceive({ region }))).toBe("INVALID_ARGUMENT");
    expect(codeThrown(() => region.data)).toBe("INVALID_ARGUMENT");
  });

  test("no descriptor at all is INVALID_ARGUMENT", () => {
    expect(codeThrown(() => MemoryRegion.dmabuf({ fd: -1, bytes: 1 }))).toBe("INVALID_ARGUMENT");
    expect(codeThrown(() => MemoryRegion.dmabuf({ fd: 0, offset: -1, bytes: 1 }))).toBe(
      "INVALID_ARGUMENT",
    );
  });
});
