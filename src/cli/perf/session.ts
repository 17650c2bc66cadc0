/** One run between two ends that are connected: what each of them does, whichever of them is the client. */
import { SdrError } from "../../base/errors.ts";
import type { Context } from "../../sdk/context.ts";
import type { QueuePair } from "../../sdk/queue-pair.ts";
import type { Clock } from "./clock.ts";
import type { Control } from "./control.ts";
import { Pattern } from "./pattern.ts";
import { decodeResult, decodeSent, type ReceiveReport, type SendReport } from "./protocol.ts";
import { ReceiveStream } from "./receive.ts";
import { sendStream } from "./send.ts";
import type { RunShape } from "./shape.ts";

export interface Session {
  readonly context: Context;
  readonly control: Control;
  readonly qps: readonly QueuePair[];
  readonly shape: RunShape;
  readonly clock: Clock;
}

/** One direction of a run. */
export interface Direction {
  readonly from: "client" | "server";
  readonly sent: SendReport;
  readonly received: ReceiveReport;
}

/** What the run came to, known to both ends; its connections are still open. Errors: those of the queue pairs. */
export async function runSession(
  session: Session,
  role: "client" | "server",
): Promise<readonly Direction[]> {
  const { control, shape } = session;
  const peer = role === "client" ? "server" : "client";
  const sends = role === "client" || shape.both;
  const receives = role === "server" || shape.both;
  const options = { ...session, pattern: new Pattern(shape.bytes) };
  const stream = receives ? new ReceiveStream(options) : undefined;
  try {
    if (role === "client") await Promise.all([control.send("go"), control.expect("ready")]);
    else await Promise.all([control.expect("go"), control.send("ready")]);
    const sending = async (): Promise<Direction> => {
      const sent = await sendStream(options);
      await control.send("sent", sent);
      return { from: role, sent, received: decodeResult(await control.expect("result")) };
    };
    const receiving = async (from: ReceiveStream): Promise<Direction> => {
      const told = await Promise.race([control.expect("sent"), from.failure]);
      const sent = decodeSent(told, session.qps.length);
      const received = await from.finish(sent.counts);
      await control.send("result", received);
      return { from: peer, sent, received };
    };
    const work = [
      ...(sends ? [sending()] : []),
      ...(stream === undefined ? [] : [receiving(stream)]),
    ];
    const directions = await Promise.all(work);
    return role === "client" ? directions : directions.reverse();
  } finally {
    stream?.stop();
  }
}

/** Ends a run's connections in good order. */
export async function closeSession({ control, qps, context }: Omit<Session, "clock" | "shape">) {
  await Promise.all([control.qp, ...qps].map((qp) => qp.close()));
  context.close();
}

/** A peer that closes while the run is on has failed: its own message says why. */
export function explain(error: unknown): unknown {
  if (!(error instanceof SdrError) || error.code !== "PEER_CLOSED") return error;
  return new SdrError(error.code, error.message, "see the other end's message", { cause: error });
}
