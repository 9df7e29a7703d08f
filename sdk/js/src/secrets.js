import * as host from "#host/secrets";

import { Retry } from "./failure.js";

/** A secret that cannot be used. Worth a retry: the operator may grant it meanwhile. */
export class SecretError extends Retry {
  constructor(message, options) {
    super(message, options);
    this.name = "SecretError";
  }
}

export function get(name) {
  return host.get(name);
}

export function require(name) {
  const secret = get(name);
  if (secret === undefined) {
    throw new SecretError(`secret \`${name}\` is not granted: add it under \`secrets\` of this plugin`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(secret);
  } catch {
    throw new SecretError(`secret \`${name}\` is no text`);
  }
}
