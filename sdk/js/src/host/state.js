// What the host offers, for tests without Wasm; the build puts the real import in its place.

/** Key to `{ value, version, until }`. */
export const entries = new Map();
let versions = 0n;

const failed = (tag, val) => Object.assign(new Error(tag), { payload: { tag, val } });
const text = (bytes) => new TextDecoder().decode(bytes);

export function get(key) {
  const entry = entries.get(key);
  if (!entry || (entry.until !== undefined && entry.until <= Date.now())) return undefined;
  return { value: entry.value, version: entry.version };
}

export function set(key, value, ttlMs) {
  const until = ttlMs === undefined ? undefined : Date.now() + Number(ttlMs);
  entries.set(key, { value, version: ++versions, until });
}

export function compareAndSet(key, value, expected, ttlMs) {
  if (get(key)?.version !== expected) throw failed("conflict");
  set(key, value, ttlMs);
}

export function increment(key, delta) {
  const found = get(key);
  const sum = (found ? BigInt(text(found.value)) : 0n) + delta;
  set(key, new TextEncoder().encode(String(sum)), undefined);
  return sum;
}

function remove(key) {
  entries.delete(key);
}
export { remove as delete };

export function listKeys(prefix, cursor, limit) {
  const keys = [...entries.keys()].filter((key) => key.startsWith(prefix) && get(key)).sort();
  return keys.filter((key) => cursor === undefined || key > cursor).slice(0, limit);
}
