// What it costs to plan a message: a new loss each time, so that nothing is remembered.
import assert from "node:assert/strict";
import { hybridShape } from "../dist/model/parity.js";
import { plan } from "../dist/model/planner.js";

const LOSSES = 64; // from 1e-6 to 1e-1
const OBJECTIVE = 0.999;

function settingOf(bytes, chunkLoss, burstPackets) {
  const probability = -Math.expm1(Math.log1p(-chunkLoss) / 16);
  const loss = burstPackets === undefined ? { probability } : { probability, burstPackets };
  const path = { rateBps: 400e9, packetOverheadBytes: 0, rttNs: 25e6, controlLoss: 0 };
  return { bytes, packetBytes: 4096, chunkBytes: 65_536, ...path, loss };
}

/** Goes through the losses, one a run. */
function planCase(name, bytes, burstPackets) {
  const settings = Array.from({ length: LOSSES }, (_, i) =>
    settingOf(bytes, 10 ** (-6 + (5 * i) / (LOSSES - 1)), burstPackets),
  );
  let next = 0;
  let last;
  const run = () => {
    last = plan({ setting: settings[next++ % LOSSES], objective: OBJECTIVE });
  };
  const verify = () => {
    assert.ok(last.best.valueNs > last.idealNs * (1 - 1e-9));
    assert.ok(last.best.overBound < 0.2 || burstPackets !== undefined);
    assert.equal(last.runnersUp.length, 4);
  };
  return { group: "planner", name, unit: "plans", perRun: 1, run, verify };
}

function shapeCase() {
  const views = Array.from({ length: LOSSES }, (_, i) => {
    const probability = 10 ** (-6 + (5 * i) / (LOSSES - 1));
    return { probability, upper: probability, burstChunks: 1, rttNs: 25e6, chunkNs: 1310.72 };
  });
  let next = 0;
  let shape;
  const run = () => {
    shape = hybridShape(16_384, views[next++ % LOSSES], 5e-4);
  };
  const verify = () => assert.ok(shape.k + shape.rows <= 256 && shape.parity <= shape.rows);
  return {
    group: "planner",
    name: "hybrid's shape, 1 GiB",
    unit: "shapes",
    perRun: 1,
    run,
    verify,
  };
}

export function plannerCases() {
  return [
    planCase("128 MiB, all schemes", 2 ** 27),
    planCase("8 GiB, all schemes", 2 ** 33),
    planCase("128 MiB, all schemes, bursts", 2 ** 27, 16),
    shapeCase(),
  ];
}
