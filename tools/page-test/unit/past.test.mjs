// The past of the server's figures, as the charts show it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { runs } from "../../../crates/server/page/chart.js";
import { CHARTS } from "../../../crates/server/page/figures.js";
import { Past, roundTop } from "../../../crates/server/page/past.js";

const answer = (atS, means, peaks = means) => ({ at_s: atS, figures: [{ name: "f", means, peaks }] });

test("the whole past comes once, then what is new", () => {
  const past = new Past("1s");
  assert.equal(past.newestS, undefined);
  past.take(answer([1000, 1001], [1, 2]));
  past.take(answer([1001, 1002], [9, 3]));
  past.take(answer([], []));
  assert.equal(past.newestS, 1002);
  assert.deepEqual(past.summary("f"), { latest: 3, mean: 2, peak: 3, peakAtS: 1002 });
  assert.equal(past.summary("g"), undefined);
});

test("what is older than the span is dropped", () => {
  const past = new Past("1s");
  past.take(answer([1000, 1300, 1600], [50, 1, 2]));
  assert.equal(past.summary("f").peak, 2);
  past.take(answer([90_000], [7]));
  assert.deepEqual(past.summary("f"), { latest: 7, mean: 7, peak: 7, peakAtS: 90_000 });
});

test("buckets have means, peaks and gaps, the newest last", () => {
  const past = new Past("1s");
  past.take(answer([1001, 1002, 1301, 1302, 1600], [1, 3, null, 4, 5], [2, 8, null, 4, 6]));
  const buckets = past.buckets("f", 3);
  assert.deepEqual(
    buckets.map(({ mean, peak }) => [mean, peak]),
    [[2, 8], [4, 4], [5, 6]],
  );
  assert.equal(buckets[2].atS, 1600);
  assert.deepEqual(past.buckets("f", 6).map(({ mean }) => mean), [2, null, null, 4, null, 5]);
  assert.ok(past.buckets("g", 6).every(({ mean, peak }) => mean === null && peak === null));
});

test("figures that another version of the server knows stay in step", () => {
  const past = new Past("10s");
  past.take(answer([1000], [1]));
  past.take({ at_s: [1010], figures: [{ name: "g", means: [5], peaks: [5] }] });
  past.take(answer([1020], [3]));
  assert.deepEqual(past.summary("f"), { latest: 3, mean: 2, peak: 3, peakAtS: 1020 });
  assert.deepEqual(past.summary("g"), { latest: 5, mean: 5, peak: 5, peakAtS: 1010 });
});

test("lines break where nothing is known", () => {
  const known = (mean) => ({ mean, peak: mean });
  const parts = runs([known(1), known(2), known(null), known(3)], (y) => y * 10);
  assert.deepEqual(parts, [
    [
      [0, 10, 10],
      [1, 20, 20],
    ],
    [[3, 30, 30]],
  ]);
  assert.deepEqual(runs([known(null)], (y) => y), []);
});

test("axes end at round numbers that reach the highest value", () => {
  for (const [value, top] of [[0, 1], [0.3, 0.5], [1, 1], [1.01, 2], [25, 50], [51, 100], [0.002, 0.002], [3e9, 5e9]]) {
    assert.ok(Math.abs(roundTop(value) - top) < top * 1e-9, `${value}: ${roundTop(value)}`);
  }
});

test("every figure has one chart, and every value a text", () => {
  const names = CHARTS.flatMap(({ figures }) => Object.keys(figures));
  assert.equal(new Set(names).size, names.length);
  for (const { text, title } of CHARTS) {
    for (const value of [0, 0.004, 0.5, 1, 37.2, 5e9]) assert.match(text(value), /\d/, title);
  }
});
