/** Fixtures in real time: two contexts of this process, bounded waits. */
import type { Context } from "../../src/sdk/index.ts";
import type { Fixture } from "./fixture.ts";

/** A hang ends here; nothing is measured by it. */
const WAIT_MS_MAX = 60_000;

export async function withDeadline<T>(
  what: string,
  work: Promise<T>,
  ms = WAIT_MS_MAX,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

export interface Pace {
  /** Between two looks at a condition. Default: a turn of the event loop, where the transport's events come in. */
  pause(): Promise<void>;
  /** After each wait, before anybody looks at what has happened. */
  settle(): void;
}
const AT_ONCE: Pace = {
  pause: () => new Promise((resolve) => setImmediate(resolve)),
  settle() {},
};

export function realTime(a: Context, b: Context, pace = AT_ONCE): Fixture {
  const poll = async (condition: () => boolean, stopped: () => boolean) => {
    while (!condition() && !stopped()) await pace.pause();
  };
  return {
    a,
    b,
    async run(work) {
      try {
        return await withDeadline("the promise to settle", work);
      } finally {
        pace.settle();
      }
    },
    async until(what, condition) {
      let stopped = false;
      try {
        await withDeadline(
          what,
          poll(condition, () => stopped),
        );
      } finally {
        stopped = true;
        pace.settle();
      }
    },
    close() {
      a.close();
      b.close();
    },
  };
}
