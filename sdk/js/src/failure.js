/** Why an event was not processed: what a handler throws. Everything else that is thrown ends the instance. */
export class Failure extends Error {
  /** The form that the host knows. */
  toHost() {
    throw new TypeError("throw Retry, Reject, Skip or Defer, not Failure itself");
  }
}

/** Deliver again; uses up one attempt, then goes to the dead-letter queue. */
export class Retry extends Failure {
  constructor(reason, { after, ...rest } = {}) {
    super(reason, rest);
    this.name = "Retry";
    this.after = after === undefined ? undefined : milliseconds("after", after);
  }

  toHost() {
    const delayMs = this.after === undefined ? undefined : BigInt(this.after);
    return { tag: "retry", val: { reason: this.message, delayMs } };
  }
}

/** Never retry: straight to the dead-letter queue. */
export class Reject extends Failure {
  constructor(code, message, options) {
    super(message, options);
    this.name = "Reject";
    this.code = code;
  }

  toHost() {
    return { tag: "reject", val: { code: this.code, message: this.message } };
  }
}

/** Not for this plugin: acknowledge, count as skipped. */
export class Skip extends Failure {
  constructor(reason, options) {
    super(reason, options);
    this.name = "Skip";
  }

  toHost() {
    return { tag: "skip", val: this.message };
  }
}

/** A dependency is down: pause the plugin, then deliver again without using up an attempt. */
export class Defer extends Failure {
  constructor(pause, options) {
    super(`deferred for ${pause} ms`, options);
    this.name = "Defer";
    this.pause = milliseconds("pause", pause);
  }

  toHost() {
    return { tag: "defer", val: BigInt(this.pause) };
  }
}

function milliseconds(name, value) {
  if (typeof value !== "number" || !(value >= 0)) {
    throw new TypeError(`${name} is ${value}: it must be milliseconds, 0 or more`);
  }
  // what is longer than a safe integer is as good as for ever
  return Math.min(Math.ceil(value), Number.MAX_SAFE_INTEGER);
}
