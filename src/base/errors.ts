/**
 * The one error class of operating failures. Match on `code`, never on the class or the message.
 * Codes are stable; the C ABI uses the same numbers.
 */
export const ERROR_NUMBERS = {
  INVALID_ARGUMENT: 1,
  BUSY: 2,
  TOO_LARGE: 3,
  CLOSED: 4,
  ABORTED: 5,
  DEADLINE_EXCEEDED: 6,
  PEER_UNREACHABLE: 7,
  PEER_INCOMPATIBLE: 8,
  PEER_CLOSED: 9,
  ACCESS_DENIED: 10,
  ADDRESS_IN_USE: 11,
  UNRECOVERABLE_LOSS: 12,
  INTEGRITY: 13,
  FILE: 14,
  NO_SPACE: 15,
  UNSUPPORTED: 16,
  ENVIRONMENT: 17,
  NOT_FOUND: 18,
  DEADLOCK: 19,
} as const;

export type ErrorCode = keyof typeof ERROR_NUMBERS;

/** `message` names the value that was wrong; `remedy` says what to do about it. */
export class SdrError extends Error {
  override readonly name = "SdrError";
  /** What kind of failure: stable. */
  readonly code: ErrorCode;
  /** What to do about it, "" where nothing can be done; also the end of `message`. */
  readonly remedy: string;

  constructor(code: ErrorCode, message: string, remedy: string, options?: ErrorOptions) {
    super(remedy === "" ? message : `${message} (${remedy})`, options);
    this.code = code;
    this.remedy = remedy;
  }

  /** The code's number, the same in C. */
  get number(): number {
    return ERROR_NUMBERS[this.code];
  }
}

/** Of what a peer says went wrong. */
export const ERROR_TEXT_MAX = 500;
/** Control characters and those that turn the writing direction: never from a peer to a terminal. */
const UNPRINTABLE = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

export interface PeerFailure {
  readonly code: ErrorCode;
  readonly text: string;
}

/** An error as a peer is told of it. */
export function describeFailure({ code, message }: SdrError): PeerFailure {
  return { code, text: message.slice(0, ERROR_TEXT_MAX) };
}

/** What a peer says, checked: an unknown code is `otherwise`, the text is short and harmless to print. */
export function readFailure(told: object, otherwise: ErrorCode): PeerFailure {
  const { code, text } = told as { code?: unknown; text?: unknown };
  const known = typeof code === "string" && Object.hasOwn(ERROR_NUMBERS, code);
  const shown = String(text).slice(0, ERROR_TEXT_MAX).replace(UNPRINTABLE, " ");
  return { code: known ? (code as ErrorCode) : otherwise, text: shown };
}

/** Throws INVALID_ARGUMENT unless `condition` holds. */
export function check(condition: boolean, message: string, remedy: string): asserts condition {
  if (!condition) throw new SdrError("INVALID_ARGUMENT", message, remedy);
}

/** Programmer errors: a broken invariant of our own, not of a caller. */
export function assert(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${invariant}`);
}
