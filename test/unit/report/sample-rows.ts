/** Rows as experiments write them, made up by a small simulation: plausible figures, the same in every run. */
import { Random } from "../../../src/base/random.ts";
import { QUANTILE_LEVELS, type ResultRow } from "../../../src/report/row.ts";

export const SAMPLE_POLICIES = [
  ...["gbn", "sr-rto", "sr-nack", "ec-xor(32,8)", "ec-mds(32,8)", "hybrid", "auto"],
];
const RATE_BPS = 400e9;
const RTT_NS = 25e6;
const CHUNK_BYTES = 65536;
const TRIALS = 400;

/** Rounds of repair until every one of `chunks` has arrived, when `loss` takes each with equal chance. */
function rounds(random: Random, chunks: number, loss: number): number {
  if (loss === 0) return 0;
  const uniform = (random.uint32() + 0.5) / 2 ** 32;
  const worst = Math.log(-Math.expm1(Math.log(uniform) / chunks)) / Math.log(loss);
  return Math.max(0, Math.ceil(worst) - 1);
}

function trial(policy: string, random: Random, chunks: number, loss: number, rtt: number): number {
  const injection = (chunks * CHUNK_BYTES * 8e9) / RATE_BPS;
  const needed = rounds(random, chunks, loss);
  const hidden = Math.min(1, injection / (6 * rtt));
  const wait = (each: number) => injection / (1 - loss) + rtt + needed * each * rtt * (1 - hidden);
  if (policy === "gbn") return wait(1) + chunks * loss * rtt;
  if (policy === "sr-rto") return wait(3);
  if (policy === "sr-nack") return wait(1.02);
  const beyond = policy.startsWith("ec-xor") ? 0.002 : 0.03;
  if (policy.startsWith("ec")) {
    const fallback = loss > beyond && random.uint32() / 2 ** 32 < loss * 8;
    return injection * 1.25 + rtt + (fallback ? needed * 1.5 * rtt * (1 - hidden) : 0);
  }
  const slack = policy === "auto" ? 0.02 : 0.01;
  return (injection / (1 - loss)) * (1 + slack) + rtt * (1 + (random.uint32() / 2 ** 32) * 0.01);
}

export interface Setting {
  readonly experiment?: string;
  readonly policy: string;
  readonly bytes: number;
  readonly loss: number;
  readonly burstPackets?: number;
  readonly rttNs?: number;
  readonly method?: ResultRow["method"];
  readonly datacenters?: number;
  readonly version?: string;
  /** Factor on all times. */
  readonly skew?: number;
}

const TRANSPORT_OF = {
  analytic: "model",
  sampled: "model",
  emulated: "emulated",
  measured: "udp",
} as const;

function overheadOf(policy: string, loss: number): number {
  if (policy.startsWith("ec")) return 0.253 + loss;
  if (policy === "gbn") return 0.003 + loss * 900;
  return policy === "hybrid" || policy === "auto" ? 0.012 + loss * 1.3 : 0.003 + loss;
}

/** One row: TRIALS made-up trials, summed up. */
export function sampleRow(setting: Setting): ResultRow {
  const { experiment = "sample", policy, bytes, loss, datacenters, skew = 1 } = setting;
  const { method = "emulated", burstPackets = 1, rttNs = RTT_NS } = setting;
  const chunks = Math.ceil(bytes / CHUNK_BYTES);
  const random = new Random(7, JSON.stringify(setting));
  const steps = datacenters === undefined ? 1 : 2 * datacenters - 2;
  const times = Array.from({ length: TRIALS }, () => {
    let ns = 0;
    for (let step = 0; step < steps; step++)
      ns += trial(policy, random, chunks, loss, rttNs) * skew;
    return Math.round(ns);
  }).sort((a, b) => a - b);
  const at = (level: number) => times[Math.min(TRIALS - 1, Math.floor(level * TRIALS))]!;
  const mean = times.reduce((sum, ns) => sum + ns, 0) / TRIALS;
  const deviation = Math.sqrt(times.reduce((sum, ns) => sum + (ns - mean) ** 2, 0) / (TRIALS - 1));
  const injection = (chunks * CHUNK_BYTES * 8e9) / RATE_BPS;
  const key = JSON.stringify({ ...setting, seed: 7 });
  const link = `rate 400gbit delay ${rttNs / 2e6}ms loss ${(loss / 16) * 100}%`;
  return {
    ...{ version: setting.version ?? "0.1.0", experiment, key, transport: TRANSPORT_OF[method] },
    ...{ method, exact: method !== "analytic" || bytes < 2 ** 28, policy, link },
    ...{
      reverseLink: "rate 400gbit delay 12.5ms",
      rateBps: RATE_BPS,
      rttNs,
      packetLoss: loss / 16,
    },
    ...{ chunkLoss: loss, burstPackets, bytes, packetBytes: 4096, chunkBytes: CHUNK_BYTES },
    ...{ trials: TRIALS, seed: 7, warmup: policy === "auto" ? 20 : 0 },
    ...(datacenters === undefined ? {} : { collective: "ring" as const, datacenters }),
    idealNs: Math.round(steps * (injection + rttNs)),
    boundNs: Math.round(steps * (injection / (1 - loss) + rttNs)),
    ...{ meanNs: mean, meanCi95Ns: (1.96 * deviation) / Math.sqrt(TRIALS) },
    ...{ p50Ns: at(0.5), p99Ns: at(0.99), p999Ns: at(0.999), minNs: at(0), maxNs: at(1) },
    ...{ quantilesNs: QUANTILE_LEVELS.map(at), wireOverhead: overheadOf(policy, loss), failed: 0 },
  };
}

const SIZES = Array.from({ length: 9 }, (_, i) => 2 ** (17 + 2 * i));
const LOSSES = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1];

function sweep(
  experiment: string,
  sizes: readonly number[],
  losses: readonly number[],
): ResultRow[] {
  return SAMPLE_POLICIES.flatMap((policy) =>
    sizes.flatMap((bytes) => losses.map((loss) => sampleRow({ experiment, policy, bytes, loss }))),
  );
}

/** A grid, bursts, distances, collectives, and a comparison of methods. */
export function sampleRows(): ResultRow[] {
  const policies = SAMPLE_POLICIES;
  const bursts = policies.flatMap((policy) =>
    [1, 4, 16, 64].map((burstPackets) =>
      sampleRow({ experiment: "bursts", policy, bytes: 2 ** 27, loss: 1e-3, burstPackets }),
    ),
  );
  const rings = ["sr-rto", "ec-mds(32,8)", "hybrid"].flatMap((policy) =>
    [4, 8, 16].flatMap((datacenters) =>
      [1e-4, 1e-3, 1e-2].map((loss) =>
        sampleRow({ experiment: "allreduce", policy, bytes: 2 ** 25, loss, datacenters }),
      ),
    ),
  );
  const methods = (["analytic", "emulated", "measured"] as const).flatMap((method, index) =>
    ["sr-rto", "ec-mds(32,8)"].flatMap((policy) =>
      [2 ** 21, 2 ** 27].flatMap((bytes) =>
        [1e-5, 1e-4, 1e-3, 1e-2].map((loss) =>
          sampleRow({
            experiment: "methods",
            policy,
            bytes,
            loss,
            method,
            skew: 1 + index * 0.004,
          }),
        ),
      ),
    ),
  );
  return [...sweep("size-and-loss", SIZES, LOSSES), ...bursts, ...rings, ...methods];
}
