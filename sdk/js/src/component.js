// What the host calls. Only the build imports this; authors never do.

import { Config, ConfigError } from "./context.js";
import { Event } from "./event.js";
import { Failure } from "./failure.js";
import { outputs } from "./handler.js";
import { Log } from "./log.js";
import { frames } from "./trace.js";

/**
 * The exports of a component: `plugin`, `lifecycle`, `handler` or `batchHandler`. `facts` is what the package
 * says of itself, `host` has the imports.
 */
export function component(definition, facts, host) {
  const log = new Log(host.log);
  const config = new Config({
    get: (key) => asked(`\`${key}\``, () => host.config.get(key)),
    all: () => asked("", () => host.config.getAll()),
  });
  const ctx = Object.freeze({
    config,
    get pluginName() {
      return host.context.pluginName();
    },
    get pluginVersion() {
      return host.context.pluginVersion();
    },
    get connection() {
      return host.context.connection();
    },
    remainingMs: () => Number(host.context.remainingMs()),
  });

  const crash = (error) => {
    const found = frames(error, globalThis.__sandbarSourceMap);
    const [at] = found;
    log.panic([`${error}${at ? ` (${at})` : ""}`, ...found.map((frame) => `    at ${frame}`)].join("\n"));
    // what is thrown on ends the call and the instance
    throw error instanceof Error ? error : new Error(String(error));
  };
  const failed = (error) => (error instanceof Failure ? error.toHost() : crash(error));

  const one = (event) => definition.handle(Event.fromHost(event), ctx);
  const done = (returned) => {
    try {
      return outputs(returned).map((output) => output.toHost());
    } catch (error) {
      throw failed(error);
    }
  };
  const outcome = (value) => {
    if (value instanceof Failure) return { tag: "err", val: value.toHost() };
    return { tag: "ok", val: outputs(value).map((output) => output.toHost()) };
  };

  return {
    plugin: {
      describe: () => ({
        name: definition.name ?? facts.name,
        version: definition.version ?? facts.version,
        description: definition.description ?? facts.description,
        subscriptions: [
          { connection: definition.connection, topics: definition.topics, options: definition.options },
        ],
        publishes: definition.publishes,
        configSchema: definition.configSchema && JSON.stringify(definition.configSchema),
        annotations: facts.annotations,
      }),
    },
    lifecycle: {
      async init() {
        try {
          log.begin(config);
          await definition.init?.(ctx);
        } catch (error) {
          // a plain value is an error that the host is told, an `Error` would be a trap
          if (error instanceof Failure) throw error.message;
          crash(error);
        }
      },
    },
    handler: {
      handle(event) {
        let returned;
        try {
          returned = one(event);
        } catch (error) {
          throw failed(error);
        }
        // waiting for what is there already would cost a turn of the event loop
        if (typeof returned?.then !== "function") return done(returned);
        return returned.then(done, (error) => {
          throw failed(error);
        });
      },
    },
    batchHandler: {
      async handleBatch(events) {
        try {
          return (await definition.handleBatch(events.map(Event.fromHost), ctx)).map(outcome);
        } catch (error) {
          crash(error);
        }
      },
    },
  };
}

function asked(what, call) {
  try {
    return call();
  } catch (error) {
    // the host's own reason comes as a variant with a text
    throw new ConfigError(`config ${what}: ${error?.payload?.val ?? error?.val ?? error}`, { cause: error });
  }
}
