// What crossing into native code costs, and how fast virtual time runs.
import assert from "node:assert/strict";
import { COLUMN, COLUMNS, runTrials } from "../dist/cli/emulate/trial.js";
import { Context, EmulatedWorld, MemoryRegion, parseLink } from "../dist/sdk/index.js";

const CALLS = 1000; // of a native function in one run
const TRIALS = 4; // in one run
const SETTING = {
  bytes: 128 * 2 ** 20,
  packetBytes: 4096,
  chunkBytes: 65536,
  seed: 7,
  forward: parseLink("wan-3750km"),
  reverse: parseLink("wan-3750km"),
};

function nativeCases() {
  const world = new EmulatedWorld();
  const context = Context.emulated(world);
  const qp = context.createQueuePair({ packetBytes: 4096 });
  const handle = qp.postReceive({ region: MemoryRegion.phantom(65536) });
  const { native } = qp;
  let sum = 0;
  const call = (name, one) => ({
    group: "N-API",
    name,
    unit: "calls",
    perRun: CALLS,
    run: () => {
      sum = 0;
      for (let i = 0; i < CALLS; i++) sum += one();
    },
    verify: () => {
      assert.equal(sum, 0); // nothing has arrived, and no virtual time has passed
      assert.equal(handle.progress.chunksDone, 0);
    },
  });
  return [
    call("nowNs()", () => world.native.nowNs()),
    { ...call("chunksDone(message)", () => native.chunksDone(0)), close: () => context.close() },
  ];
}

/** Whole trials of `sdr emulate`; the same seed must give the same rows each time. */
async function trialCases() {
  const expected = await runTrials(SETTING, "sr-nack", 0, TRIALS);
  for (let row = 0; row < TRIALS; row++)
    assert.equal(expected[row * COLUMNS + COLUMN.failure], 0, `trial ${row} failed`);
  let rows;
  const trial = {
    group: "emulation",
    asynchronous: true,
    run: async () => {
      rows = await runTrials(SETTING, "sr-nack", 0, TRIALS);
    },
    verify: () => assert.deepEqual(rows, expected),
  };
  const chunks = Array.from(
    { length: TRIALS },
    (_, row) => expected[row * COLUMNS + COLUMN.chunksRetransmitted],
  ).reduce((sum, one) => sum + one, (TRIALS * SETTING.bytes) / SETTING.chunkBytes);
  const packets = (chunks * SETTING.chunkBytes) / SETTING.packetBytes;
  const about = "128 MiB, wan-3750km, sr-nack";
  return [
    { ...trial, name: about, unit: "trials", perRun: TRIALS },
    { ...trial, name: `data packets of ${about}`, unit: "packets", perRun: packets },
  ];
}

export async function emulationCases() {
  return [...nativeCases(), ...(await trialCases())];
}
