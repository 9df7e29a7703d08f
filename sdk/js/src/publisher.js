import * as host from "#host/publisher";

import { Retry } from "./failure.js";

/** Some of the events may not be published. Not caught, it means another attempt. */
export class PublishError extends Retry {
  constructor(kind, reason, options) {
    super(`publish: ${reason}`, options);
    this.name = "PublishError";
    this.kind = kind;
  }
}

export function publish(...events) {
  try {
    host.publish(events.map((event) => event.toHost()));
  } catch (cause) {
    const said = cause?.payload;
    if (said?.tag === undefined) throw cause;
    throw new PublishError(said.tag, reasonOf(said), { cause });
  }
}

function reasonOf({ tag, val }) {
  switch (tag) {
    case "denied":
      return `${val} is not among the topics that this plugin may publish to`;
    case "too-large":
      return `an event has more than ${val} bytes`;
    case "timeout":
      return "the broker did not confirm in time";
    default:
      return val;
  }
}
