/** A handful of the swarm's seeds on real sockets: the same scenarios, on real clocks, so never the same run twice. */
import { expect, test } from "vitest";
import { Context, parseLink } from "../../src/sdk/index.ts";
import { describeScenario, drawScenario, type Scenario } from "./scenario.ts";
import { runScenario, type Stage } from "./swarm.ts";

const FROM = 1;
const COUNT = Number(process.env.SDR_SWARM_COUNT ?? 10);
const HEAL_NS_MAX = 250e6;
const PACKET_BYTES_MIN = 512;

function udpStage({ seed, links }: Scenario): Stage {
  const channels = 1 + (seed % 3);
  const [a, b] = links.map((link, i) =>
    Context.udp({ link: parseLink(link), seed: seed + i, channels }),
  ) as [Context, Context];
  return {
    contexts: [a, b],
    nowNs: () => a.nowNs(),
    async advance(durationNs, stop) {
      const untilNs = a.nowNs() + durationNs;
      while (a.nowNs() < untilNs && !stop()) await new Promise((resolve) => setImmediate(resolve));
    },
    setLink(_way, link, qp) {
      if (qp.isConnected) qp.setLink(link);
    },
    close() {
      a.close();
      b.close();
    },
  };
}

/** The seed's scenario within what real time and UDP allow. */
function onSockets(seed: number): Scenario {
  const drawn = drawScenario(seed);
  const healNs = Math.min(drawn.healNs, HEAL_NS_MAX);
  const packetBytes = Math.max(drawn.packetBytes, PACKET_BYTES_MIN);
  const scale = healNs / drawn.healNs;
  const changes = drawn.changes.map((change) => ({ ...change, atNs: change.atNs * scale }));
  return { ...drawn, healNs, packetBytes, changes };
}

test.each(Array.from({ length: COUNT }, (_, i) => FROM + i))(
  "seed %i on UDP harms no byte and ends",
  async (seed) => {
    const scenario = onSockets(seed);
    try {
      const outcome = await runScenario(scenario, udpStage);
      expect(outcome.messages).toBe(scenario.messages.flat().length);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error}\n${describeScenario(scenario)}`, { cause: error });
    }
  },
);
