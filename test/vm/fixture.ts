/** Two contexts at two agents as a compliance fixture: real time, bounded waits, and memory brought over after each. */
import type { Context, QueuePairAttributes } from "../../src/sdk/index.ts";
import type { FixtureMaker, FixtureOptions } from "../compliance/fixture.ts";
import { realTime } from "../compliance/real-time.ts";
import { type Guest, serveRemotely } from "./remote.ts";

const LOOK_MS = 1;
/** Each takes a dozen requests. 16 of them use every generation of every slot. */
const MESSAGES_MAX = 100;

let place: Guest | undefined;

/** Makes something whose context is to live at `guest`. */
export function at<T>(guest: Guest, make: () => T): T {
  place = guest;
  try {
    return make();
  } finally {
    place = undefined;
  }
}

/** Once a process. */
export function beginServing(): void {
  serveRemotely(() => {
    if (place === undefined) throw new Error("a context of no guest");
    return place;
  });
}

export interface RemoteVariant {
  readonly name: string;
  readonly guests: readonly [Guest, Guest];
  readonly attributes: QueuePairAttributes;
  /** The context of guest 0 or 1 that sends over `link`. */
  open(end: 0 | 1, link: FixtureOptions["forward"], seed: number): Context;
}

/** Leaves the processors to the agents. */
const pause = () => new Promise<void>((resolve) => setTimeout(resolve, LOOK_MS));

export function remoteMaker(variant: RemoteVariant): FixtureMaker {
  const { guests } = variant;
  const open = (end: 0 | 1, link: FixtureOptions["forward"], seed: number) =>
    at(guests[end], () => variant.open(end, link, seed));
  const settle = () => {
    for (const guest of guests) guest.mirror.sync();
  };
  const probe = open(0, {}, 1);
  const { capabilities } = probe;
  probe.close();
  return {
    name: variant.name,
    capabilities,
    messagesMax: MESSAGES_MAX,
    attributes: {
      maxMessageBytes: 4 << 20,
      maxMessages: 8,
      ...variant.attributes,
    },
    make(options: FixtureOptions) {
      const a = open(0, options.forward, options.seed);
      const b = open(1, options.backward, options.seed + 1);
      return {
        ...realTime(a, b, { pause, settle }),
        unknownDatagrams: () =>
          (b.transport as { unknownDatagrams?(): number }).unknownDatagrams?.() ?? 0,
      };
    },
  };
}
