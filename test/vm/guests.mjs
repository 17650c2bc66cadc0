// Two virtual machines under QEMU's own processor emulation, joined by one Ethernet: started, watched and ended here.
// Whatever ends this process ends them.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const BOOT_MS_MAX = 240_000;
const POWER_OFF_MS_MAX = 5_000;
const CONSOLE_LINES = 60;
const MEMORY = "3072";
/** Without vector instructions beyond SSE3: they cost more to emulate than they save. */
const CPU = "qemu64";
/**
 * With a place for one processor only, QEMU's translator leaves out what orders memory between it and the devices'
 * threads: a virtio queue's notification is then lost now and then, and the network stands still for good.
 */
const PROCESSORS_MIN = 2;
const TICKS_A_SECOND = 100;
const TCP_LISTEN = "0A"; // in /proc/net/tcp

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

function isListening(port) {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .some((line) => {
      const [, local = "", , state] = line.trim().split(/\s+/);
      return local.endsWith(wanted) && state === TCP_LISTEN;
    });
}

async function until(what, condition, stopped = () => undefined) {
  const deadline = Date.now() + BOOT_MS_MAX;
  while (!condition()) {
    const reason = stopped();
    if (reason !== undefined) throw new Error(reason);
    if (Date.now() > deadline) throw new Error(`not within ${BOOT_MS_MAX / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

class Guest {
  constructor(role, { kernel, initramfs }, folder, network, smp) {
    this.role = role;
    this.text = "";
    this.control = join(folder, `control${role}`);
    const port = (name) => [
      ...[
        "-chardev",
        `socket,id=${name},path=${join(folder, `${name}${role}`)},server=on,wait=off`,
      ],
      ...["-device", `virtserialport,chardev=${name},name=sdr.${name}`],
    ];
    const args = [
      ...["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", CPU],
      ...["-smp", `${smp},maxcpus=${Math.max(smp, PROCESSORS_MIN)}`],
      ...["-m", MEMORY, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
      ...["-serial", "stdio", "-kernel", kernel, "-initrd", initramfs, "-append"],
      "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr tsc=reliable clocksource=tsc " +
        `net.ifnames=0 sdr.role=${role}`,
      ...["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"],
      ...["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"],
      ...["-netdev", `socket,id=n0,${network}`],
      ...["-device", `virtio-net-pci,netdev=n0,mac=52:54:00:00:00:0${role},romfile=`],
      ...["-device", "virtio-serial-pci", "-device", "virtio-rng-pci"],
      ...port("rpc"),
      ...port("wake"),
      ...port("control"),
    ];
    const wrapped = ["--pdeathsig", "KILL", "qemu-system-x86_64", ...args];
    this.process = spawn("setpriv", wrapped, { stdio: ["ignore", "pipe", "pipe"] });
    this.ended = once(this.process, "close");
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        this.text = (this.text + text).slice(-1 << 16);
      });
    }
  }

  get isReady() {
    return this.text.includes("sdr: ready");
  }

  /** What it ended with, when it has. */
  get end() {
    const { exitCode, signalCode } = this.process;
    if (exitCode === null && signalCode === null) return undefined;
    return `guest ${this.role} ended by itself (${signalCode ?? exitCode})`;
  }

  console() {
    return this.text.trim().split("\n").slice(-CONSOLE_LINES).join("\n");
  }

  /** Seconds of this machine's processors so far. */
  get processorSeconds() {
    const fields = readFileSync(`/proc/${this.process.pid}/stat`, "utf8").split(") ")[1].split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
  }

  kill() {
    this.process.kill("SIGKILL");
  }

  /** True when it powered off by itself when told to. */
  async powerOff() {
    if (this.end === undefined) {
      const socket = connect(this.control);
      socket.on("error", () => {});
      socket.write("off\n");
      const timer = setTimeout(() => this.kill(), POWER_OFF_MS_MAX);
      await this.ended;
      clearTimeout(timer);
      socket.destroy();
    }
    return this.process.exitCode === 0;
  }
}

/** Boots both guests and waits until they are ready. `folder` has their sockets: NAME1 and NAME2, of rpc and wake. */
export class Guests {
  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "sdr-vm-"));
    this.guests = [];
  }

  async boot(files, smp) {
    const port = await freePort();
    const start = (role, network) =>
      this.guests.push(new Guest(role, files, this.folder, network, smp));
    start(1, `listen=127.0.0.1:${port}`);
    const stopped = () => this.guests.map((guest) => guest.end).find((end) => end !== undefined);
    await until("guest 1's network", () => isListening(port), stopped);
    start(2, `connect=127.0.0.1:${port}`);
    await until("both guests to be ready", () => this.guests.every((one) => one.isReady), stopped);
  }

  get processorSeconds() {
    return this.guests.reduce((sum, guest) => sum + guest.processorSeconds, 0);
  }

  consoles() {
    return this.guests
      .map((guest) => `--- console of guest ${guest.role}\n${guest.console()}\n`)
      .join("");
  }

  async powerOff() {
    const done = await Promise.all(this.guests.map((guest) => guest.powerOff()));
    rmSync(this.folder, { recursive: true, force: true });
    return done.every((one) => one);
  }

  /** At once; also from a signal handler. */
  kill() {
    for (const guest of this.guests) guest.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
