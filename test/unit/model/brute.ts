/** The model's sums done the slow way, term by term: what its closed forms are held against. */

/** ln F(t) of max over i of X_i, chunk i's y-th send done at firstNs[i] + delaysNs[y - 1]. */
export function bruteCdf(
  firstNs: readonly number[],
  delaysNs: readonly number[],
  incomplete: (sends: number, chunk: number) => number,
  ns: number,
): number {
  let product = 1;
  for (const [chunk, injectedNs] of firstNs.entries()) {
    const sends = delaysNs.filter((delayNs) => injectedNs + delayNs <= ns + 1e-6).length;
    product *= sends === 0 ? 0 : 1 - incomplete(sends, chunk);
  }
  return product;
}

/** Mean of the same: the integral of 1 - F, from jump to jump. */
export function bruteMean(
  firstNs: readonly number[],
  delaysNs: readonly number[],
  incomplete: (sends: number, chunk: number) => number,
): number {
  const times = firstNs.flatMap((at) => delaysNs.map((delayNs) => at + delayNs));
  times.sort((a, b) => a - b);
  let meanNs = times[0] ?? 0;
  for (let i = 0; i + 1 < times.length; i++) {
    const [fromNs, toNs] = [times[i] as number, times[i + 1] as number];
    if (toNs > fromNs)
      meanNs += (toNs - fromNs) * (1 - bruteCdf(firstNs, delaysNs, incomplete, fromNs));
  }
  return meanNs;
}
