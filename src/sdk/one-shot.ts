/** The driver of a one-shot send: every chunk once, in order, then the end. */
import type { SendDriver, SendHandle } from "./send-handle.ts";

export function oneShot(handle: SendHandle): SendDriver {
  let next = 0;
  return {
    ready() {},
    control() {},
    injected() {},
    timeout() {},
    failed() {},
    nextTimeoutNs: () => Number.POSITIVE_INFINITY,
    pollControl: () => undefined,
    pollTransmit(maxChunks) {
      const count = Math.min(maxChunks, handle.chunkCount - next);
      if (count <= 0) return undefined;
      next += count;
      return { first: next - count, count };
    },
    settle() {
      if (handle.state === "open" && next === handle.chunkCount && handle.pending === undefined)
        handle.end();
    },
  };
}
