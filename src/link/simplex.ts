/** Minimum of a function of a few variables without derivatives: the simplex of Nelder and Mead (1965). */

export interface Minimum {
  readonly point: readonly number[];
  readonly cost: number;
}

/** The first simplex's edges, and the spread of costs at which it is small enough. */
const EDGE = 0.5;
const COST_SPREAD = 1e-7;

/** Calls `cost` about `stepsMax` times at most. `cost` may be Infinity, but not at `start`. */
export function minimize(
  cost: (point: readonly number[]) => number,
  start: readonly number[],
  stepsMax: number,
): Minimum {
  let steps = 0;
  const at = (point: readonly number[]): Minimum => {
    steps++;
    return { point, cost: cost(point) };
  };
  const corners = [
    at(start),
    ...start.map((_, i) => at(start.map((x, j) => x + (i === j ? EDGE : 0)))),
  ];
  const byCost = (a: Minimum, b: Minimum) => a.cost - b.cost;
  while (steps < stepsMax) {
    corners.sort(byCost);
    const best = corners[0]!;
    const worst = corners.pop()!;
    const second = corners[corners.length - 1]!;
    if (Math.abs(worst.cost - best.cost) <= COST_SPREAD) {
      corners.push(worst);
      break;
    }
    const centre = start.map(
      (_, j) => corners.reduce((sum, { point }) => sum + point[j]!, 0) / corners.length,
    );
    /** On the line from the worst corner through the centre of the others: 0 is the centre, 1 the reflection. */
    const along = (way: number) => at(centre.map((x, j) => x + way * (x - worst.point[j]!)));
    const reflected = along(1);
    if (reflected.cost < best.cost) {
      const expanded = along(2);
      corners.push(expanded.cost < reflected.cost ? expanded : reflected);
    } else if (reflected.cost < second.cost) {
      corners.push(reflected);
    } else {
      const contracted = along(reflected.cost < worst.cost ? 0.5 : -0.5);
      if (contracted.cost < Math.min(reflected.cost, worst.cost)) corners.push(contracted);
      else {
        const shrunk = [...corners.slice(1), worst].map(({ point }) =>
          at(point.map((x, j) => (x + best.point[j]!) / 2)),
        );
        corners.splice(1, corners.length - 1, ...shrunk);
      }
    }
  }
  return corners.sort(byCost)[0]!;
}
