/** sdr send and sdr recv between two processes on loopback: what arrives, and what is left when something fails. */
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { UsageError } from "../../../src/cli/failure.ts";
import { recvCommand } from "../../../src/cli/transfer/recv.ts";
import {
  Context,
  connect,
  listen,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../../../src/sdk/index.ts";
import { cleanUp, listening, MAIN, receiver, run, Sdr, scratch, start, until } from "./sdr.ts";

afterEach(cleanUp);

/** So slow that a transfer of some megabytes is surely under way when something happens to it. */
const SLOW = ["--link", "rate 10mbit delay 1ms", "--segment", "64KiB"];
const IMPAIRED = "rate 1gbit delay 2ms loss 2% duplicate 1% reorder 2% corrupt 1%";

function file(folder: string, name: string, bytes: number, seed = 1): string {
  const path = join(folder, name);
  writeFileSync(path, new Random(seed, name).fill(new Uint8Array(bytes)));
  return path;
}

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

/** Bytes under the temporary name in `folder`; 0 while there is none. */
function partBytes(folder: string): number {
  const name = readdirSync(folder).find((entry) => entry.endsWith(".part"));
  return name === undefined ? 0 : statSync(join(folder, name)).size;
}

/** A slow transfer that has begun to arrive. */
async function underWay(receiverArgs: string[] = [], senderArgs: string[] = []) {
  const out = scratch();
  const path = file(scratch(), "data.bin", 8 << 20);
  const { sdr, to } = await receiver(out, ...receiverArgs);
  const sender = start("send", path, to, ...SLOW, ...senderArgs);
  await until("data arrives", () => partBytes(out) > 0);
  return { out, path, receiver: sdr, sender };
}

function expectFailure(
  { status, stderr }: { status: number | null; stderr: string },
  code: string,
): void {
  expect(stderr).toMatch(new RegExp(`^sdr: ${code}: `, "m"));
  expect(stderr).not.toMatch(/^\s+at /m);
  expect(status).toBe(1);
}

describe("files arrive", () => {
  test("of every size around the segments, by every policy, with all impairments both ways", async () => {
    const from = scratch();
    const out = scratch();
    const { sdr, to } = await receiver(
      out,
      "--keep",
      "--json",
      "--secret",
      "s",
      "--link",
      IMPAIRED,
    );
    const segment = 64 * 1024;
    const sizes = [0, 1, segment - 1, segment, segment + 1, 5 * segment + 17];
    const policies = ["gbn", "sr-rto", "sr-nack", "ec-mds(8,2)", "ec-xor(8,2)", "ec-mds(2,9)"];
    for (const [index, bytes] of sizes.entries()) {
      const path = file(from, `size-${bytes}`, bytes);
      const policy = policies[index % policies.length] as string;
      const sent = await run(
        ...["send", path, to, "--policy", policy, "--secret", "s", "--json"],
        ...["--link", IMPAIRED, "--segment", "64KiB", "--packet", "1400", "--seed", "5"],
      );
      expect(sent.stderr).toBe("");
      expect(sent.status).toBe(0);
      const told = JSON.parse(sent.stdout);
      expect(told).toMatchObject({ bytes, policy, packetBytes: 1400, sha256: sha256(path) });
      expect(told.segments).toBe(Math.max(1, Math.ceil(bytes / segment)));
      expect(sha256(join(out, `size-${bytes}`))).toBe(sha256(path));
    }
    sdr.kill("SIGTERM");
    const ended = await sdr.end();
    expect(ended.status).toBe(0);
    expect(JSON.parse(ended.stdout).files.map(({ bytes }: { bytes: number }) => bytes)).toEqual(
      sizes,
    );
    expect(readdirSync(out)).toHaveLength(sizes.length);
  });

  test("over several channels, paced, over IPv6 where the machine has it", async (context) => {
    const out = scratch();
    const path = file(scratch(), "six", 3 << 20);
    const sdr = start("recv", "0", "--host", "::1", "--out", out);
    await until("it listens or fails", () => /listening|sdr: /.test(sdr.stderr));
    if (/sdr: /.test(sdr.stderr)) return context.skip(`no IPv6 loopback: ${sdr.stderr}`);
    const { port } = await listening(sdr);
    const sent = await run("send", path, `[::1]:${port}`, "--channels", "3", "--rate", "1gbit");
    expect(sent.stderr).toBe("");
    expect(sent.stdout).toContain(sha256(path));
    expect((await sdr.end()).status).toBe(0);
    expect(sha256(join(out, "six"))).toBe(sha256(path));
  });

  test("a file that is removed while it is sent still arrives whole", async () => {
    const { out, path, receiver, sender } = await underWay([], ["--link", "rate 20mbit"]);
    const wanted = sha256(path);
    rmSync(path);
    expect((await sender.end()).status).toBe(0);
    expect((await receiver.end()).status).toBe(0);
    expect(sha256(join(out, "data.bin"))).toBe(wanted);
  });

  test("--force replaces a file, and only then", async () => {
    const out = scratch();
    const path = file(scratch(), "same", 1000);
    writeFileSync(join(out, "same"), "kept");
    const { sdr, to } = await receiver(out);
    expectFailure(await run("send", path, to), "FILE");
    expect(readFileSync(join(out, "same"), "utf8")).toBe("kept");
    sdr.kill("SIGTERM");
    expectFailure(await sdr.end(), "ABORTED");
    const forced = await receiver(out, "--force");
    expect((await run("send", path, forced.to)).status).toBe(0);
    expect((await forced.sdr.end()).status).toBe(0);
    expect(sha256(join(out, "same"))).toBe(sha256(path));
  });
});

describe("devices", () => {
  test("UDP from a given address", async () => {
    const out = scratch();
    const path = file(scratch(), "addressed", 100_000);
    const { sdr, to } = await receiver(out, "--device", "udp:127.0.0.1");
    const sent = await run("send", path, to, "-d", "udp:127.0.0.1");
    expect(sent).toMatchObject({ status: 0, stderr: "" });
    expect((await sdr.end()).status).toBe(0);
    expect(sha256(join(out, "addressed"))).toBe(sha256(path));
  });

  test.each([
    ["recv", "0"],
    ["perf"],
    ["perf", "127.0.0.1", "-p", "1"],
    ["send", MAIN, "127.0.0.1:1"],
  ])(
    "sdr %s with a device that is not there says so before it waits for anybody",
    async (...args) => {
      const missing = await run(...args, "--device", "nosuch0");
      expect(missing.stderr).toMatch(/^sdr: (UNSUPPORTED|ENVIRONMENT|NOT_FOUND): .*nosuch0.*\n$/);
      expect(missing.status).toBe(1);
      const foreign = await run(...args, "--device", "udp:192.0.2.1");
      expect(foreign.stderr).toMatch(
        /^sdr: INVALID_ARGUMENT: 192\.0\.2\.1 is not an address of .*\n$/,
      );
      expect(foreign.status).toBe(2);
    },
  );

  test.each([
    [["--device", "emu"], "both ends in one process"],
    [["--device", "udp:here"], "not numeric"],
    [["--gid-index", "3"], "of RDMA devices"],
    [["--mtu", "1024"], "of RDMA devices"],
    [["--device", "mlx5_0", "--mtu", "1500"], "use 256, 512"],
  ])("%j is refused", async (args, what) => {
    const refused = recvCommand().parseAsync(["0", ...args], { from: "user" });
    await expect(refused).rejects.toBeInstanceOf(UsageError);
    await expect(refused).rejects.toThrow(what);
  });
});

describe("failures leave nothing behind and say why on both ends", () => {
  test("a file that becomes shorter", async () => {
    const { out, path, receiver, sender } = await underWay();
    truncateSync(path, 100_000);
    const [sent, received] = await Promise.all([sender.end(), receiver.end()]);
    expectFailure(sent, "FILE");
    expect(sent.stderr).toContain("became shorter");
    expectFailure(received, "FILE");
    expect(readdirSync(out)).toEqual([]);
  });

  test("a sender whose file fails stays until the receiver has said that it knows", async () => {
    const path = file(scratch(), "data.bin", 8 << 20);
    const policy = parsePolicy("sr-nack");
    const server = await listen(({ localAddress }) => Context.udp({ address: localAddress }), {
      host: "127.0.0.1",
      port: 0,
      meta: { ok: true },
    });
    const sender = start("send", path, `127.0.0.1:${server.port}`, "--segment", "64KiB");
    const { qp, context } = await server.accept();
    try {
      truncateSync(path, 100_000);
      const message = new Uint8Array(65_536);
      let kind: number | undefined;
      while (kind !== 0x54) kind = (await reliableReceive(qp, message, policy)).immediate;
      // A receiver that is still busy with an earlier segment; a sender that leaves would be gone by then.
      await new Promise((resume) => setTimeout(resume, 300));
      expect(qp.isConnected).toBe(true);
      const verdict = Buffer.from(JSON.stringify({ error: { code: "FILE", text: "I know" } }));
      await reliableWrite(qp, verdict, policy);
      const sent = await sender.end();
      expectFailure(sent, "FILE");
      expect(sent.stderr).toContain("became shorter");
    } finally {
      context.close();
      await server.close();
    }
  });

  test("a file of that name that appears meanwhile is kept", async () => {
    const { out, receiver, sender } = await underWay([], ["--link", "rate 20mbit"]);
    writeFileSync(join(out, "data.bin"), "first");
    const [sent, received] = await Promise.all([sender.end(), receiver.end()]);
    expectFailure(sent, "FILE");
    expectFailure(received, "FILE");
    expect(readFileSync(join(out, "data.bin"), "utf8")).toBe("first");
    expect(readdirSync(out)).toEqual(["data.bin"]);
  });

  test("no more space while writing", async () => {
    const out = scratch();
    const path = file(scratch(), "large", 2 << 20);
    // A file size limit fails the write as a full disk does, without needing a file system of our own.
    const script = 'ulimit -f 100; exec "$0" "$@"';
    const args = [
      "-c",
      script,
      process.execPath,
      MAIN,
      "recv",
      "0",
      "--host",
      "127.0.0.1",
      "--out",
      out,
    ];
    const { sdr, to } = await listening(new Sdr("sh", args));
    const [sent, received] = await Promise.all([run("send", path, to), sdr.end()]);
    expectFailure(sent, "NO_SPACE");
    expectFailure(received, "NO_SPACE");
    expect(readdirSync(out)).toEqual([]);
  });

  test("a file larger than the free space is refused before anything is sent", async () => {
    const out = scratch();
    const path = join(scratch(), "sparse");
    closeSync(openSync(path, "w"));
    truncateSync(path, 2 ** 43); // 8 TiB of nothing
    const { sdr, to } = await receiver(out);
    expectFailure(await run("send", path, to), "NO_SPACE");
    expect(readdirSync(out)).toEqual([]);
    sdr.kill("SIGTERM");
    await sdr.end();
  });

  test("a receiver that is killed: the sender ends", async () => {
    const { receiver, sender } = await underWay([], ["--peer-timeout", "3s"]);
    receiver.kill("SIGKILL");
    expectFailure(await sender.end(), "PEER_UNREACHABLE");
  });

  test("a sender that is killed: the receiver ends", async () => {
    const { out, receiver, sender } = await underWay(["--peer-timeout", "3s"]);
    sender.kill("SIGKILL");
    expectFailure(await receiver.end(), "PEER_UNREACHABLE");
    expect(readdirSync(out)).toEqual([]);
  });

  test.each(["SIGINT", "SIGTERM"] as const)("%s at the receiver", async (signal) => {
    const { out, receiver, sender } = await underWay();
    receiver.kill(signal);
    expectFailure(await receiver.end(), "ABORTED");
    expectFailure(await sender.end(), "PEER_CLOSED");
    expect(readdirSync(out)).toEqual([]);
  });

  test("SIGINT at the sender", async () => {
    const { out, receiver, sender } = await underWay();
    sender.kill("SIGINT");
    expectFailure(await sender.end(), "ABORTED");
    expectFailure(await receiver.end(), "PEER_CLOSED");
    expect(readdirSync(out)).toEqual([]);
  });
});

describe("peers", () => {
  test("a wrong secret is refused on both ends, and the receiver goes on", async () => {
    const out = scratch();
    const path = file(scratch(), "secret", 10);
    const { sdr, to } = await receiver(out, "--secret", "right");
    expectFailure(await run("send", path, to, "--secret", "wrong"), "ACCESS_DENIED");
    expectFailure(await run("send", path, to), "ACCESS_DENIED");
    expect((await run("send", path, to, "--secret", "right")).status).toBe(0);
    const received = await sdr.end();
    expect(received.status).toBe(0);
    expect(received.stderr.match(/^sdr: ACCESS_DENIED: /gm)).toHaveLength(2);
  });

  test("nobody there; a port in use", async () => {
    const out = scratch();
    const path = file(scratch(), "x", 10);
    const { sdr, to, port } = await receiver(out);
    const second = await run("recv", String(port), "--host", "127.0.0.1", "--out", out);
    expectFailure(second, "ADDRESS_IN_USE");
    sdr.kill("SIGTERM");
    await sdr.end();
    expectFailure(await run("send", path, to), "PEER_UNREACHABLE");
  });

  test("files that cannot be read", async () => {
    const folder = scratch();
    expectFailure(await run("send", join(folder, "none"), "127.0.0.1:9"), "NOT_FOUND");
    expectFailure(await run("send", folder, "127.0.0.1:9"), "FILE");
    expectFailure(await run("send", "/dev/null", "127.0.0.1:9"), "FILE");
    expectFailure(await run("recv", "0", "--out", join(folder, "none")), "NOT_FOUND");
  });
});

describe("a receiver trusts no sender", () => {
  const policy = parsePolicy("sr-nack");
  const offer = { file: 1, name: "n", bytes: 10, segmentBytes: 65_536, policy: "sr-nack" };

  const elsewhere = join(tmpdir(), `sdr-elsewhere-${process.pid}`);

  async function offered(port: number, meta: unknown) {
    const made = connect(({ localAddress }) => Context.udp({ address: localAddress }), {
      host: "127.0.0.1",
      port,
      attributes: { maxMessages: 16, maxMessageBytes: 65_536 },
      meta,
    });
    return made;
  }

  test.each([
    ["a path", { ...offer, name: "../n" }, "FILE"],
    ["an absolute path", { ...offer, name: elsewhere }, "FILE"],
    ["two dots", { ...offer, name: ".." }, "FILE"],
    ["a control character", { ...offer, name: "a\u001b[2Jb" }, "FILE"],
    ["no name", { ...offer, name: "" }, "FILE"],
    ["a long name", { ...offer, name: "n".repeat(300) }, "FILE"],
    ["a negative size", { ...offer, bytes: -1 }, "PEER_INCOMPATIBLE"],
    ["a fractional size", { ...offer, bytes: 1.5 }, "PEER_INCOMPATIBLE"],
    ["a huge segment", { ...offer, segmentBytes: 2 ** 40 }, "PEER_INCOMPATIBLE"],
    ["an unknown policy", { ...offer, policy: "nope" }, "INVALID_ARGUMENT"],
    ["something else", ["file"], "PEER_INCOMPATIBLE"],
    ["nothing", undefined, "PEER_INCOMPATIBLE"],
    ["another kind of device", { ...offer, device: "verbs" }, "PEER_INCOMPATIBLE"],
    ["no kind of device", { ...offer, device: ["udp"] }, "PEER_INCOMPATIBLE"],
  ])("offering %s is refused", async (_, meta, code) => {
    const above = scratch();
    const out = join(above, "out");
    mkdirSync(out);
    const { sdr, port } = await receiver(out);
    await expect(offered(port, meta)).rejects.toMatchObject({ code });
    expect(readdirSync(out)).toEqual([]);
    expect(readdirSync(above)).toEqual(["out"]);
    expect(existsSync(elsewhere)).toBe(false);
    sdr.kill("SIGTERM");
    await sdr.end();
  });

  test.each([
    ["a wrong hash", 10, { sha256: "0".repeat(64) }, "INTEGRITY"],
    ["no hash", 10, {}, "INTEGRITY"],
    ["a short segment", 9, { sha256: "0".repeat(64) }, "PEER_INCOMPATIBLE"],
    ["an early trailer", undefined, { sha256: "0".repeat(64) }, "INTEGRITY"],
    ["a failure of its own", undefined, { error: { code: "FILE", text: "gone\u001b[2J" } }, "FILE"],
  ])("sending %s leaves nothing", async (_, segment, trailer, code) => {
    const out = scratch();
    const { sdr, port } = await receiver(out);
    const { qp, context } = await offered(port, offer);
    try {
      const note = new Uint8Array(16_384);
      const verdict = reliableReceive(qp, note, policy);
      const writes: Promise<unknown>[] = [];
      if (segment !== undefined)
        writes.push(reliableWrite(qp, new Uint8Array(segment), policy, { immediate: 0x53 }));
      writes.push(
        reliableWrite(qp, Buffer.from(JSON.stringify(trailer)), policy, { immediate: 0x54 }),
      );
      await Promise.allSettled(writes);
      const { bytes } = await verdict;
      const told = JSON.parse(Buffer.from(note.subarray(0, bytes)).toString());
      expect(told.error.code).toBe(code);
      const ended = await sdr.end();
      expectFailure(ended, code);
      expect(ended.stderr).not.toContain("\u001b");
      expect(readdirSync(out)).toEqual([]);
    } finally {
      context.close();
    }
  });
});
