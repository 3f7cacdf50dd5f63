// Background frames from a server of the test's own.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Backgrounds, walk } from "../src/backgrounds.js";

test("a walk comes to each background once, in the order of the contract", () => {
  assert.deepEqual([...walk(0, 5)], [1, 2, 3, 4, 0]);
  assert.deepEqual([...walk(3, 5)], [4, 3, 2, 1, 0]);
  assert.deepEqual([...walk(7, 5)], [0, 1, 2, 3, 4]);
  assert.deepEqual([...walk(0, 1)], [0]);
  assert.deepEqual([...walk(0, 2)], [1, 0]);
});

// A server with `n` frames of `size` bytes; fails where `fails(index)`.
function serve(n, size, fails = () => false) {
  const asked = [];
  globalThis.fetch = async (url) => {
    const index = Number(String(url).split("/").at(-1));
    asked.push(String(url));
    if (fails(index)) return new Response("no", { status: 429 });
    return new Response(new Uint8Array(size).fill(index), { headers: { "x-background-frames": `${n}` } });
  };
  return asked;
}

const first = async (blob) => new Uint8Array(await blob.arrayBuffer())[0];

test("each is fetched once, ahead or when it is needed", async () => {
  const asked = serve(6, 10);
  const backgrounds = new Backgrounds("a/b", { server: "http://faces.example/x/" });
  assert.equal(await first(await backgrounds.get(4)), 4);
  await backgrounds.prefetch(2);
  assert.equal(await first(await backgrounds.get(5)), 5);
  assert.equal(asked.length, 6);
  assert.equal(asked[0], "http://faces.example/x/api/models/a%2Fb/backgrounds/4");
});

test("one that was refused is asked for again", async () => {
  let isFull = true;
  const asked = serve(3, 10, () => isFull);
  const backgrounds = new Backgrounds("a", { server: "http://faces.example/" });
  await assert.rejects(backgrounds.prefetch(0), /background frames \(429\)/);
  isFull = false;
  assert.equal(await first(await backgrounds.get(0)), 0);
  assert.equal(asked.length, 2);
});

test("what is held is bounded, and the least recently used goes", async () => {
  const asked = serve(100, 20 << 20);
  const backgrounds = new Backgrounds("a", { server: "http://faces.example/" });
  for (const index of [1, 2, 3, 4, 1, 5]) await backgrounds.get(index);
  // 1 was used after 2.
  await backgrounds.get(1);
  assert.equal(asked.length, 5);
  await backgrounds.get(2);
  assert.equal(asked.length, 6);
});

test("it stops", async () => {
  const asked = serve(50, 10);
  const backgrounds = new Backgrounds("a", { server: "http://faces.example/" });
  const done = backgrounds.prefetch(0);
  backgrounds.stop();
  await done;
  assert.ok(asked.length < 5, `${asked.length}`);
});
