import { Reject } from "./failure.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** One event as it was delivered. In a test make one with `new Event(topic, {...})`. */
export class Event {
  constructor(topic, fields = {}) {
    this.topic = topic;
    this.partition = fields.partition ?? 0;
    this.position = BigInt(fields.position ?? 0);
    this.key = fields.key === undefined ? undefined : bytesOf(fields.key);
    this.payload = payload(fields);
    this.headers = pairs(fields.headers).map(([name, value]) => ({ name, value: bytesOf(value) }));
    this.timestampMs = fields.timestampMs ?? 0;
    this.attempt = fields.attempt ?? 1;
    this.attributes = new Map(pairs(fields.attributes));
  }

  /** Of what the host hands over; nothing is copied. */
  static fromHost(event) {
    const made = Object.create(Event.prototype);
    made.topic = event.topic;
    made.partition = event.partition;
    made.position = event.position;
    made.key = event.key;
    made.payload = event.payload;
    made.headers = event.headers;
    made.timestampMs = Number(event.timestampMs);
    made.attempt = event.attempt;
    made.attributes = new Map(event.attributes);
    return made;
  }

  get id() {
    const [source, id] = [this.attributes.get("source"), this.attributes.get("id")];
    if (id === undefined) return `${this.topic}/${this.partition}/${this.position}`;
    return source === undefined ? id : `${source}#${id}`;
  }

  get keyText() {
    return text(this.key);
  }

  get timestamp() {
    return new Date(this.timestampMs);
  }

  get contentType() {
    const header = () => this.headers.find((h) => h.name.toLowerCase() === "content-type");
    return this.attributes.get("datacontenttype") ?? text(header()?.value);
  }

  bytes() {
    if (this.payload === undefined) throw new Reject("no-payload", "the event is a tombstone");
    return this.payload;
  }

  text() {
    try {
      return decoder.decode(this.bytes());
    } catch (error) {
      if (error instanceof Reject) throw error;
      throw new Reject("invalid-utf8", "the payload is no UTF-8", { cause: error });
    }
  }

  json(read = (value) => value) {
    const bytes = this.bytes();
    try {
      return read(JSON.parse(decoder.decode(bytes)));
    } catch (error) {
      // the types of what is no JSON, no UTF-8 (by decoder), or not what `read` wants
      if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
      throw new Reject("invalid-json", error.message, { cause: error });
    }
  }

  header(name) {
    return this.headers.find((h) => h.name === name)?.value;
  }

  headerText(name) {
    return text(this.header(name));
  }

  attribute(name) {
    return this.attributes.get(name);
  }
}

/** An event to be published. */
export class Outgoing {
  constructor(topic, fields = {}) {
    this.topic = topic;
    this.connection = fields.connection;
    this.key = fields.key === undefined ? undefined : bytesOf(fields.key);
    this.payload = payload(fields);
    this.headers = pairs(fields.headers).map(([name, value]) => ({ name, value: bytesOf(value) }));
    this.attributes = new Map(pairs(fields.attributes));
  }

  get keyText() {
    return text(this.key);
  }

  get payloadText() {
    return text(this.payload);
  }

  /** The form that the host knows. */
  toHost() {
    const { connection, topic, key, payload, headers } = this;
    return { connection, topic, key, payload, headers, attributes: [...this.attributes] };
  }
}

function payload(fields) {
  if (fields.json !== undefined) return encoder.encode(JSON.stringify(fields.json));
  const given = fields.payload ?? fields.text;
  return given === undefined ? undefined : bytesOf(given);
}

/** Text is taken as UTF-8. */
export function bytesOf(value) {
  if (typeof value === "string") return encoder.encode(value);
  if (value instanceof Uint8Array) return value;
  throw new TypeError(`${String(value)} is neither text nor a Uint8Array`);
}

/** The text of UTF-8 bytes; `undefined` where there are none or they are something else. */
function text(bytes) {
  if (bytes === undefined) return undefined;
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Of an object, a Map or a list of pairs; only a list can repeat a name. */
function pairs(values = []) {
  return typeof values[Symbol.iterator] === "function" ? [...values] : Object.entries(values);
}
