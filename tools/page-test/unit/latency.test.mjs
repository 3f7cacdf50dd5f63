// What the page measures of its own waiting.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Latency } from "../../../crates/server/page/latency.js";

const frame = (segmentId, audioTimeUs) => ({ segmentId, audioTimeUs });

test("a segment's first frame counts, from its first audio", () => {
  const latency = new Latency();
  latency.sent(1, 100);
  latency.sent(1, 120);
  latency.came(frame(0, undefined), 130);
  latency.came(frame(1, 0), 160);
  latency.came(frame(1, 40_000), 200);
  latency.shown(frame(1, 0), 310);
  latency.shown(frame(1, 40_000), 350);
  assert.deepEqual([latency.firstFrameMs, latency.shownMs, latency.interruptionMs], [60, 210, undefined]);
});

test("what was interrupted before it came is no measurement", () => {
  const latency = new Latency();
  latency.sent(1, 0);
  latency.interrupted(10);
  latency.sent(2, 20);
  latency.came(frame(1, 0), 25);
  latency.cleared(26);
  latency.came(frame(2, 0), 50);
  assert.deepEqual([latency.firstFrameMs, latency.interruptionMs], [30, 16]);
});

test("a new session counts its segments anew", () => {
  const latency = new Latency();
  latency.sent(5, 0);
  latency.interrupted(1);
  latency.restart();
  latency.cleared(500);
  latency.sent(1, 1000);
  latency.came(frame(1, 0), 1040);
  assert.deepEqual([latency.firstFrameMs, latency.interruptionMs], [40, undefined]);
});
