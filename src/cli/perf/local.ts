/** Runs whose two ends are in this process: the emulated world, in virtual time, and the DPA's emulation. */
import { check } from "../../base/errors.ts";
import type { LinkProfile } from "../../link/profile.ts";
import type { QueuePairAttributes } from "../../sdk/attributes.ts";
import { Context } from "../../sdk/context.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import { EmulatedWorld } from "../../transport/emulated.ts";
import type { Device } from "../device.ts";
import { CONTROL_ATTRIBUTES } from "./client.ts";
import { type Clock, realClock, VirtualClock } from "./clock.ts";
import { Control } from "./control.ts";
import { type RunResult, resultOf } from "./result.ts";
import { runSession } from "./session.ts";
import { attributesOf, type RunShape } from "./shape.ts";

export interface LocalOptions {
  readonly device: Device;
  readonly link: LinkProfile;
  readonly seed: number | undefined;
  readonly peerTimeoutNs: number;
  readonly signal: AbortSignal;
}

/** Two contexts that reach each other, and how time passes between them. */
interface Ends {
  readonly contexts: readonly [Context, Context];
  readonly clock: Clock;
  wait<T>(work: Promise<T>): Promise<T>;
  close(): void;
}

/** Virtual time needs a link that takes time. Errors: INVALID_ARGUMENT. */
export function checkLocal({ device, link }: Pick<LocalOptions, "device" | "link">): void {
  check(
    device.kind !== "emu" || (link.rateBps ?? 0) > 0,
    "the emulated link has no rate",
    'give one: --link "rate 400gbit delay 12.5ms"',
  );
}

function openEnds({ device, link, seed, signal }: LocalOptions, { channels }: RunShape): Ends {
  if (device.kind === "dpa") {
    const seeded = (end: number) => (seed === undefined ? {} : { seed: seed + end });
    const open = (end: number) => Context.dpa({ workers: channels, link, ...seeded(end) });
    const contexts = [open(0), open(1)] as const;
    return {
      contexts,
      clock: realClock(contexts[0]),
      wait: (work) => work,
      close: () => {
        for (const context of contexts) context.close();
      },
    };
  }
  const world = new EmulatedWorld(seed === undefined ? {} : { seed });
  const clock = new VirtualClock(world);
  const contexts = [Context.emulated(world, link), Context.emulated(world, link)] as const;
  return {
    contexts,
    clock,
    wait: (work) => clock.drive(work, signal),
    close: () => {
      for (const context of contexts) context.close();
      world.close();
    },
  };
}

async function join(
  [here, there]: Ends["contexts"],
  attributes: QueuePairAttributes,
): Promise<[QueuePair, QueuePair]> {
  const a = here.createQueuePair(attributes);
  const b = there.createQueuePair(attributes);
  await Promise.all([a.connect(b.info()), b.connect(a.info())]);
  return [a, b];
}

/** One run. Errors: UNSUPPORTED for a device that this build does not have; those of the queue pairs. */
export async function runLocal(shape: RunShape, options: LocalOptions): Promise<RunResult> {
  const ends = openEnds(options, shape);
  try {
    return await ends.wait(runBoth(ends, shape, options));
  } finally {
    ends.close();
  }
}

async function runBoth(
  { contexts, clock }: Ends,
  shape: RunShape,
  { peerTimeoutNs }: LocalOptions,
): Promise<RunResult> {
  const [here, there] = contexts;
  const controls = await join(contexts, { ...CONTROL_ATTRIBUTES, peerTimeoutNs });
  const pairs: [QueuePair, QueuePair][] = [];
  for (let index = 0; index < shape.queuePairs; index++)
    pairs.push(await join(contexts, attributesOf(shape, here.capabilities, peerTimeoutNs)));
  const session = (side: 0 | 1, context: Context) => ({
    context,
    control: new Control(controls[side]),
    qps: pairs.map((pair) => pair[side]),
    shape,
    clock,
  });
  const client = session(0, here);
  const server = session(1, there);
  const [directions] = await Promise.all([
    runSession(client, "client"),
    runSession(server, "server"),
  ]);
  const result = resultOf({ shape, context: here, qps: client.qps, directions });
  await Promise.all([client, server].map(({ control, qps }) => closeAll([control.qp, ...qps])));
  return result;
}

async function closeAll(qps: readonly QueuePair[]): Promise<void> {
  await Promise.all(qps.map((qp) => qp.close()));
}
