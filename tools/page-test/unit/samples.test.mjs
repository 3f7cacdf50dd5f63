// What the page's samples are, by avatar, and what its clips are called.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";

import { fileName, mixDown, sampleOf } from "../../../crates/server/page/samples.js";
import { modelRows, tenantRows, workerRows } from "../../../crates/server/page/tables.js";
import { bytes, duration, milliseconds, percent } from "../../../crates/server/page/words.js";

test("Tomo has a voice of his own, and his own name", () => {
  for (const sample of ["welcome.wav", "umbrella.wav", "lips.wav"]) {
    const [hers, his] = ["mira", "tomo"].map((id) => sampleOf(id, { sample, text: "My name is Mira" }));
    assert.notEqual(hers.file, his.file);
    for (const { file } of [hers, his]) assert.ok(existsSync(new URL(`../../../assets/speech/${file}`, import.meta.url)), file);
  }
  assert.match(sampleOf("tomo", { sample: "welcome.wav", text: "My name is Mira" }).text, /Tomo/);
  assert.deepEqual(sampleOf("somebody", { sample: "lips.wav", text: "x" }), { file: "lips.wav", text: "x" });
});

test("several channels become one", () => {
  const channels = [Float32Array.of(1, 0), Float32Array.of(0, -1)];
  const sound = { length: 2, numberOfChannels: 2, getChannelData: (i) => channels[i] };
  assert.deepEqual([...mixDown(sound)], [0.5, -0.5]);
});

test("a clip's name sorts by time", () => {
  assert.equal(fileName("mira", "video/webm", new Date("2026-03-04T05:06:07Z")), "mira-2026-03-04-050607.webm");
  assert.equal(fileName("tomo", "video/mp4", new Date("2026-03-04T05:06:07Z")), "tomo-2026-03-04-050607.mp4");
});

test("figures are written for people", () => {
  assert.deepEqual([bytes(3 * 2 ** 20), bytes(1.5 * 2 ** 30)], ["3 MB", "1.5 GB"]);
  assert.deepEqual([duration(5e6), duration(3.7e9), duration(3e11)], ["5 s", "1 h 1 min", "3 days"]);
  assert.deepEqual([milliseconds(0.0123), milliseconds(12), percent(0.005)], ["12 ms", "12 s", "0.5 %"]);
});

test("rows say what is not known, and what has failed", () => {
  const model = {
    model_id: "a", state: "failed", failure: "no generator", device: "", width: 0, weights_bytes: 9, cache_bytes: 9,
    cache_requests: 0, cache_hits: 0, frames: 0,
  };
  assert.deepEqual(modelRows([model]), [["a", "failed: no generator", "–", "–", "–", "–", "–", "–", "0"]]);
  const worker = { device: "cpu", is_here: true, busy_us: 600, frames: 5, restarts: 0, faults: 1, out_of_memory: 2 };
  assert.deepEqual(workerRows([worker, { ...worker, is_here: false }], [{ busy_us: 100 }], 1000), [
    ["1", "cpu", "50 %", "5", "0", "3"],
    ["2", "cpu", "gone", "5", "0", "3"],
  ]);
  const tenant = { tenant_id: "t", inflight: 1, requests: 2, sessions: 3, frames: 4, refused: 5, failed: 6 };
  assert.deepEqual(tenantRows([tenant]), [["t", "1", "2", "3", "4", "5", "6"]]);
});
