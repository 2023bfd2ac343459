/** Rates from counters that only grow. */

const MINUTE_MS = 60_000;

/** How much a counter grew in the last minute, from samples `{at, value}` in order of time. */
export function perMinute(samples, now) {
  const last = samples.at(-1);
  if (!last) return 0;
  const since = samples.findLast((sample) => sample.at <= now - MINUTE_MS) || samples[0];
  return Math.max(0, last.value - since.value);
}
