// Where a key goes, and where it does not.

import assert from "node:assert/strict";
import { test } from "node:test";

import { isKey } from "../src/index.js";
import { keyHeaders, keyProtocols } from "../src/key.js";

test("without a key nothing is sent", () => {
  assert.deepEqual(keyHeaders(undefined), {});
  assert.deepEqual(keyProtocols(undefined), []);
});

test("a key goes into the header and the subprotocol", () => {
  assert.deepEqual(keyHeaders("lsk_0123abcd"), { authorization: "Bearer lsk_0123abcd" });
  assert.deepEqual(keyProtocols("lsk_0123abcd"), ["lipsync.v1", "lipsync-key.lsk_0123abcd"]);
});

test("what a subprotocol cannot carry is no key", () => {
  assert.ok(isKey("lsk_0123abcd"));
  for (const text of ["", "a b", "a,b", "é", "k".repeat(257)]) assert.ok(!isKey(text), text);
});
