import assert from "node:assert/strict";
import test, { beforeEach } from "node:test";

import { metrics, Outgoing, publisher, Retry, secrets, state } from "sandbar-sdk";
import { counted, failPublish, observed, published, reset, setSecrets } from "sandbar-sdk/testing";

beforeEach(reset);

test("state is kept, compared, counted and listed", () => {
  assert.equal(state.get("k"), undefined);
  state.set("k", "v");
  const seen = state.entry("k");
  state.compareAndSet("k", "w", seen);
  const conflict = (error) => error instanceof state.StateError && error instanceof Retry && error.kind === "conflict";
  assert.throws(() => state.compareAndSet("k", "x", seen), conflict);
  assert.throws(() => state.compareAndSet("k", "x", undefined), conflict);
  assert.equal(state.getText("k"), "w");
  assert.deepEqual([state.increment("n"), state.increment("n", 4)], [1, 5]);
  state.setJson("a/1", { x: 1 });
  state.set("a/2", "");
  assert.deepEqual([...state.keys("a/")], ["a/1", "a/2"]);
  assert.deepEqual(state.getJson("a/1"), { x: 1 });
  state.delete("a/1");
  assert.deepEqual([...state.keys("a/")], ["a/2"]);
  assert.throws(() => state.set("k", "v", { ttl: 0 }), RangeError);
});

test("what is published and counted is seen in a test", () => {
  publisher.publish(new Outgoing("t", { text: "x", headers: { h: "v" } }), new Outgoing("u"));
  assert.deepEqual(published().map((event) => [event.topic, event.payloadText]), [["t", "x"], ["u", undefined]]);
  failPublish("denied", "t");
  const denied = (error) => error instanceof publisher.PublishError && error.kind === "denied" && /t is not/.test(error);
  assert.throws(() => publisher.publish(new Outgoing("t")), denied);
  metrics.count("seen", 1, { country: "de" });
  metrics.count("seen", 2, { country: "de" });
  metrics.observe("size", 1.5);
  assert.deepEqual([counted("seen", { country: "de" }), counted("seen"), observed("size")], [3, 0, [1.5]]);
});

test("a secret is there or named", () => {
  setSecrets({ token: "x", raw: new Uint8Array([255]) });
  assert.equal(secrets.require("token"), "x");
  assert.throws(() => secrets.require("other"), /`other` is not granted/);
  assert.throws(() => secrets.require("raw"), /`raw` is no text/);
});
