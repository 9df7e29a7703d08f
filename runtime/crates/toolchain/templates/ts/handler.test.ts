import assert from "node:assert/strict";
import test from "node:test";

import { Event } from "sandbar-sdk";
import { testContext } from "sandbar-sdk/testing";

import plugin from "../handler.js";

const greet = (arrival: { name: string }) =>
  plugin.handle(new Event("arrivals", { json: arrival }), testContext());

test("an arrival is greeted by name", () => {
  const greeting = greet({ name: "Ada" });
  assert.equal(greeting.topic, "greetings");
  assert.equal(greeting.payloadText, "Hello, Ada!");
});

test("nobody is not greeted", () => {
  assert.throws(() => greet({ name: "" }), { code: "no-name" });
});
