import assert from "node:assert/strict";
import test from "node:test";

import { frames } from "../src/trace.js";

test("frames are those of the author's files", () => {
  // line 2, column 0 of the bundle is a.js 1:1, column 4 is b.ts 11:3; column 9 the SDK; line 3 has nothing
  const map = { sources: ["a.js", "b.ts", null], mappings: ";AAAA,ICUE,KCAA;" };
  const stack = "sdk@bundle.js:2:11\nfail@bundle.js:2:6\nbundle.js:2:2\n@bundle.js:2:1\nother@bundle.js:3:1\nnative@[native code]\n";
  assert.deepEqual(frames({ stack }, map), ["fail (b.ts:11:3)", "a.js:1:1"]);
  assert.deepEqual(frames({ stack }, undefined), []);
  assert.deepEqual(frames("text", map), []);
});
