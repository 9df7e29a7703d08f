export { ConfigError } from "./context.js";
export { Event, Outgoing } from "./event.js";
export { Defer, Failure, Reject, Retry, Skip } from "./failure.js";
export { defineHandler, DefinitionError } from "./handler.js";
