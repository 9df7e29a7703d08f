// Against a stand-in for the `sandbar` program: what it is asked, and how its answers are read. The program
// itself is tested with plugins in tests/languages.

import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";

import { Event } from "sandbar-sdk";
import { Component } from "sandbar-sdk/testing";

function program(script) {
  const file = join(mkdtempSync(join(tmpdir(), "sandbar-")), "sandbar");
  writeFileSync(file, `#!${process.execPath}\n${script}`);
  chmodSync(file, 0o755);
  return file;
}

const ECHO = `
require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const event = JSON.parse(line);
  const headers = [["args", JSON.stringify(process.argv.slice(2))], ...event.headers];
  const output = { topic: "out", key: event.key, payload: event.payload, headers, attributes: event.attributes };
  console.log(JSON.stringify({ verdict: "ok", outputs: [output], log: [{ level: "info", context: "c", message: line }] }));
});`;

test("an event gets there and back", async () => {
  const settings = { config: { a: "b=c" }, grants: ["clocks"], sandbar: program(ECHO) };
  const plugin = Component.start("p.wasm", settings);
  const binary = new Uint8Array([255, 0]);
  const event = new Event("in", {
    payload: binary,
    key: "ü",
    headers: [["h", new Uint8Array([254])], ["h", "2"]],
    attributes: { id: "7" },
    timestampMs: 5,
    attempt: 2,
  });
  const { verdict, outputs, log } = await plugin.handle(event);
  assert.equal(verdict, "ok");
  const [output] = outputs;
  assert.deepEqual([output.topic, output.payload, output.keyText], ["out", binary, "ü"]);
  assert.deepEqual(output.headers.slice(1).map((h) => [...h.value]), [[254], [50]]);
  assert.deepEqual([...output.attributes], [["id", "7"]]);
  const args = JSON.parse(new TextDecoder().decode(output.headers[0].value));
  const expected = ["plugin", "call", "p.wasm", "--output", "json", "--config-value", "a=b=c", "--grant", "clocks"];
  assert.deepEqual(args, expected);
  const sent = JSON.parse(log[0].message);
  assert.deepEqual([sent.timestamp, sent.attempt], [5, 2]);
  assert.equal((await plugin.handle(new Event("in"))).outputs[0].payload, undefined);
  assert.equal((await plugin.handle(new Event("in", { text: "" }))).outputs[0].payload.length, 0);
  await plugin.close();
});

test("a plugin that does not start says why", async () => {
  const failing = Component.start(".", { sandbar: program('console.error("error: init failed"); process.exit(1)') });
  await assert.rejects(failing.handle(new Event("in", { text: "" })), /init failed/);
  await failing.close();
  const missing = Component.start(".", { sandbar: "/nowhere/sandbar" });
  await assert.rejects(missing.handle(new Event("in", { text: "" })), /set SANDBAR/);
});
