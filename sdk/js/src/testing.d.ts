import type { Context, Event, Outgoing, PublishErrorKind } from "./index.js";

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

/** What a plugin made of one event. */
export interface Result {
  readonly verdict:
    | "ok"
    | "retry"
    | "reject"
    | "skip"
    | "defer"
    | "trap"
    | "limit"
    | "denied"
    | "decode"
    | "host";
  /** Code and message of a failure. */
  readonly code: string | undefined;
  readonly message: string | undefined;
  /** Milliseconds after which the handler wants the event again, where it says so. */
  readonly after: number | undefined;
  /** What it published; nothing where it failed. */
  readonly outputs: readonly Outgoing[];
  /** What it logged. */
  readonly log: readonly { readonly level: string; readonly context: string; readonly message: string }[];
}

/**
 * A plugin that was built, for a test of the very thing that will run: what the production engine makes of an event,
 * without a broker. One process serves all events; its clock stands at the time of the latest one, and random
 * numbers repeat.
 */
export class Component {
  private constructor();
  /** `plugin` is a folder, which is built first, or a `.wasm` file. */
  static start(
    plugin?: string,
    options?: {
      config?: Readonly<Record<string, string>>;
      /** What it may reach; whatever it imports by default. */
      grants?: readonly string[];
      /** Path of the `sandbar` program, instead of `SANDBAR` or the one on the `PATH`. */
      sandbar?: string;
    },
  ): Component;
  /** Gives the plugin one event, after the previous one has been answered. Fails where the plugin does not start. */
  handle(event: Event): Promise<Result>;
  /** Ends the process. */
  close(): Promise<void>;
}
