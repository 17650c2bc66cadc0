/** Sequence numbers that may be seen again: a sliding window, as in RFC 4303 appendix A. */

export const REPLAY_WINDOW_ENTRIES = 64;
const HALF = 0x8000_0000;

/**
 * Accepts each 32-bit sequence number once and refuses what is older than the window, so that duplicated,
 * replayed and very late frames are dropped. Numbers wrap; the first one seen sets the window's place.
 */
export class ReplayWindow {
  private highest = -1;
  /** Bit i of (recent, older) says that highest - i, highest - 32 - i was seen. */
  private recent = 0;
  private older = 0;

  /** True when `sequence` is new: remember it and take the frame. False: drop it. */
  accept(sequence: number): boolean {
    const value = sequence >>> 0;
    if (this.highest < 0) {
      this.highest = value;
      this.recent = 1;
      return true;
    }
    const ahead = (value - this.highest) >>> 0;
    if (ahead !== 0 && ahead < HALF) {
      this.advance(ahead);
      this.highest = value;
      return true;
    }
    const age = (this.highest - value) >>> 0;
    if (age >= REPLAY_WINDOW_ENTRIES) return false;
    const bit = 1 << (age & 31);
    if (((age < 32 ? this.recent : this.older) & bit) !== 0) return false;
    if (age < 32) this.recent |= bit;
    else this.older |= bit;
    return true;
  }

  private advance(by: number): void {
    if (by >= REPLAY_WINDOW_ENTRIES) {
      this.older = 0;
      this.recent = 0;
    } else if (by >= 32) {
      // A shift count of 32 is one of 0 in JavaScript, so by = 32 is just the move.
      this.older = this.recent << (by - 32);
      this.recent = 0;
    } else {
      this.older = (this.older << by) | (this.recent >>> (32 - by));
      this.recent <<= by;
    }
    this.recent |= 1;
  }
}
