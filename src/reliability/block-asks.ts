/**
 * When a receiver asks for blocks that cannot be decoded: once nothing that is due still comes in, again when a repair
 * should have come, and ever more rarely while nothing at all comes. Knows nothing of what is asked for.
 */
import type { BlockDecoder } from "./block-decoder.ts";
import type { SessionParams } from "./policy.ts";
import { SILENT_DOUBLINGS_MAX, SILENT_ROUNDS } from "./retransmission-guard.ts";

const NEVER = -Infinity;

export class BlockAsks {
  private readonly params: SessionParams;
  private readonly decoder: BlockDecoder;
  /** When each block was asked for last. */
  private readonly askedNs: Float64Array;
  /** Rounds of asking in a row that brought nothing. */
  private rounds = 0;
  private roundNs = NEVER;

  constructor(params: SessionParams, blockCount: number, decoder: BlockDecoder) {
    this.params = params;
    this.decoder = decoder;
    this.askedNs = new Float64Array(blockCount).fill(NEVER);
  }

  /** From one asking to the next: a repair takes a round trip, and what is then on its way up to `waitNs`. */
  private againNs(waitNs: number): number {
    const doublings = Math.min(Math.max(0, this.rounds - SILENT_ROUNDS), SILENT_DOUBLINGS_MAX);
    return (Math.ceil(this.params.path.rttNs) + waitNs) * 2 ** doublings;
  }

  /**
   * Calls `ask` for each block below `end` that is due; it says whether there was anything to ask for. The decoder is
   * up to date. Returns when to look again, after `nowNs`.
   */
  askDue(end: number, waitNs: number, nowNs: number, ask: (block: number) => boolean): number {
    const { askedNs, decoder } = this;
    if (decoder.newsNs > this.roundNs) this.rounds = 0;
    const againNs = this.againNs(waitNs);
    let asked = false;
    let dueNs = Infinity;
    for (let block = decoder.firstOpen; block < end; block++) {
      if (!decoder.isStuck(block)) continue;
      const beforeNs = askedNs[block] as number;
      // While blocks that are due still come in, those not seen yet may be behind them in a queue.
      const atNs = beforeNs === NEVER ? decoder.newsNs + waitNs : beforeNs + againNs;
      if (atNs > nowNs) dueNs = Math.min(dueNs, atNs);
      else if (ask(block)) {
        if (beforeNs === NEVER) decoder.counters.fallbacks++;
        askedNs[block] = nowNs;
        asked = true;
        dueNs = Math.min(dueNs, nowNs + againNs);
      }
    }
    if (asked) {
      this.rounds++;
      this.roundNs = nowNs;
    }
    return dueNs;
  }
}
