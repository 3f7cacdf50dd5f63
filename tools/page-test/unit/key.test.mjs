// The page's key: where it goes, and where it does not.

import assert from "node:assert/strict";
import { test } from "node:test";

const store = new Map();
globalThis.sessionStorage = {
  getItem: (name) => store.get(name) ?? null,
  setItem: (name, value) => store.set(name, value),
};

const { currentKey, keyHeaders, keyProtocols, takeKey } = await import("../../../crates/server/page/key.js");

test("without a key nothing is sent", () => {
  assert.deepEqual(keyHeaders(), {});
  assert.deepEqual(keyProtocols(), []);
});

test("a key goes into the header and the subprotocol, and is kept for the tab", () => {
  assert.ok(takeKey("  lsk_0123abcd \n"));
  assert.deepEqual(keyHeaders(), { authorization: "Bearer lsk_0123abcd" });
  assert.deepEqual(keyProtocols(), ["lipsync.v1", "lipsync-key.lsk_0123abcd"]);
  assert.deepEqual([...store.values()], ["lsk_0123abcd"]);
});

test("what a subprotocol cannot carry is no key", () => {
  for (const text of ["", "a b", "a,b", "é", "k".repeat(257)]) assert.ok(!takeKey(text), text);
  assert.equal(currentKey(), "lsk_0123abcd");
});
