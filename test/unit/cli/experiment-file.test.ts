/** What an experiment's file may say: the sweep that it makes, and what is refused where. */
import { describe, expect, test } from "vitest";
import { SdrError } from "../../../src/base/errors.ts";
import { cellKey } from "../../../src/cli/experiment/cell.ts";
import { parseExperiment } from "../../../src/cli/experiment/file.ts";
import { packetLossOf } from "../../../src/cli/experiment/link.ts";
import { YAML_LIMITS } from "../../../src/cli/experiment/yaml.ts";
import { formatLink, meanLoss } from "../../../src/link/profile.ts";

const BASE = ["link: rate 1gbit delay 1ms", "size: 64KiB", "policy: sr-rto", "trials: 2"];

/** BASE with other lines in place of those of the same key, and more. */
function file(...lines: readonly string[]): string {
  const keys = lines.map((line) => /^([a-z-]+):/.exec(line)?.[1]);
  const kept = BASE.filter((line) => !keys.includes(line.split(":")[0]));
  return `${[...kept, ...lines].join("\n")}\n`;
}

function parse(...lines: readonly string[]) {
  return parseExperiment(file(...lines), "a.yaml");
}

/** What is said of a text, with nothing of the stack. */
function refusal(text: string): string {
  try {
    parseExperiment(text, "a.yaml");
  } catch (error) {
    expect(error).toBeInstanceOf(SdrError);
    return (error as Error).message;
  }
  return "nothing was refused";
}

describe("a sweep", () => {
  test("is the product of its lists, the last key changing fastest", () => {
    const { cells, name } = parse("size: [1MiB, 64KiB]", "policy: [sr-nack, gbn]", "seed: [3, 4]");
    expect(name).toBe("a");
    expect(cells.map(({ seed, bytes, policy }) => [seed, bytes / 1024, policy])).toEqual([
      ...[3, 4].flatMap((seed) =>
        [1024, 64].flatMap((kib) => ["sr-nack", "gbn"].map((policy) => [seed, kib, policy])),
      ),
    ]);
    expect(new Set(cells.map(cellKey)).size).toBe(8);
  });

  test("changes a base link's terms, there and back", () => {
    const { cells } = parse("link: wan-3750km", "rate: [1gbit, 2gbit]", "delay: 3ms", "loss: 0.1%");
    expect(cells.map(({ forward }) => formatLink(forward))).toEqual([
      "rate 1gbit delay 3ms loss 0.1%",
      "rate 2gbit delay 3ms loss 0.1%",
    ]);
    for (const { forward, reverse } of cells) expect(reverse).toEqual(forward);
  });

  test("takes the way back as it is given", () => {
    const [cell] = parse("reverse-link: delay 9ms", "loss: 1%").cells;
    expect(formatLink(cell!.reverse)).toBe("delay 9ms");
    expect(formatLink(cell!.forward)).toBe("rate 1gbit delay 1ms loss 1%");
  });

  test("loses chunks as often as it says, also in other chunks", () => {
    const { cells } = parse("chunk-loss: [1e-9, 0.1]", "packet: 1KiB", "chunk: [1KiB, 16KiB]");
    for (const { forward, chunkBytes } of cells) {
      const delivered = (1 - meanLoss(forward, 1024)) ** (chunkBytes / 1024);
      const wanted = [1e-9, 0.1].some(
        (loss) => Math.abs(1 - delivered - loss) < 1e-6 * loss + 1e-15,
      );
      expect(wanted, formatLink(forward)).toBe(true);
    }
    expect(packetLossOf(0, 16)).toBe(0);
  });

  test("keeps the share of lost packets where they come in runs", () => {
    const { cells } = parse("loss: 2%", "burst: [1, 4, 16]");
    expect(cells.map(({ forward }) => forward.loss)).toEqual([
      ...["bernoulli", "gilbert_elliott", "gilbert_elliott"],
    ]);
    for (const { forward } of cells) expect(meanLoss(forward, 4096)).toBeCloseTo(0.02, 12);
    expect(cells.map(({ forward }) => forward.geR)).toEqual([undefined, 1 / 4, 1 / 16]);
  });

  test("has phases over the base link", () => {
    const { cells } = parse(
      ...["loss: 1%", "phases:", "  - { messages: 2 }", "  - messages: 3", "    loss: 0"],
    );
    expect(
      cells[0]?.phases?.map(({ messages, forward }) => [messages, formatLink(forward)]),
    ).toEqual([
      [2, "rate 1gbit delay 1ms loss 1%"],
      [3, "rate 1gbit delay 1ms"],
    ]);
  });

  test("predicts once what no seed, trial or warm-up changes", () => {
    const lines = ["transport: [model, sampled, emulated]", "seed: [1, 2]", "warmup: [0, 3]"];
    const { cells } = parse(...lines, "messages: 5");
    const of = (name: string) => cells.filter(({ transport }) => transport === name);
    expect(of("model")).toMatchObject([{ trials: 0, warmup: 0, messages: 1 }]);
    // A drawn message is not of a connection: there are as many of them.
    expect(of("sampled")).toMatchObject([
      { seed: 1, trials: 10, warmup: 0 },
      { seed: 2, trials: 10 },
    ]);
    expect(of("emulated")).toHaveLength(4);
  });

  test("is the same whatever its comments, its quotes and the order of its keys", () => {
    const { digest } = parse("seed: 2");
    const lines = file("# words", 'seed: "2"').trimEnd().split("\n").reverse();
    expect(parseExperiment(lines.join("\n"), "a.yaml").digest).toBe(digest);
    expect(parse("seed: 3").digest).not.toBe(digest);
  });

  test("takes a list from elsewhere in the file", () => {
    const { cells } = parse("packet: &one [1KiB]", "chunk: *one");
    expect(cells.map(({ packetBytes, chunkBytes }) => [packetBytes, chunkBytes])).toEqual([
      ...[[1024, 1024]],
    ]);
  });
});

describe("what is refused, where and why", () => {
  test.each([
    [
      "an unknown key",
      ["sizes: 1MiB"],
      /^a\.yaml:5:1: key "sizes" is not known \(did you mean size\?\)/,
    ],
    [
      "a key of nothing near",
      ["colour: red"],
      /^a\.yaml:5:1: key "colour" is not known \(the keys are /,
    ],
    [
      "a key given twice",
      ["seed: 1", "# and", "seed: 2"],
      /^a\.yaml:7:1: seed is given twice, first in line 5/,
    ],
    [
      "a wrong size",
      ["size: [1MiB, 12parsec]"],
      /^a\.yaml:4:14: size: size "12parsec" is not understood \(give /,
    ],
    ["a size of nothing", ["size: 0"], /^a\.yaml:4:7: size: size "0" is not valid/],
    [
      "a value given twice",
      ["size:", "  - 1MiB", "  - 1024KiB"],
      /^a\.yaml:6:5: size: this value is given twice, first in line 5, column 5/,
    ],
    ["no value", ["seed:"], /^a\.yaml:5:6: seed has no value/],
    ["an empty list", ["seed: []"], /^a\.yaml:5:1: seed has no values/],
    ["a list within a list", ["seed: [[1]]"], /^a\.yaml:5:8: seed: a list within a list/],
    ["a map for a value", ["seed: { a: 1 }"], /^a\.yaml:5:7: seed takes plain values/],
    ["an unknown policy", ["policy: [gbn, nope]"], /^a\.yaml:4:15: policy: unknown policy "nope"/],
    [
      "a policy cut at its comma",
      ["policy: [ec-mds(32,8)]"],
      /^a\.yaml:4:10: policy: policy "ec-mds\(32" is cut at its comma \(within \[ \] write .* in quotes\)/,
    ],
    [
      "an unknown transport",
      ["transport: tcp"],
      /^a\.yaml:5:12: transport: "tcp" is not known \(give model, sampled, emulated, udp\)/,
    ],
    ["a link that is none", ["link: rate fast"], /^a\.yaml:4:7: link: link term "rate"/],
    [
      "a link without a rate",
      ["link: delay 1ms"],
      /^a\.yaml:4:7: link: link "delay 1ms" has no rate/,
    ],
    ["rate 0", ["rate: 0"], /^a\.yaml:5:7: rate: rate 0 is no limit/],
    ["loss 1", ["loss: 100%"], /^a\.yaml:5:7: loss: loss 100% delivers nothing/],
    [
      "a link that loses all",
      ["link: rate 1gbit delay 1ms loss 100%"],
      /^a\.yaml:4:7: link: link ".*" loses every packet/,
    ],
    [
      "loss twice",
      ["loss: 1%", "chunk-loss: 1%"],
      /^a\.yaml:6:1: loss and chunk-loss contradict each other \(give one/,
    ],
    ["bursts of nothing", ["burst: 4"], /^a\.yaml:5:8: burst without loss/],
    ["a seed in halves", ["loss: 0.9", "seed: 1e3"], /^a\.yaml:6:7: seed: seed "1e3" is not valid/],
    [
      "chunks of odd packets",
      ["packet: 5000"],
      /^a\.yaml:1:1: chunk: a chunk of 65536 B is not whole packets/,
    ],
    [
      "a trace from a file",
      ["link: rate 1gbit loss trace @x"],
      /^a\.yaml:4:7: link: link term "loss": the file @x cannot be read here/,
    ],
    [
      "messages beside phases",
      ["messages: 2", "phases: [{ messages: 1 }]"],
      /^a\.yaml:6:1: phases and messages contradict each other/,
    ],
    [
      "a phase without messages",
      ["phases: [{ loss: 1% }]"],
      /^a\.yaml:5:10: the phase does not say how many messages/,
    ],
    [
      "a phase of another key",
      ["phases: [{ messages: 1, size: 1MiB }]"],
      /^a\.yaml:5:25: key "size" is not known/,
    ],
    ["phases that are no list", ["phases: 3"], /^a\.yaml:5:1: phases is no list/],
    [
      "phases of the model",
      ["transport: model", "phases: [{ messages: 1 }]"],
      /^a\.yaml:5:12: transport: model knows no phases/,
    ],
    ["datacenters alone", ["datacenters: 4"], /^a\.yaml:5:14: datacenters without collective/],
    [
      "a collective over packets",
      ["collective: ring", "datacenters: 2"],
      /^a\.yaml:1:1: transport: emulated runs no collectives/,
    ],
    ["messages by the bound", ["policy: bound"], /^a\.yaml:4:9: policy: bound is none/],
    [
      "too much for udp",
      ["transport: udp", "size: 2GiB"],
      /^a\.yaml:5:7: size: 2147483648 B \(give udp messages of up to/,
    ],
    [
      "too many messages a cell",
      ["trials: 1000000", "messages: 2"],
      /^a\.yaml:4:9: trials: 2000000 messages a cell/,
    ],
    [
      "too many messages a connection",
      ["messages: 100000", "warmup: 1"],
      /trials: 100001 messages a connection/,
    ],
    ["a name of odd letters", ["name: a/b"], /^a\.yaml:5:7: name: "a\/b" is not valid/],
    ["a tag", ["seed: !!int 1"], /^a\.yaml:5:7: tag .* is not known|^a\.yaml:5:7: Unresolved tag/],
    ["an alias of nothing", ["seed: *here"], /^a\.yaml:5:7: alias \*here has no anchor/],
    ["a list that is not closed", ["seed: [1"], /^a\.yaml:\d+:\d+: Flow sequence/],
    ["tabs", ["seed:", "\t- 1"], /^a\.yaml:6:1: /],
  ])("%s", (_, lines, expected) => {
    expect(refusal(file(...lines))).toMatch(expected);
  });

  test.each([
    ["nothing", "", /^a\.yaml:1:1: this is no experiment/],
    ["a list", "- 1\n", /^a\.yaml:1:1: this is no experiment/],
    ["no size", "policy: gbn\n", /^a\.yaml has no size \(add a line "size: …"\)/],
    ["no policy", "size: 1\n", /^a\.yaml has no policy/],
    ["two documents", `${file()}---\n${file()}`, /^a\.yaml:5:1: /],
    ["a file of another kind", "\u0000\u0001[[[", /^a\.yaml/],
  ])("%s", (_, text, expected) => {
    expect(refusal(text)).toMatch(expected);
  });

  test("a file whose name is no name, unless it gives one", () => {
    expect(() => parseExperiment(file(), "a b.yaml")).toThrow(/"a b" is no name for an experiment/);
    expect(parseExperiment(file("name: ab"), "a b.yaml").name).toBe("ab");
  });
});

describe("limits", () => {
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1).join(", ");

  test("cells, list items and the file's size", () => {
    const lines = [`seed: [${numbers(1000)}]`, `warmup: [${numbers(51)}]`];
    expect(refusal(file(...lines))).toMatch(/^a\.yaml has 51000 cells \(sweep at most 50000/);
    expect(refusal(file(`seed: [${numbers(1001)}]`))).toMatch(/^a\.yaml:5:1: seed has 1001 values/);
    const long = `${file()}#${"x".repeat(YAML_LIMITS.fileBytes)}\n`;
    expect(refusal(long)).toMatch(/^a\.yaml has \d+ B \(give at most/);
  });

  test("depth: what would overflow the parser's stack is refused before it", () => {
    for (const open of ["[", "{a: ", "- ", "? ", " - "]) {
      const text = open.repeat(20_000).slice(0, 60_000);
      expect(refusal(text), open).toMatch(/^a\.yaml:1:1: (more than|the line begins)/);
    }
    expect(refusal(`seed: [${"a: ".repeat(15_000)}]\n`)).toMatch(/^a\.yaml/);
  });

  test("aliases of aliases multiply nothing", () => {
    const levels = Array.from({ length: 12 }, (_, i) => {
      const before = i === 0 ? "1" : `*a${i - 1}`;
      return `k${i}: &a${i} [${Array.from({ length: 9 }, () => before).join(", ")}]`;
    });
    expect(refusal(`${levels.join("\n")}\n`)).toMatch(/aliases|values|brackets/);
    expect(refusal(file("seed: &s [*s]"))).toMatch(/aliases|values/);
  });
});
