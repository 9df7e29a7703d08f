// What the host offers, for tests without Wasm; the build puts the real import in its place.

/** Name to bytes. */
export const secrets = new Map();

export function get(name) {
  return secrets.get(name);
}
