/** Names with values: an object, a Map, or pairs where a name repeats. */
export type Pairs<V> = Readonly<Record<string, V>> | Iterable<readonly [string, V]>;

/** Text is sent as UTF-8. */
export type Bytes = string | Uint8Array;

/** A broker header. Names may repeat; the value is raw bytes. */
export interface Header {
  readonly name: string;
  readonly value: Uint8Array;
}

/** A payload in one of its forms; without any it is a tombstone (a delete marker). */
export interface Payload {
  payload?: Uint8Array;
  text?: string;
  /** Written as JSON, without spaces. */
  json?: unknown;
}

/** For an event in a test: what is left out is empty, 0, and the first attempt. */
export interface EventFields extends Payload {
  key?: Bytes;
  headers?: Pairs<Bytes>;
  attributes?: Pairs<string>;
  partition?: number;
  position?: number | bigint;
  timestampMs?: number;
  attempt?: number;
}

/** One event as it was delivered. In a test make one with `new Event(topic, { json: ... })`. */
export class Event {
  constructor(topic: string, fields?: EventFields);
  /** Topic, subject, queue or stream. */
  readonly topic: string;
  /** Partition or shard; 0 where the broker has none. */
  readonly partition: number;
  /** Offset or stream sequence within the partition; 0 where the broker has none. */
  readonly position: bigint;
  /** Partitioning or routing key. */
  readonly key: Uint8Array | undefined;
  /** The key as text, where there is one and it is UTF-8. */
  readonly keyText: string | undefined;
  /** `undefined` is a tombstone (a delete marker); an empty payload has length 0. */
  readonly payload: Uint8Array | undefined;
  /** Headers in the broker's order. */
  readonly headers: readonly Header[];
  /** Broker timestamp, milliseconds since the Unix epoch. */
  readonly timestampMs: number;
  /** The broker's timestamp. */
  readonly timestamp: Date;
  /** 1 on first delivery, +1 on each retry of this event to this plugin. */
  readonly attempt: number;
  /** CloudEvents context attributes by bare name (`id`, `type`, ...) and host extras under `sandbar-*`. */
  readonly attributes: ReadonlyMap<string, string>;
  /**
   * Identity that is stable across redeliveries and replays, fit for an idempotency key: the CloudEvents
   * `source#id` or `id` where the producer gave them, `topic/partition/position` otherwise.
   */
  readonly id: string;
  /** Media type: the attribute `datacontenttype`, else the header `content-type` in any letter case. */
  readonly contentType: string | undefined;
  /** The payload's bytes. Rejects a tombstone with code `no-payload`. */
  bytes(): Uint8Array;
  /** The payload as text. Rejects also what is no UTF-8, with code `invalid-utf8`. */
  text(): string;
  /**
   * The payload read as JSON, and what `read` makes of it. Rejects what is no JSON, or what `read` refuses with a
   * `TypeError`, with code `invalid-json`. `T` without `read` is taken on trust.
   */
  json<T = any>(read?: (value: any) => T): T;
  /** Value of the first header called `name`; letter case counts. */
  header(name: string): Uint8Array | undefined;
  /** As `header`, as text; `undefined` also where it is no UTF-8. */
  headerText(name: string): string | undefined;
  /** The CloudEvents attribute or host extra called `name`. */
  attribute(name: string): string | undefined;
}

export interface OutgoingFields extends Payload {
  /** Partitioning or routing key. */
  key?: Bytes;
  /** Written as given. */
  headers?: Pairs<Bytes>;
  /** CloudEvents attributes by bare name; the host writes them as the broker spells them. */
  attributes?: Pairs<string>;
  /** Name of a configured connection, instead of the plugin's default output. */
  connection?: string;
}

/** An event to be published; the topic must be one that the plugin may publish to. */
export class Outgoing {
  constructor(topic: string, fields?: OutgoingFields);
  topic: string;
  connection: string | undefined;
  key: Uint8Array | undefined;
  payload: Uint8Array | undefined;
  headers: Header[];
  attributes: Map<string, string>;
  /** The key as text, where there is one and it is UTF-8: for tests. */
  readonly keyText: string | undefined;
  /** The payload as text, where there is one and it is UTF-8: for tests. */
  readonly payloadText: string | undefined;
}

/** Why an event was not processed: throw one of the four. Anything else that is thrown ends the instance. */
export abstract class Failure extends Error {}

/** A transient failure: deliver again. Uses up one attempt, then goes to the dead-letter queue. */
export class Retry extends Failure {
  /** `after` (milliseconds) overrides the retry policy's next delay; the host clamps it to the longest one. */
  constructor(reason: string, options?: ErrorOptions & { after?: number });
  readonly after: number | undefined;
}

/** A permanent failure: straight to the dead-letter queue. */
export class Reject extends Failure {
  /** `code` is for machines and stays the same; dead letters are grouped by it. */
  constructor(code: string, message: string, options?: ErrorOptions);
  readonly code: string;
}

/** Not for this plugin: acknowledge, count as skipped. */
export class Skip extends Failure {
  constructor(reason: string, options?: ErrorOptions);
}

/** A dependency is down: pause the plugin, then deliver again without using up an attempt. */
export class Defer extends Failure {
  /** `pause` in milliseconds. */
  constructor(pause: number, options?: ErrorOptions);
  readonly pause: number;
}

/** A configuration value that cannot be used. Worth a retry: the operator may mend it meanwhile. */
export class ConfigError extends Retry {}

/** A mistake in what was given to `defineHandler`: found by the build. */
export class DefinitionError extends TypeError {}

/** The plugin's configuration: the `config` table of `NAME.toml` or `[plugin.NAME]`. */
export interface Config {
  /** The value of `key`, where it is set. */
  get(key: string): string | undefined;
  /** The value of `key`; `ConfigError` where it is not set. */
  require(key: string): string;
  /** The value of `key` as a number, where it is set; `ConfigError` where it is none. */
  number(key: string): number | undefined;
  /** All keys and values. */
  all(): Map<string, string>;
}

/** Facts about the plugin and the call in progress. */
export interface Context {
  readonly config: Config;
  /** The name under which the plugin runs: the file name without `.wasm`. */
  readonly pluginName: string;
  /** The version that the plugin states of itself. */
  readonly pluginVersion: string;
  /** Name of the configured connection that the events come from. */
  readonly connection: string;
  /** Milliseconds until the host interrupts this call. */
  remainingMs(): number;
}

type MaybePromise<T> = T | Promise<T>;

/** What a handler may return: published before the event is acknowledged. */
export type Outputs = Outgoing | Iterable<Outgoing> | undefined | void;

/** `"200ms"`, `"30s"`, `"1h 30m"`. */
export type Duration = string;

/** What a plugin suggests; the operator's configuration wins. */
export interface Settings {
  /** What it subscribes to, exact or with `*`. */
  topics: readonly string[];
  /** What it may publish to; the operator can narrow it. */
  publishes?: readonly string[];
  /** The configured connection; without it the default one. */
  connection?: string;
  ordering?: "key" | "partition" | "none";
  delivery?: "at-least-once" | "exactly-once";
  /** Attempts that run at once. */
  concurrency?: number;
  /** Unfinished events per partition. */
  maxInFlight?: number;
  /** Where a new subscription begins. */
  start?: "earliest" | "latest";
  retry?: {
    maxAttempts?: number;
    initialDelay?: Duration;
    maxDelay?: Duration;
    multiplier?: number;
    /** Between 0 and 1. */
    jitter?: number;
    maxAge?: Duration;
    through?: "memory" | "topics";
  };
  deadLetter?: {
    topic?: string;
    dialect?: "none" | "spring" | "connect" | "streams";
    onExhausted?: "dead-letter" | "halt" | "drop";
    onDeadLetter?: "continue" | "halt-key";
  };
  /** How long handled events are recognised and passed over. */
  dedup?: { window: Duration };
  /** When to pause because nothing works. */
  breaker?: { failures?: number; pause?: Duration; maxPause?: Duration };
  /** JSON Schema of the configuration. */
  configSchema?: object;
  /** Instead of what package.json says. */
  name?: string;
  version?: string;
  description?: string;
  /** Called on each new instance before its first event. What it throws keeps the previous version running. */
  init?(ctx: Context): MaybePromise<void>;
}

/** A plugin that handles events one by one. */
export interface Handler<R = MaybePromise<Outputs>> extends Settings {
  handle(event: Event, ctx: Context): R;
}

/** A plugin that gains from many events at a time: one outcome per event, in order. */
export interface BatchHandler<R = MaybePromise<readonly (Outputs | Failure)[]>> extends Settings {
  handleBatch(events: readonly Event[], ctx: Context): R;
}

/** Makes a plugin: what it subscribes to, and what it does with an event. */
export function defineHandler<R extends MaybePromise<Outputs>>(definition: Handler<R>): Readonly<Handler<R>>;
export function defineHandler<R extends MaybePromise<readonly (Outputs | Failure)[]>>(
  definition: BatchHandler<R>,
): Readonly<BatchHandler<R>>;

export type StateErrorKind = "conflict" | "quota-exceeded" | "unavailable" | "other";
export type PublishErrorKind = "denied" | "too-large" | "timeout" | "unavailable" | "other";

/**
 * Durable key-value state private to the plugin; the operator grants `state`. A call sees its own writes at once. They
 * become visible to others, and durable, when the event is acknowledged, and vanish when the attempt fails.
 */
export namespace state {
  /** A value, and its version for `compareAndSet`. */
  export interface Entry {
    readonly value: Uint8Array;
    readonly version: bigint;
  }
  /** `ttl` in milliseconds; without it for good. */
  export interface Options {
    ttl?: number;
  }
  /** The store cannot do it now, or not at all. Not caught, it means another attempt, from clean state. */
  export class StateError extends Retry {
    readonly kind: StateErrorKind;
  }
  /** The value of `key`, if there is one. */
  export function get(key: string): Uint8Array | undefined;
  /** As `get`, as text. */
  export function getText(key: string): string | undefined;
  /** As `get`, read as JSON. */
  export function getJson<T = any>(key: string): T | undefined;
  /** The value of `key` and its version, if there is one. */
  export function entry(key: string): Entry | undefined;
  export function set(key: string, value: Bytes, options?: Options): void;
  export function setJson(key: string, value: unknown, options?: Options): void;
  /** Sets `key` if it still is as `expected` says, or still is not there for `undefined`; else `conflict`. */
  export function compareAndSet(key: string, value: Bytes, expected: Entry | undefined, options?: Options): void;
  /** Adds to a counter, 0 where there is none, and returns the sum as this call sees it. */
  export function increment(key: string, by?: number): number;
  function remove(key: string): void;
  export { remove as delete };
  /** All keys with the prefix, in byte order. */
  export function keys(prefix?: string): Generator<string, void>;
}

/** Publish now, whatever the outcome of the call; the operator grants `publisher`. Prefer returning events. */
export namespace publisher {
  /** Some of the events may not be published. Not caught, it means another attempt. */
  class PublishError extends Retry {
    readonly kind: PublishErrorKind;
  }
  /** Returns once the broker has confirmed every event. */
  function publish(...events: Outgoing[]): void;
}

/** Secrets that the operator granted to this plugin: the table `secrets` of `NAME.toml`. */
export namespace secrets {
  /** A secret that cannot be used. Worth a retry: the operator may grant it meanwhile. */
  class SecretError extends Retry {}
  /** The secret of that name, where it was granted. */
  function get(name: string): Uint8Array | undefined;
  /** The secret of that name as text; `SecretError` where it was not granted. */
  function require(name: string): string;
}

/**
 * Counters and histograms of the plugin's own, exported as `sandbar_plugin_user_NAME`; the operator grants `metrics`.
 * What is counted is counted at once, also in an attempt that fails later.
 */
export namespace metrics {
  /** Few values, not ids: what goes beyond the runtime's bounds is dropped and counted. */
  type Labels = Readonly<Record<string, string | number | boolean>>;
  /** Adds to a counter. */
  function count(name: string, delta?: number, labels?: Labels): void;
  /** Adds an observation to a histogram. */
  function observe(name: string, value: number, labels?: Labels): void;
}
