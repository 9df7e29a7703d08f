import type { Context } from "./index.js";

/** The second argument of a handler, for a test without Wasm. */
export function testContext(values?: {
  config?: Readonly<Record<string, string>>;
  pluginName?: string;
  pluginVersion?: string;
  connection?: string;
  remainingMs?: number;
}): Context;
