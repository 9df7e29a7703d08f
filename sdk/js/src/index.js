export { ConfigError } from "./context.js";
export { Event, Outgoing } from "./event.js";
export { Defer, Failure, Reject, Retry, Skip } from "./failure.js";
export { defineHandler, DefinitionError } from "./handler.js";
export * as metrics from "./metrics.js";
export * as publisher from "./publisher.js";
export * as secrets from "./secrets.js";
export * as state from "./state.js";
