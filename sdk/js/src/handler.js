import { Outgoing } from "./event.js";

/** Marks what `defineHandler` returned, whichever copy of this package made it. */
export const HANDLER = Symbol.for("sandbar.handler");

/** A mistake in what was given to `defineHandler`: found by the build, never by an event. */
export class DefinitionError extends TypeError {}

const among = (...names) => ({
  what: names.map((name) => `"${name}"`).join(", "),
  fits: (value) => names.includes(value),
});
const text = { what: "a text that is not empty", fits: (v) => typeof v === "string" && v.trim() !== "" };
const count = { what: "a whole number, at least 1", fits: (v) => Number.isSafeInteger(v) && v >= 1 };
const duration = {
  what: 'a duration such as "200ms" or "1h 30m"',
  fits: (v) => typeof v === "string" && /^(\d+ ?(ms|s|m|h|d|w) ?)+$/.test(v),
};
const factor = { what: "a number, at least 1", fits: (v) => typeof v === "number" && v >= 1 };
const share = { what: "a number between 0 and 1", fits: (v) => typeof v === "number" && v >= 0 && v <= 1 };

/** What becomes an option of the subscription: its name in `NAME.toml` in camel case. */
const OPTIONS = {
  ordering: among("key", "partition", "none"),
  delivery: among("at-least-once", "exactly-once"),
  concurrency: count,
  maxInFlight: count,
  start: among("earliest", "latest"),
};
const GROUPS = {
  retry: {
    maxAttempts: count,
    initialDelay: duration,
    maxDelay: duration,
    multiplier: factor,
    jitter: share,
    maxAge: duration,
    through: among("memory", "topics"),
  },
  deadLetter: {
    topic: text,
    dialect: among("none", "spring", "connect", "streams"),
    onExhausted: among("dead-letter", "halt", "drop"),
    onDeadLetter: among("continue", "halt-key"),
  },
  dedup: { window: duration },
  breaker: { failures: count, pause: duration, maxPause: duration },
};
const OTHERS = [
  "topics", "publishes", "connection", "handle", "handleBatch", "init", "configSchema", "name", "version",
  "description",
];

/** Makes a plugin: what it subscribes to, and what it does with an event. */
export function defineHandler(definition) {
  if (definition === null || typeof definition !== "object") {
    throw new DefinitionError("defineHandler takes an object: { topics: [...], handle(event, ctx) {...} }");
  }
  known(definition, [...OTHERS, ...Object.keys(OPTIONS), ...Object.keys(GROUPS)], "");
  const { handle, handleBatch, init } = definition;
  if ((handle === undefined) === (handleBatch === undefined)) {
    throw new DefinitionError("give either `handle(event, ctx)` or `handleBatch(events, ctx)`");
  }
  for (const [name, value] of Object.entries({ handle, handleBatch, init })) {
    if (value !== undefined && typeof value !== "function") throw wrong(name, value, "a function");
  }
  const topics = names("topics", definition.topics);
  if (topics.length === 0) {
    throw new DefinitionError('`topics` is missing: say what the handler subscribes to, `topics: ["orders"]`');
  }
  for (const name of ["connection", "name", "version", "description"]) {
    if (definition[name] !== undefined) check(name, definition[name], text);
  }
  return Object.freeze({
    ...definition,
    [HANDLER]: true,
    topics,
    publishes: names("publishes", definition.publishes),
    options: options(definition),
  });
}

/** By the names that they have in `NAME.toml`, in the order given. */
function options(definition) {
  const found = [];
  for (const [name, value] of Object.entries(definition)) {
    if (value === undefined) continue;
    if (OPTIONS[name]) {
      check(name, value, OPTIONS[name]);
      found.push([setting(name), String(value)]);
    } else if (GROUPS[name]) {
      if (value === null || typeof value !== "object") throw wrong(name, value, "an object");
      known(value, Object.keys(GROUPS[name]), `${name}.`);
      for (const [part, inner] of Object.entries(value)) {
        check(`${name}.${part}`, inner, GROUPS[name][part]);
        found.push([`${setting(name)}.${setting(part)}`, String(inner)]);
      }
    }
  }
  return found;
}

/** JavaScript spells `maxInFlight` what the configuration spells `max-in-flight`. */
function setting(name) {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function names(field, given = []) {
  if (!Array.isArray(given)) throw wrong(field, given, "a list of topics");
  given.forEach((topic, at) => check(`${field}[${at}]`, topic, text));
  return [...given];
}

function known(object, all, prefix) {
  for (const name of Object.keys(object)) {
    if (!all.includes(name)) {
      throw new DefinitionError(`unknown key \`${prefix}${name}\` (known: ${all.join(", ")})`);
    }
  }
}

function check(name, value, { what, fits }) {
  if (!fits(value)) throw wrong(name, value, what);
}

function wrong(name, value, what) {
  const shown = typeof value === "function" ? "a function" : JSON.stringify(value);
  return new DefinitionError(`\`${name}\` is ${shown}: it must be ${what}`);
}

/** What a handler may return, as a list: nothing, one `Outgoing`, or any number of them. */
export function outputs(returned) {
  if (returned === undefined || returned === null) return [];
  if (returned instanceof Outgoing) return [returned];
  if (typeof returned === "object" && typeof returned[Symbol.iterator] === "function") {
    const list = [...returned];
    if (list.every((one) => one instanceof Outgoing)) return list;
  }
  throw new TypeError("a handler returns an Outgoing, a list of them, or nothing");
}
