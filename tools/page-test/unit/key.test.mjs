// The page's key: what is kept of it, and for how long.

import assert from "node:assert/strict";
import { test } from "node:test";

import { isKey } from "../../../clients/js/src/index.js";

const store = new Map();
globalThis.sessionStorage = {
  getItem: (name) => store.get(name) ?? null,
  setItem: (name, value) => store.set(name, value),
};

const { currentKey, takeKey } = await import("../../../crates/server/page/key.js");

test("without a key there is none", () => {
  assert.equal(currentKey(), undefined);
});

test("a key is kept for the tab, without what a paste brings along", () => {
  assert.ok(takeKey("  lsk_0123abcd \n", isKey));
  assert.equal(currentKey(), "lsk_0123abcd");
  assert.deepEqual([...store.values()], ["lsk_0123abcd"]);
});

test("what a subprotocol cannot carry is no key", () => {
  for (const text of ["", "a b", "a,b", "é", "k".repeat(257)]) assert.ok(!takeKey(text, isKey), text);
  assert.equal(currentKey(), "lsk_0123abcd");
});
