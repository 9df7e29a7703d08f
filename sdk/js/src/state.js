import * as host from "#host/state";

import { bytesOf } from "./event.js";
import { Retry } from "./failure.js";

/** Keys asked for at once. */
const PAGE = 1000;

/** The store cannot do it now, or not at all. Not caught, it means another attempt, from clean state. */
export class StateError extends Retry {
  constructor(kind, reason, options) {
    super(`state: ${reason}`, options);
    this.name = "StateError";
    this.kind = kind;
  }
}

export function get(key) {
  return entry(key)?.value;
}

export function getText(key) {
  const value = get(key);
  return value && new TextDecoder().decode(value);
}

export function getJson(key) {
  const value = getText(key);
  return value === undefined ? undefined : JSON.parse(value);
}

export function entry(key) {
  return asked(() => host.get(key));
}

export function set(key, value, options) {
  asked(() => host.set(key, bytesOf(value), ttl(options)));
}

export function setJson(key, value, options) {
  set(key, JSON.stringify(value), options);
}

export function compareAndSet(key, value, expected, options) {
  asked(() => host.compareAndSet(key, bytesOf(value), expected?.version, ttl(options)));
}

export function increment(key, by = 1) {
  return Number(asked(() => host.increment(key, BigInt(by))));
}

function remove(key) {
  asked(() => host.delete(key));
}
export { remove as delete };

export function* keys(prefix = "") {
  let page;
  for (let cursor; (page = asked(() => host.listKeys(prefix, cursor, PAGE))).length > 0; cursor = page.at(-1)) {
    yield* page;
  }
}

function ttl(options) {
  if (options?.ttl === undefined) return undefined;
  if (!(options.ttl > 0)) throw new RangeError(`ttl is ${options.ttl}: it must be milliseconds, more than 0`);
  return BigInt(Math.ceil(options.ttl));
}

function asked(call) {
  try {
    return call();
  } catch (cause) {
    const said = cause?.payload;
    if (said?.tag === undefined) throw cause;
    const reason = said.tag === "conflict" ? "the key has changed meanwhile" : (said.val ?? said.tag);
    throw new StateError(said.tag, reason, { cause });
  }
}
