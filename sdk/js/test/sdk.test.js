import assert from "node:assert/strict";
import test from "node:test";

import { defineHandler, DefinitionError, Event, Failure, Outgoing, Reject, Retry } from "sandbar-sdk";
import { testContext } from "sandbar-sdk/testing";

import { outputs } from "../src/handler.js";

const rejects = (call, code, message = /./) =>
  assert.throws(call, (error) => error instanceof Reject && error.code === code && message.test(error.message));

test("identity is source and id or the position", () => {
  assert.equal(new Event("t", { partition: 2, position: 7 }).id, "t/2/7");
  assert.equal(new Event("t", { attributes: { source: "/s" } }).id, "t/0/0");
  assert.equal(new Event("t", { attributes: { id: "1" } }).id, "1");
  assert.equal(new Event("t", { attributes: { id: "1", source: "/s" } }).id, "/s#1");
});

test("content type prefers the attribute and ignores the header's case", () => {
  const headers = { "Content-Type": "text/plain" };
  assert.equal(new Event("t", { headers }).contentType, "text/plain");
  const attributes = { datacontenttype: "application/json" };
  assert.equal(new Event("t", { headers, attributes }).contentType, "application/json");
  const binary = [["content-type", new Uint8Array([255])]];
  assert.equal(new Event("t", { headers: binary }).contentType, undefined);
});

test("tombstone, empty and binary are told apart", () => {
  rejects(() => new Event("t").text(), "no-payload");
  assert.equal(new Event("t", { text: "" }).text(), "");
  rejects(() => new Event("t", { payload: new Uint8Array([255]) }).text(), "invalid-utf8");
});

test("what is not the JSON that was wanted is rejected, other errors are not hidden", () => {
  rejects(() => new Event("t", { text: "{" }).json(), "invalid-json", /JSON/);
  rejects(() => new Event("t", { payload: new Uint8Array([255]) }).json(), "invalid-json");
  rejects(() => new Event("t", { text: "null" }).json((v) => v.name), "invalid-json", /null/);
  rejects(() => new Event("t").json(), "no-payload");
  const broken = () => {
    throw new RangeError("by the test");
  };
  assert.throws(() => new Event("t", { text: "1" }).json(broken), RangeError);
});

test("outputs are written as compact JSON in UTF-8", () => {
  const output = new Outgoing("t", { json: { a: ["ü", "\u001f"], b: null }, key: "k", headers: { h: "v" } });
  assert.equal(output.payloadText, '{"a":["ü","\\u001f"],"b":null}');
  assert.deepEqual([output.keyText, output.headers[0].name], ["k", "h"]);
  assert.equal(new Outgoing("t").payload, undefined);
  assert.equal(new Outgoing("t", { json: null }).payloadText, "null");
  assert.throws(() => new Outgoing("t", { key: 5 }), /neither text nor a Uint8Array/);
});

test("a handler returns one, some or nothing", () => {
  const one = new Outgoing("x");
  assert.deepEqual(outputs(undefined), []);
  assert.deepEqual(outputs(one), [one]);
  assert.deepEqual(outputs(new Set([one])), [one]);
  for (const wrong of ["text", 5, [1], { a: one }]) {
    assert.throws(() => outputs(wrong), /returns an Outgoing/);
  }
});

test("options are named as in the configuration", () => {
  const { options } = defineHandler({
    topics: ["a"],
    ordering: "partition",
    maxInFlight: 10,
    retry: { maxAttempts: 5, initialDelay: "200ms", jitter: 0.1 },
    deadLetter: { onDeadLetter: "halt-key" },
    dedup: { window: "1d" },
    handle() {},
  });
  assert.deepEqual(options, [
    ["ordering", "partition"],
    ["max-in-flight", "10"],
    ["retry.max-attempts", "5"],
    ["retry.initial-delay", "200ms"],
    ["retry.jitter", "0.1"],
    ["dead-letter.on-dead-letter", "halt-key"],
    ["dedup.window", "1d"],
  ]);
});

test("a mistake says what to write", () => {
  for (const [change, message] of [
    [{ topics: [] }, /`topics` is missing/],
    [{ topics: "a" }, /a list of topics/],
    [{ topics: [" "] }, /`topics\[0\]` is " "/],
    [{ ordering: "keys" }, /"key", "partition", "none"/],
    [{ concurrency: 0 }, /a whole number, at least 1/],
    [{ retry: { maxAtempts: 5 } }, /unknown key `retry.maxAtempts` \(known: maxAttempts/],
    [{ retry: { initialDelay: "5 apples" } }, /"200ms"/],
    [{ retry: { jitter: 1.5 } }, /between 0 and 1/],
    [{ breaker: 5 }, /must be an object/],
    [{ topcs: ["a"] }, /unknown key `topcs`/],
    [{ handle: undefined }, /either `handle/],
    [{ handleBatch() {} }, /either `handle/],
    [{ init: 5 }, /a function/],
  ]) {
    assert.throws(
      () => defineHandler({ topics: ["a"], handle() {}, ...change }),
      (error) => error instanceof DefinitionError && message.test(error.message),
      JSON.stringify(change),
    );
  }
});

test("configuration errors name key and value and are worth a retry", () => {
  const { config } = testContext({ config: { n: "many" } });
  assert.equal(config.get("n"), "many");
  assert.deepEqual([...config.all()], [["n", "many"]]);
  assert.equal(config.number("m"), undefined);
  const fails = (call, message) => assert.throws(call, (e) => e instanceof Retry && message.test(e.message));
  fails(() => config.number("n"), /config `n` is "many"/);
  fails(() => config.require("m"), /config `m` is not set/);
});

test("a failure has the form that the host knows", () => {
  assert.deepEqual(new Retry("r", { after: 1.5 }).toHost(), { tag: "retry", val: { reason: "r", delayMs: 2n } });
  assert.deepEqual(new Reject("c", "m").toHost(), { tag: "reject", val: { code: "c", message: "m" } });
  assert.throws(() => new Retry("r", { after: -1 }), /after is -1/);
  assert.throws(() => new Failure("f").toHost(), TypeError);
});
