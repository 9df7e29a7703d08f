const RANKS = ["trace", "debug", "info", "warn", "error", "off"];

/** The configuration key that sets the least severe level to be logged. */
const LEVEL_KEY = "log-level";

const METHODS = { trace: "trace", debug: "debug", log: "info", info: "info", warn: "warn", error: "error" };

/** Hands `console` to the host. `begin` is called by the host's `init`: before that there is no one to hear. */
export class Log {
  #write;
  #least = RANKS.length;

  constructor(write) {
    this.#write = write;
    for (const [method, level] of Object.entries(METHODS)) {
      globalThis.console[method] = (...args) => this.#line(level, args);
    }
  }

  begin(config) {
    const level = config.get(LEVEL_KEY) ?? "info";
    this.#least = RANKS.indexOf(level.toLowerCase());
    if (this.#least < 0) {
      this.#least = RANKS.indexOf("info");
      console.warn(`config \`${LEVEL_KEY}\` is ${JSON.stringify(level)}: one of ${RANKS.toReversed().join(", ")}`);
    }
  }

  #line(level, args) {
    if (RANKS.indexOf(level) >= this.#least) this.#write(level, "console", args.map(shown).join(" "));
  }

  /** The host makes this the message of the dead letter, once the call has trapped. */
  panic(message) {
    this.#write("critical", "panic", message);
  }
}

function shown(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value}${value.stack ? `\n${value.stack}` : ""}`;
  if (typeof value !== "object" || value === null) return String(value);
  try {
    return JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? `${inner}n` : inner));
  } catch {
    return String(value);
  }
}
