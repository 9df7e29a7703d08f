import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { Outgoing } from "./event.js";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A plugin that was built, on the production engine: one `sandbar plugin call` serves all its events. */
export class Component {
  #child;
  #lines;
  #said = "";
  #ended;

  constructor(child) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    child.stderr.setEncoding("utf8").on("data", (text) => (this.#said += text));
    // a process that has ended says why below
    child.stdin.on("error", () => {});
    this.#ended = new Promise((resolve) => {
      child.on("error", (error) => {
        const advice = "put it on the PATH, or set SANDBAR to its path";
        this.#said = error.code === "ENOENT" ? `${child.spawnfile} was not found: ${advice}` : error.message;
        resolve();
      });
      child.on("close", resolve);
    });
  }

  static start(plugin = ".", { config = {}, grants = [], sandbar } = {}) {
    const args = ["plugin", "call", plugin, "--output", "json"];
    for (const [key, value] of Object.entries(config)) args.push("--config-value", `${key}=${value}`);
    for (const grant of grants) args.push("--grant", grant);
    return new Component(spawn(sandbar ?? (process.env.SANDBAR || "sandbar"), args, { stdio: "pipe" }));
  }

  async handle(event) {
    this.#child.stdin.write(`${JSON.stringify(line(event))}\n`);
    const { value, done } = await this.#lines.next();
    if (!done) return result(JSON.parse(value));
    await this.#ended;
    throw new Error(this.#said.trim() || "the sandbar program has ended");
  }

  async close() {
    this.#child.stdin.end();
    await this.#ended;
  }
}

function line(event) {
  return {
    topic: event.topic,
    partition: event.partition,
    position: Number(event.position),
    attempt: event.attempt,
    ...(event.timestampMs ? { timestamp: event.timestampMs } : {}),
    key: encoded(event.key),
    payload: encoded(event.payload),
    headers: event.headers.map(({ name, value }) => [name, encoded(value)]),
    attributes: Object.fromEntries(event.attributes),
  };
}

function result({ verdict, code, message, after_ms: after, outputs, log }) {
  return { verdict, code, message, after, outputs: outputs.map(outgoing), log };
}

function outgoing({ topic, connection, key, payload, headers, attributes }) {
  return new Outgoing(topic, {
    connection,
    key: decoded(key),
    payload: decoded(payload),
    headers: headers.map(([name, value]) => [name, decoded(value) ?? new Uint8Array()]),
    attributes,
  });
}

/** Text where the bytes are UTF-8, else base64: as the `sandbar` program has it. */
function encoded(bytes) {
  if (bytes === undefined) return null;
  try {
    return utf8.decode(bytes);
  } catch {
    return { base64: Buffer.from(bytes).toString("base64") };
  }
}

function decoded(value) {
  if (value === null || value === undefined) return undefined;
  return new Uint8Array(typeof value === "string" ? Buffer.from(value) : Buffer.from(value.base64, "base64"));
}
