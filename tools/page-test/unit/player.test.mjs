// The player on a sound card and a clock of the test's own.

import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.document = { hidden: true };
globalThis.requestAnimationFrame = () => {};

const { Player } = await import("../../../crates/server/page/player.js");

const RATE = 16_000;
const SLICE = 640;

// A sound card that notes when each slice begins, in samples.
function soundCard() {
  const starts = [];
  const gain = () => ({ gain: { setTargetAtTime() {} }, connect() {}, disconnect() {} });
  const context = {
    state: "running",
    currentTime: 0,
    sampleRate: RATE,
    destination: {},
    addEventListener() {},
    createGain: gain,
    createBuffer: (_channels, length) => ({ getChannelData: () => new Float32Array(length) }),
    createBufferSource: () => ({ connect() {}, start: (at) => starts.push(Math.round(at * RATE)) }),
  };
  return { context, starts };
}

function frame(n, isLoud) {
  const audio = new Uint8Array(new Int16Array(SLICE).fill(isLoud ? 9000 : 20).buffer);
  return { ptsUs: n * 40_000, audioTimeUs: n * 40_000, segmentId: 1, generated: isLoud, audio };
}

// Plays frames, each arriving when `arrival(n)` says, in s, and gives when they were heard.
function play(nFrames, arrival, isLoud) {
  const { context, starts } = soundCard();
  const player = new Player({ getContext: () => ({}) }, () => {});
  player.connect(context);
  for (let n = 0; n < nFrames; n += 1) {
    context.currentTime = arrival(n);
    player.push(frame(n, isLoud(n)));
  }
  return { starts, lead: starts.at(-1) / RATE - context.currentTime };
}

// A second late from frame 50 on, then a tenth sooner each until that is made up for.
const stalled = (n) => n * 0.04 + (n < 50 ? 0 : Math.max(1 - (n - 50) * 0.004, 0));

test("slices follow each other without a gap", () => {
  const { starts } = play(100, (n) => n * 0.04, () => true);
  assert.equal(starts.length, 100);
  for (let n = 1; n < starts.length; n += 1) assert.equal(starts[n] - starts[n - 1], SLICE);
});

test("after a stall, silence is left out until the voice is as near as before", () => {
  const { starts, lead } = play(600, stalled, (n) => n % 25 < 20);
  assert.ok(lead < 0.15 + 0.12 + 0.05, `${lead}`);
  const nLeftOut = 600 - starts.length;
  assert.ok(nLeftOut >= 15 && nLeftOut <= 25, `${nLeftOut}`);
  const gaps = starts.slice(1).map((start, n) => start - starts[n]);
  // Only the stall itself is heard as a gap.
  assert.deepEqual(gaps.filter((gap) => gap !== SLICE).length, 1);
});

test("speech is never left out", () => {
  const { starts } = play(600, stalled, () => true);
  assert.equal(starts.length, 600);
});
