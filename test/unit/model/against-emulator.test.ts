/**
 * The model against the emulator, which knows none of its formulas: the same messages, packets of 32 KiB, control
 * frames that are not lost. Seeds are fixed, so a cell agrees or does not, and not now and then. What chance alone may
 * do to so few trials is allowed for: the mean by its standard error, p99 by how many trials may lie on either side of
 * it.
 */
import { expect, test } from "vitest";
import { mean, standardDeviation } from "../../../src/base/statistics.ts";
import { COLUMN, COLUMNS, runTrials } from "../../../src/cli/emulate/trial.ts";
import { parseLink } from "../../../src/link/profile.ts";
import { predict } from "../../../src/model/predict.ts";
import { parseScheme } from "../../../src/model/scheme.ts";
import { settingOf } from "../../../src/model/setting.ts";

const SEED = 20;
const PACKET = 32768;
const CHUNK = 65536;
/** Agreement asked for beyond what chance does. */
const PRECISION = 0.01;
/** Standard errors that chance may be off by. */
const SIGMAS = 3.5;

interface Cell {
  readonly policy: string;
  readonly bytes: number;
  /** Of chunks. */
  readonly loss: number;
  readonly trials: number;
  readonly link?: string;
  readonly precision?: number;
}

async function compare(cell: Cell): Promise<void> {
  const { policy, bytes, loss, trials, link = "rate 400gbit delay 12.5ms" } = cell;
  const { precision = PRECISION } = cell;
  const packets = Math.min(CHUNK, bytes) / PACKET;
  const packetLoss = -Math.expm1(Math.log1p(-loss) / packets);
  // Frames are short: they pass.
  const forward = parseLink(`${link} loss size 1024:0,${PACKET - 1}:${packetLoss}`);
  const reverse = parseLink(link);
  const sizes = { bytes, packetBytes: PACKET, chunkBytes: CHUNK };
  const trial = { ...sizes, seed: SEED, forward, reverse };
  const rows = await runTrials(trial, policy, 0, trials);
  const times = Array.from({ length: trials }, (_, i) => rows[i * COLUMNS] as number).sort(
    (a, b) => a - b,
  );
  for (let i = 0; i < trials; i++) expect(rows[i * COLUMNS + COLUMN.failure]).toBe(0);
  const setting = settingOf(forward, reverse, sizes);
  expect(setting.controlLoss).toBe(0);
  const prediction = predict(parseScheme(policy), setting);
  const meanNs = mean(times);
  // Of rare losses a few trials may show none: then the prediction's own spread is what chance does.
  const error = Math.max(standardDeviation(times), spread(prediction)) / Math.sqrt(trials);
  expect(Math.abs(prediction.meanNs - meanNs)).toBeLessThan(precision * meanNs + SIGMAS * error);
  const within = (ns: number) => times.filter((time) => time <= ns).length;
  for (const q of [0.5, 0.9, 0.99]) {
    const ns = prediction.quantileNs(q);
    const chance = (share: number) => SIGMAS * Math.sqrt(trials * share * (1 - share)) + 1;
    expect(within(ns * (1 + precision))).toBeGreaterThanOrEqual(trials * q - chance(q));
    const before = prediction.cdf(ns * (1 - precision));
    expect(within(ns * (1 - precision))).toBeLessThanOrEqual(trials * before + chance(before));
  }
}

/** Standard deviation of a prediction, from its quantiles. */
function spread({ meanNs, quantileNs }: ReturnType<typeof predict>): number {
  const looks = 1000;
  let squares = 0;
  for (let i = 0; i < looks; i++) squares += (quantileNs((i + 1 / 2) / looks) - meanNs) ** 2;
  return Math.sqrt(squares / looks);
}

const KIB = 1024;
const MIB = 1024 * KIB;
const SCHEMES = ["sr-rto", "sr-nack", "ec-mds", "ec-xor"];

console.log(`model against emulator: seed ${SEED}`);

test.each(SCHEMES)("%s, 128 KiB: mean and p99 are the emulator's", async (policy) => {
  await compare({ policy, bytes: 128 * KIB, loss: 0.1, trials: 100 });
});

test.each(SCHEMES)("%s, 8 MiB: mean and p99 are the emulator's", async (policy) => {
  for (const loss of [0.1, 1e-2]) await compare({ policy, bytes: 8 * MIB, loss, trials: 60 });
});

test.each(SCHEMES)("%s, 64 MiB: mean and p99 are the emulator's", async (policy) => {
  for (const loss of [0.1, 1e-3]) await compare({ policy, bytes: 64 * MIB, loss, trials: 40 });
});

test.each(SCHEMES)(
  "%s, injected for many RTTs: mean and p99 are the emulator's",
  async (policy) => {
    // As 8 GiB at 25 ms, on a path a sixteenth as long.
    const link = "rate 400gbit delay 781us";
    for (const loss of [0.1, 1e-3])
      await compare({ policy, bytes: 256 * MIB, loss, trials: 12, link, precision: 0.03 });
  },
);

test("gbn is within some per cent of the emulator", async () => {
  await compare({ policy: "gbn", bytes: 8 * MIB, loss: 1e-2, trials: 100, precision: 0.06 });
});
