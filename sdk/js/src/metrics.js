import * as host from "#host/metrics";

export function count(name, delta = 1, labels = {}) {
  host.count(name, BigInt(delta), pairs(labels));
}

export function observe(name, value, labels = {}) {
  host.observe(name, value, pairs(labels));
}

function pairs(labels) {
  return Object.entries(labels).map(([name, value]) => [name, String(value)]);
}
