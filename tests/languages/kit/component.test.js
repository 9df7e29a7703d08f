// `Component` on a plugin that was built, by the `sandbar` program itself.

import assert from "node:assert/strict";
import test, { after } from "node:test";

import { Event } from "sandbar-sdk";
import { Component } from "sandbar-sdk/testing";

const greeter = Component.start(process.env.GREETER);
after(() => greeter.close());

test("an arrival is greeted by name", async () => {
  const { verdict, outputs, log } = await greeter.handle(new Event("arrivals", { json: { name: "Ada" } }));
  assert.equal(verdict, "ok");
  assert.deepEqual(outputs.map((o) => [o.topic, o.keyText, o.payloadText]), [["greetings", "Ada", "Hello, Ada!"]]);
  assert.deepEqual(log.map((line) => line.message), ["greeting Ada"]);
});

test("a failure is no exception", async () => {
  const { verdict, code, outputs } = await greeter.handle(new Event("arrivals", { json: { name: "" } }));
  assert.deepEqual([verdict, code, outputs], ["reject", "no-name", []]);
  assert.equal((await greeter.handle(new Event("arrivals"))).code, "no-payload");
});

test("what is no plugin says so", async () => {
  const missing = Component.start("missing.wasm");
  await assert.rejects(missing.handle(new Event("arrivals")), /cannot read/);
  await missing.close();
});
