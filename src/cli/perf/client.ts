/** The end of sdr perf that decides what is measured: connects to a server, once for each run. */
import { randomBytes } from "node:crypto";
import { SdrError } from "../../base/errors.ts";
import type { Context } from "../../sdk/context.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import { connect } from "../../sdk/rendezvous.ts";
import type { Connection } from "../../sdk/rendezvous-exchange.ts";
import { openDevice } from "../device.ts";
import { toSdrError } from "../failure.ts";
import type { Endpoint } from "../options.ts";
import type { TransferSettings } from "../transfer/options.ts";
import { realClock } from "./clock.ts";
import { Control } from "./control.ts";
import { CONTROL_MESSAGES, checkServer, encodeOffer, NOTE_BYTES_MAX } from "./protocol.ts";
import { type RunResult, resultOf } from "./result.ts";
import { closeSession, explain, runSession } from "./session.ts";
import { attributesOf, type RunShape } from "./shape.ts";

export interface ClientOptions extends TransferSettings {
  readonly to: Endpoint;
  readonly signal: AbortSignal;
}

/** Of the control queue pair. */
export const CONTROL_ATTRIBUTES = {
  maxMessageBytes: NOTE_BYTES_MAX,
  maxParityBytes: 0,
  maxMessages: CONTROL_MESSAGES,
} as const;

/** Measures one shape after another. Errors: the server's, those of the context and of connect. */
export class Client {
  private readonly options: ClientOptions;
  private readonly client = randomBytes(16).toString("hex");

  constructor(options: ClientOptions) {
    this.options = options;
  }

  async run(shape: RunShape, last: boolean): Promise<RunResult> {
    const { signal } = this.options;
    const open: Connection[] = [];
    const closeAll = () => Promise.all(open.map(({ qp }) => qp.close()));
    const onAbort = () => void closeAll();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const { control, context, qps } = await this.connectAll(shape, last, open);
      const session = { control, context, qps, shape, clock: realClock(context) };
      const directions = await runSession(session, "client");
      const result = resultOf({ shape, context, qps, directions });
      await closeSession(session);
      return result;
    } catch (error) {
      throw signal.aborted ? toSdrError(signal.reason) : explain(error);
    } finally {
      signal.removeEventListener("abort", onAbort);
      await closeAll();
      open[0]?.context.close();
    }
  }

  private async connectAll(shape: RunShape, last: boolean, open: Connection[]) {
    const { to, signal, secret, device, peerTimeoutNs } = this.options;
    const session = randomBytes(16).toString("hex");
    const common = { ...to, signal, ...(secret === undefined ? {} : { secret }) };
    const offer = { kind: "control", session, client: this.client, device: device.kind } as const;
    const first = await connect(
      ({ localAddress, channels }) =>
        openDevice(device, { ...this.options, localAddress, channels }),
      {
        ...common,
        channels: shape.channels,
        attributes: { ...CONTROL_ATTRIBUTES, peerTimeoutNs },
        meta: encodeOffer({ ...offer, shape, last }),
      },
    ).catch((error: unknown) => {
      throw nobodyListens(error, to);
    });
    open.push(first);
    checkServer(first.meta);
    const { context } = first;
    const control = new Control(first.qp);
    const qps: QueuePair[] = [];
    for (let index = 0; index < shape.queuePairs; index++) {
      const connection = await connect(context, {
        ...common,
        attributes: attributesOf(shape, context.capabilities, peerTimeoutNs),
        meta: encodeOffer({ kind: "data", session, index }),
      });
      open.push(connection);
      qps.push(connection.qp);
    }
    return { control, context, qps } satisfies {
      context: Context;
      control: Control;
      qps: QueuePair[];
    };
  }
}

/** What to do when the other end is not there. */
function nobodyListens(error: unknown, { host, port }: Endpoint): unknown {
  const refused = error instanceof SdrError && error.code === "PEER_UNREACHABLE";
  const cause = refused ? (error.cause as NodeJS.ErrnoException | undefined)?.code : undefined;
  if (cause === undefined) return error;
  return new SdrError(
    "PEER_UNREACHABLE",
    `${host} port ${port} cannot be reached: ${cause}`,
    "start sdr perf without a host there first, and check name, port and firewall",
    { cause: error },
  );
}
