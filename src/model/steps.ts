/** A completion time that takes one of some values: each with its chance. */
import type { Completion } from "./completion.ts";

export interface Atom {
  readonly ns: number;
  readonly chance: number;
}

/** `atoms` in any order, their chances 1 together but for rounding. At least one. */
export function completionOfAtoms(atoms: readonly Atom[]): Completion {
  const inOrder = atoms.filter(({ chance }) => chance > 0).sort((a, b) => a.ns - b.ns);
  const all = inOrder.reduce((sum, { chance }) => sum + chance, 0);
  let meanNs = 0;
  let sum = 0;
  const sums = inOrder.map(({ ns, chance }) => {
    meanNs += (ns * chance) / all;
    return (sum += chance / all);
  });
  return {
    leastNs: inOrder[0]?.ns ?? 0,
    meanNs,
    cdf(ns: number): number {
      let low = 0;
      let high = inOrder.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if ((inOrder[middle] as Atom).ns <= ns) low = middle + 1;
        else high = middle;
      }
      return low === 0 ? 0 : Math.min(1, sums[low - 1] as number);
    },
  };
}
