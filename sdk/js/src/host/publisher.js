// What the host offers, for tests without Wasm; the build puts the real import in its place.

/** What was published, as the host gets it. */
export const events = [];
/** The error of the next call, if there is to be one: a case of `publish-error`. */
export const next = { error: undefined };

export function publish(more) {
  const { error } = next;
  next.error = undefined;
  if (error) throw Object.assign(new Error(error.tag), { payload: error });
  events.push(...more);
}
