import { Config } from "./context.js";
import { Outgoing } from "./event.js";
import * as metrics from "./host/metrics.js";
import * as publisher from "./host/publisher.js";
import * as secrets from "./host/secrets.js";
import * as state from "./host/state.js";

export { Component } from "./built.js";

/** The second argument of a handler, for a test without Wasm. */
export function testContext(values = {}) {
  const config = new Map(Object.entries(values.config ?? {}));
  return Object.freeze({
    config: new Config({ get: (key) => config.get(key), all: () => config }),
    pluginName: values.pluginName ?? "test",
    pluginVersion: values.pluginVersion ?? "0.0.0",
    connection: values.connection ?? "test",
    remainingMs: () => values.remainingMs ?? 10_000,
  });
}

/** Empties the state, takes away the secrets, and forgets what was published and counted. */
export function reset() {
  state.entries.clear();
  secrets.secrets.clear();
  metrics.counters.clear();
  metrics.histograms.clear();
  publisher.events.length = 0;
  publisher.next.error = undefined;
}

/** Replaces all secrets. */
export function setSecrets(values) {
  secrets.secrets.clear();
  for (const [name, value] of Object.entries(values)) {
    secrets.secrets.set(name, typeof value === "string" ? new TextEncoder().encode(value) : value);
  }
}

/** What was published, in order. */
export function published() {
  return publisher.events.map(
    (event) => new Outgoing(event.topic, { ...event, headers: event.headers.map((h) => [h.name, h.value]) }),
  );
}

/** Has the next `publish` fail. */
export function failPublish(kind, value) {
  publisher.next.error = { tag: kind, val: value };
}

/** What was added to a counter. */
export function counted(name, labels = {}) {
  return Number(metrics.counters.get(metrics.series(name, Object.entries(labels))) ?? 0n);
}

/** What was added to a histogram, in order. */
export function observed(name, labels = {}) {
  return metrics.histograms.get(metrics.series(name, Object.entries(labels))) ?? [];
}
