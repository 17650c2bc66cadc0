// Two processes, one at each end of a UDP path (udp-end.mjs is what runs in them), and what is done with the two:
// connecting queue pairs, and transfers whose bytes are compared. Every figure of theirs comes from here.
import { fork } from "node:child_process";
import { join } from "node:path";
import { root } from "./machine.mjs";

const ANSWER_MS_MAX = 120_000;

/** A process at one end; `call` sends it a command and waits for the answer. */
class End {
  constructor() {
    this.process = fork(join(root, "bench", "udp-end.mjs"), {
      serialization: "advanced",
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      // With the collector at hand, memory is measured without what only waits to be collected.
      execArgv: ["--expose-gc"],
    });
    this.waiting = new Map();
    this.next = 0;
    this.process.on("message", ({ id, answer, error }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) resolve(answer);
      else reject(new Error(error));
    });
    this.exited = new Promise((resolve) => this.process.on("exit", resolve));
    this.exited.then((code) => {
      for (const { reject } of this.waiting.values())
        reject(new Error(`an end of the benchmark exited with ${code}`));
    });
  }

  call(command, values = {}) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      const give = () => reject(new Error(`no answer to "${command}" in ${ANSWER_MS_MAX} ms`));
      const timer = setTimeout(give, ANSWER_MS_MAX);
      const ended = (settle) => (value) => {
        clearTimeout(timer);
        settle(value);
      };
      this.waiting.set(id, { resolve: ended(resolve), reject: ended(reject) });
      this.process.send({ id, command, ...values });
    });
  }

  async close() {
    if (this.process.connected) this.process.send({ id: -1, command: "close" });
    await this.exited;
  }
}

/** A sender's and a receiver's process, each with a buffer of `bytes` and a context over `link` (tc-netem's words). */
export class Ends {
  #sender = new End();
  #receiver = new End();

  /** Two processes, to be closed in the end. `seed`: of what the link does. */
  static async open({ bytes, link = "none", seed = 1 }) {
    const ends = new Ends();
    try {
      const open = { bytes, link, seed };
      const [{ sha256, capabilities }] = await Promise.all([
        ends.#sender.call("open", { ...open, role: "send" }),
        ends.#receiver.call("open", { ...open, seed: seed + 1, role: "receive" }),
      ]);
      ends.sha256 = sha256;
      ends.capabilities = capabilities;
      return ends;
    } catch (error) {
      await ends.close();
      throw error;
    }
  }

  /** One queue pair at each end, known by `name` from then on. */
  async connect(name, attributes) {
    const ends = [this.#sender, this.#receiver];
    const [from, to] = await Promise.all(
      ends.map((end) => end.call("create", { name, attributes })),
    );
    await Promise.all([
      this.#sender.call("connect", { name, info: to.info }),
      this.#receiver.call("connect", { name, info: from.info }),
    ]);
  }

  /**
   * One transfer of the whole buffer, as so many messages at once: {sent, got}, what each end says of it. Throws when
   * the receiver has other bytes than the sender.
   */
  async transfer(name, { policy, messages = 1 }) {
    const task = { name, policy, messages };
    await this.#receiver.call("expect", task);
    const sent = await this.#sender.call("send", task);
    const got = await this.#receiver.call("received", task);
    if (got.sha256 !== this.sha256) throw new Error(`${policy} over ${name}: wrong SHA-256`);
    return { sent, got };
  }

  async close() {
    await Promise.all([this.#sender.close(), this.#receiver.close()]);
  }
}
