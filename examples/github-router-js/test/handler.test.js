import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Event, Reject } from "sandbar-sdk";
import { testContext } from "sandbar-sdk/testing";

import router from "../handler.js";

const route = (text) => router.handle(new Event("github.webhooks", { text, position: 7 }), testContext());

test("a webhook becomes a typed event of its repository", () => {
  const output = route(
    JSON.stringify({
      event: "pull_request",
      payload: {
        action: "opened",
        pull_request: { number: 2, title: 'Say "hi"', updated_at: "2019-05-15T15:20:33Z" },
        repository: { full_name: "o/r" },
        sender: { login: "ada" },
      },
    }),
  );
  assert.equal(output.keyText, "o/r");
  assert.equal(
    output.payloadText,
    '{"type":"pull_request.opened","repository":"o/r","organization":null,"sender":"ada","action":"opened",' +
      '"number":2,"title":"Say \\"hi\\"","at":"2019-05-15T15:20:33Z"}',
  );
  assert.equal(output.attributes.get("id"), "github.webhooks/0/7");
});

test("malformed lines are rejected and say why", () => {
  for (const [line, code, what] of [
    ["", "invalid-json", /./],
    ['{"event":"push"}', "invalid-json", /payload is no object/],
    ['{"event":"push","payload":{"action":1}}', "invalid-json", /payload.action is no text/],
    ['{"event":"","payload":{}}', "no-event-name", /`event` is empty/],
  ]) {
    assert.throws(
      () => route(line),
      (error) => error instanceof Reject && error.code === code && what.test(error.message),
      line,
    );
  }
});

test("all real webhooks are routed", () => {
  const lines = readFileSync(new URL("../../data/github-webhooks.ndjson", import.meta.url), "utf8").trimEnd().split("\n");
  assert.equal(lines.length, 329);
  const keys = lines.map((line) => route(line).keyText);
  assert.equal(keys.filter((key) => key === "Codertocat/Hello-World").length, 230);
});
