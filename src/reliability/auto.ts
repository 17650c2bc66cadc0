/**
 * The policy that chooses by itself: the hybrid protocol, with the shape that the planner names for each message by
 * what is known of the path: loss with its uncertainty, length of bursts, RTT, rate. Parity 0 is Selective Repeat,
 * parity for all of a short message is Reed-Solomon coding, and what lies between is hybrid; so nothing is renegotiated
 * between messages, and the receiver learns the shape from each message's own PLAN.
 *
 * What is not known is assumed to be bad: the first messages bring more parity, which, as it goes out last, costs
 * bandwidth rather than time.
 */
import { check } from "../base/errors.ts";
import { type PathView, shapeFailure } from "../model/parity.ts";
import { planShape, targetOf } from "../model/planner.ts";
import { type HybridChoice, hybridPolicy } from "./hybrid.ts";
import type { Policy } from "./policy.ts";

const OBJECTIVE_DEFAULT = 0.999;
const OBJECTIVE_MIN = 0.5;
const OBJECTIVE_MAX = 0.999_999;
/** An overhead that no message has. */
const OVERHEAD_MAX = 100;
/** Where less parity is allowed than wanted: beyond it, it saves too few messages to be worth sending. */
const TARGET_MOST = 0.9;

export interface AutoOptions {
  /** The share of messages whose completion time is to be least: 0.5 to 0.999999, default 0.999. */
  readonly objective?: number;
  /** Most expected chunks sent over the message's own, less 1, as far as parity goes. Default: any. */
  readonly overhead?: number;
}

/**
 * Chooses the scheme and its parameters for each message. Errors: INVALID_ARGUMENT for an objective or overhead out of
 * range.
 */
export function auto(options: AutoOptions = {}): Policy {
  const { objective = OBJECTIVE_DEFAULT, overhead = OVERHEAD_MAX } = options;
  check(
    objective >= OBJECTIVE_MIN && objective <= OBJECTIVE_MAX,
    `objective ${objective} is out of range`,
    `the share of messages whose time is to be least: give ${OBJECTIVE_MIN} to ${OBJECTIVE_MAX}`,
  );
  check(
    overhead >= 0 && overhead <= OVERHEAD_MAX,
    `overhead ${overhead} is out of range`,
    `the share of a message that may be sent besides: give 0 to ${OVERHEAD_MAX}, such as 0.1`,
  );
  const isLimited = overhead < OVERHEAD_MAX;
  const overheadMax = isLimited ? overhead : Infinity;
  const target = targetOf(objective);
  const choose = (chunkCount: number, view: PathView): HybridChoice => {
    const planned = planShape(chunkCount, view, objective, overheadMax);
    const failure = shapeFailure(chunkCount, view, planned);
    return {
      ...planned,
      parity: isLimited && failure > TARGET_MOST ? 0 : planned.parity,
      // Less parity than the objective asks for stays as little when the tail is sized again.
      target: Math.min(TARGET_MOST, Math.max(target, failure)),
    };
  };
  const named = [
    ...(objective === OBJECTIVE_DEFAULT ? [] : [`objective=${objective}`]),
    ...(isLimited ? [`overhead=${overhead}`] : []),
  ];
  const name = named.length === 0 ? "auto" : `auto(${named.join(",")})`;
  return hybridPolicy(name, { target, choose });
}
