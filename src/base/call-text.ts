/** Text of the form "name" or "name(1, key=2)": a name from a list, with numeric options by position or by name. */
import { check, SdrError } from "./errors.ts";

export interface CallShape {
  readonly name: string;
  /** Names of the numeric options, in the order in which they may be given without their names. */
  readonly options: readonly string[];
}

const TEXT_MAX = 200;

/**
 * The entry that `text` names, and the options that it gives. `what` is one of the list, for errors: "policy"; its
 * plural is `plural`. Errors: INVALID_ARGUMENT that names the value and lists what is known.
 */
export function parseCall<Shape extends CallShape>(
  text: string,
  known: readonly Shape[],
  what: { readonly one: string; readonly many: string },
): { readonly entry: Shape; readonly options: Record<string, number> } {
  const names = known.map((entry) => entry.name).join(", ");
  const shape = /^\s*([a-z0-9-]+)\s*(?:\(([^()]*)\))?\s*$/i.exec(text.slice(0, TEXT_MAX));
  const entry = known.find((candidate) => candidate.name === shape?.[1]?.toLowerCase());
  if (entry === undefined || text.length > TEXT_MAX) {
    const shown = JSON.stringify(text.slice(0, TEXT_MAX));
    throw new SdrError(
      "INVALID_ARGUMENT",
      `unknown ${what.one} ${shown}`,
      `known ${what.many}: ${names}`,
    );
  }
  return { entry, options: parseOptions(entry, shape?.[2] ?? "", what.one) };
}

function parseOptions(entry: CallShape, text: string, what: string): Record<string, number> {
  const options: Record<string, number> = {};
  if (text.trim() === "") return options;
  const takes =
    entry.options.length === 0 ? "takes no options" : `takes ${entry.options.join(", ")}`;
  for (const [position, part] of text.split(",").entries()) {
    const equals = part.indexOf("=");
    const key = equals < 0 ? entry.options[position] : part.slice(0, equals).trim();
    const digits = part.slice(equals + 1).trim();
    check(
      key !== undefined && entry.options.includes(key) && !Object.hasOwn(options, key),
      `option ${JSON.stringify(part.trim())} of ${what} ${entry.name} is unknown or given twice`,
      `${entry.name} ${takes}`,
    );
    check(
      /^[0-9]*\.?[0-9]+(e-?[0-9]+)?$/i.test(digits),
      `option ${key} of ${what} ${entry.name} is not a number: ${JSON.stringify(digits)}`,
      `${entry.name} ${takes}`,
    );
    options[key] = Number(digits);
  }
  return options;
}
