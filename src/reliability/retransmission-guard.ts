/** The sender's retransmission timeout: when what was injected and not acknowledged counts as lost. */
import type { SessionParams } from "./policy.ts";

/** RTO = RTT + alpha RTT; the paper's default (section 4.1) is 3 RTT. */
export const ALPHA_DEFAULT = 2;
/** Below this the receiver's ACKs would be too frequent; above it a repair would take minutes. */
export const ALPHA_MIN = 0.1;
export const ALPHA_MAX = 100;
/** Timeouts in a row, with nothing heard between them, before the RTO begins to double; and how often it does. */
export const SILENT_ROUNDS = 8;
export const SILENT_DOUBLINGS_MAX = 6;

/**
 * RTO = (1 + alpha) RTT, never below the floor, and not backed off: loss here is random, not congestion, and
 * waiting longer helps nobody while ACKs flow. Only a path that has gone silent is asked ever more rarely.
 */
export class RetransmissionGuard {
  private readonly params: SessionParams;
  private readonly alpha: number;
  private rounds = 0;
  private roundNs = -Infinity;

  constructor(params: SessionParams, alpha: number) {
    this.params = params;
    this.alpha = alpha;
  }

  /** Age at which an injected chunk counts as lost. */
  get rtoNs(): number {
    const { path, rtoFloorNs } = this.params;
    const doublings = Math.min(Math.max(0, this.rounds - SILENT_ROUNDS), SILENT_DOUBLINGS_MAX);
    return Math.max(1, rtoFloorNs, Math.ceil((1 + this.alpha) * path.rttNs)) * 2 ** doublings;
  }

  handleHeard(): void {
    this.rounds = 0;
  }

  /** Something timed out at `nowNs`; counts one round an RTO however many chunks did. */
  handleExpired(nowNs: number): void {
    if (nowNs < this.roundNs + this.rtoNs) return;
    this.roundNs = nowNs;
    this.rounds++;
  }
}
