import { Retry } from "./failure.js";

/** A configuration value that cannot be used. Worth a retry: the operator may mend it meanwhile. */
export class ConfigError extends Retry {
  constructor(message, options) {
    super(message, options);
    this.name = "ConfigError";
  }
}

/** The plugin's configuration: the `config` table of `NAME.toml` or `[plugin.NAME]`. */
export class Config {
  #get;
  #all;

  /** `get(key)` gives a text or `undefined`, `all()` pairs. */
  constructor({ get, all }) {
    this.#get = get;
    this.#all = all;
  }

  get(key) {
    return this.#get(key);
  }

  require(key) {
    const value = this.get(key);
    if (value === undefined) {
      throw new ConfigError(`config \`${key}\` is not set: add it under \`config\` of this plugin`);
    }
    return value;
  }

  number(key) {
    const value = this.get(key);
    if (value === undefined) return undefined;
    const number = Number(value);
    if (value.trim() === "" || Number.isNaN(number)) {
      throw new ConfigError(`config \`${key}\` is ${JSON.stringify(value)}: it is no number`);
    }
    return number;
  }

  all() {
    return new Map(this.#all());
  }
}
