import type { Context, Outgoing, PublishErrorKind } from "./index.js";

/** The second argument of a handler, for a test without Wasm. */
export function testContext(values?: {
  config?: Readonly<Record<string, string>>;
  pluginName?: string;
  pluginVersion?: string;
  connection?: string;
  remainingMs?: number;
}): Context;

/** Empties the state, takes away the secrets, and forgets what was published and counted. */
export function reset(): void;
/** Replaces all secrets. */
export function setSecrets(values: Readonly<Record<string, string | Uint8Array>>): void;
/** What `publisher` has published, in order. */
export function published(): Outgoing[];
/** Has the next `publish` fail. */
export function failPublish(kind: PublishErrorKind, value?: string): void;
/** What was added to a counter. */
export function counted(name: string, labels?: Readonly<Record<string, string>>): number;
/** What was added to a histogram, in order. */
export function observed(name: string, labels?: Readonly<Record<string, string>>): number[];
