/** Fixtures in real time: two contexts of this process, bounded waits. */
import type { Context } from "../../src/sdk/index.ts";
import type { Fixture } from "./fixture.ts";

/** A hang ends here; nothing is measured by it. */
const WAIT_MS_MAX = 60_000;

async function withDeadline<T>(what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`not within ${WAIT_MS_MAX} ms: ${what}`)),
      WAIT_MS_MAX,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Looks again after each turn of the event loop, where the transport's events come in. */
async function poll(condition: () => boolean, stopped: () => boolean): Promise<void> {
  while (!condition() && !stopped()) await new Promise((resolve) => setImmediate(resolve));
}

export function realTime(a: Context, b: Context): Fixture {
  return {
    a,
    b,
    run: (work) => withDeadline("the promise to settle", work),
    async until(what, condition) {
      let stopped = false;
      try {
        await withDeadline(
          what,
          poll(condition, () => stopped),
        );
      } finally {
        stopped = true;
      }
    },
    close() {
      a.close();
      b.close();
    },
  };
}
