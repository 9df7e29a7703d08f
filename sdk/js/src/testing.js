import { Config } from "./context.js";

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
