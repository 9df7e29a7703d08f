import assert from "node:assert/strict";
import test from "node:test";

import { Event } from "sandbar-sdk";
import { testContext } from "sandbar-sdk/testing";

import router from "../handler.js";

const route = (webhook: unknown) =>
  router.handle(new Event("github.webhooks", { json: webhook, position: 7 }), testContext());

test("a webhook becomes a typed event of its repository", () => {
  const output = route({
    event: "issues",
    payload: { action: "opened", issue: { number: 2 }, repository: { full_name: "o/r" } },
  });
  assert.equal(output.keyText, "o/r");
  assert.equal(
    output.payloadText,
    '{"type":"issues.opened","repository":"o/r","organization":null,"sender":null,"action":"opened",' +
      '"number":2,"title":null,"at":null}',
  );
  assert.equal(output.attributes.get("id"), "github.webhooks/0/7");
});

test("an event without a repository is keyed by organisation or none", () => {
  const key = (payload: object) => route({ event: "ping", payload }).keyText;
  assert.equal(key({ organization: { login: "o" } }), "o");
  assert.equal(key({}), "none");
});

test("malformed webhooks are rejected", () => {
  assert.throws(() => route({ event: "push" }), { code: "invalid-json", message: /payload is no object/ });
  assert.throws(() => route({ event: "", payload: {} }), { code: "no-event-name" });
});
