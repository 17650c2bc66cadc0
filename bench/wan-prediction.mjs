// What a wide-area path is expected to do to a message: the packet emulator's answer, and the code that the analytic
// model finds fastest. Nothing here is measured; wan.mjs measures.
import {
  Context,
  EmulatedWorld,
  MemoryRegion,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../dist/sdk/index.js";

const BLOCK_CHUNKS_MAX = 256; // k + m over GF(2^8)
/** What a fallback adds, in round trips: 1 + beta, the policy's default patience before the NACK. */
const FALLBACK_RTTS = 1.25;
/** Virtual time between two messages of a world, so that nothing of the first is under way in the second. */
const PAUSE_NS = 1e9;

/**
 * The k and m with the least expected completion time of a message of so many `chunks` when each chunk, parity too, is
 * lost with probability `loss`: (M + L m) T_inj + RTT + P_fallback (FALLBACK_RTTS RTT), L = ceil(M / k) blocks,
 * P_fallback = 1 - P_ok^L, P_ok = P(at most m of k + m are lost) (SDR-RDMA, arXiv 2505.05366, section 4.2).
 */
export function fastestCode({ chunks, chunkNs, rttNs, loss }) {
  let best;
  for (let k = 1; k < BLOCK_CHUNKS_MAX; k++) {
    const blocks = Math.ceil(chunks / k);
    for (let m = 1; m <= k && k + m <= BLOCK_CHUNKS_MAX; m++) {
      const fallback = 1 - atMost(m, k + m, loss) ** blocks;
      const meanNs = (chunks + blocks * m) * chunkNs + rttNs + fallback * FALLBACK_RTTS * rttNs;
      if (best === undefined || meanNs < best.meanNs) best = { k, m, fallback, meanNs };
    }
  }
  return best;
}

/** P(at most `m` of `n` independent events of probability `p` happen). */
function atMost(m, n, p) {
  let term = (1 - p) ** n;
  let total = term;
  for (let i = 1; i <= m; i++) {
    term *= ((n - i + 1) / i) * (p / (1 - p));
    total += term;
  }
  return Math.min(1, total);
}

/**
 * Completion times of `messages` messages in a row over each of `worlds` connections, as the emulator has them: every
 * world has its own losses, and its first message, which learns the round-trip time, is left out.
 */
export async function predict({ link, attributes, bytes, policy, worlds, messages }) {
  const completionsNs = [];
  for (let seed = 1; seed <= worlds; seed++) {
    const world = new EmulatedWorld({ seed });
    const from = Context.emulated(world, link);
    const to = Context.emulated(world, link);
    try {
      const sender = from.createQueuePair(attributes);
      const receiver = to.createQueuePair(attributes);
      const connected = [sender.connect(receiver.info()), receiver.connect(sender.info())];
      await world.run(Promise.all(connected));
      for (let message = 0; message <= messages; message++) {
        const report = await deliver(world, { sender, receiver, bytes, policy });
        if (message > 0) completionsNs.push(report.completionNs);
      }
    } finally {
      from.close();
      to.close();
      world.close();
    }
  }
  return completionsNs;
}

async function deliver(world, { sender, receiver, bytes, policy }) {
  const before = receiver.counters();
  const scheme = parsePolicy(policy);
  const [got, sent] = await world.run(
    Promise.all([
      reliableReceive(receiver, MemoryRegion.phantom(bytes), scheme),
      reliableWrite(sender, MemoryRegion.phantom(bytes), scheme),
    ]),
  );
  await world.advance(PAUSE_NS);
  // The engine's own count: each data chunk was completed once, by packets or from parity, whose chunks count too.
  const now = receiver.counters();
  const completed = now.chunks + now.messages - before.chunks - before.messages;
  const parity = completed + got.chunksRecovered - sent.chunks;
  if (got.bytes !== bytes || parity < got.parityUsed || parity > sent.parityChunks)
    throw new Error(`emulated ${policy}: ${completed} chunks completed of ${sent.chunks}`);
  return sent;
}
