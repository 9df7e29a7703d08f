// What the host offers, for tests without Wasm; the build puts the real import in its place.

/** Name and labels to a sum, and to a list. */
export const counters = new Map();
export const histograms = new Map();

export const series = (name, labels) => JSON.stringify([name, ...[...labels].sort()]);

export function count(name, delta, labels) {
  const key = series(name, labels);
  counters.set(key, (counters.get(key) ?? 0n) + delta);
}

export function observe(name, value, labels) {
  const key = series(name, labels);
  histograms.set(key, [...(histograms.get(key) ?? []), value]);
}
