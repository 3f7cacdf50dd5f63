// The player on a sound card and a clock of the test's own.

import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.document = { hidden: true };
globalThis.requestAnimationFrame = () => {};

const { Player } = await import("../src/player.js");

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

test("a face is drawn on its background, at its place", async () => {
  const drawn = [];
  const pen = { canvas: { width: 0, height: 0 }, drawImage: (bitmap, x, y) => drawn.push([bitmap.name, x, y]) };
  let draw;
  globalThis.requestAnimationFrame = (next) => (draw = next);
  globalThis.createImageBitmap = async (blob) => {
    const name = await blob.text();
    const [width, height] = name === "face" ? [30, 20] : [160, 90];
    return { name, width, height, close() {} };
  };
  globalThis.document.hidden = false;
  const shown = [];
  const player = new Player({ getContext: () => pen }, (frame) => shown.push(frame.backgroundIndex));
  player.backgrounds = { get: async (index) => new Blob([`background ${index}`]) };
  const data = new TextEncoder().encode("face");
  const whole = new TextEncoder().encode("whole");
  const region = { x: 40, y: 50, width: 30, height: 20 };
  const base = { audioTimeUs: undefined, segmentId: 0, region };
  player.push({ ...base, ptsUs: 0, backgroundIndex: 7, width: 30, height: 20, data });
  await untilDrawn(1);
  assert.deepEqual(drawn.splice(0), [["background 7", 0, 0], ["face", 40, 50]]);
  assert.deepEqual([pen.canvas.width, pen.canvas.height], [160, 90]);
  player.push({ ...base, ptsUs: 40_000, backgroundIndex: 8, width: 160, height: 90, data: whole });
  await untilDrawn(2);
  assert.deepEqual(drawn, [["whole", 0, 0]]);
  globalThis.document.hidden = true;

  async function untilDrawn(n) {
    while (shown.length < n) {
      await new Promise((go) => setImmediate(go));
      draw();
    }
  }
});

test("loudness follows the slider, and silence is silence", () => {
  const { context } = soundCard();
  const gains = [];
  const make = context.createGain;
  context.createGain = () => {
    const node = make();
    gains.push(node.gain);
    return node;
  };
  const player = new Player({ getContext: () => ({}) });
  player.volume = 0.5;
  player.connect(context);
  assert.equal(gains[0].value, 0.25);
  player.isMuted = true;
  assert.equal(gains[0].value, 0);
  player.isMuted = false;
  player.volume = 7;
  assert.equal(gains[0].value, 1);
});

test("what is captured has the picture, and the voice before the volume", () => {
  const { context } = soundCard();
  const links = [];
  const make = context.createGain;
  context.createGain = () => {
    const node = make();
    node.connect = (to) => links.push([node, to]);
    node.disconnect = (from) => links.splice(links.findIndex(([a, b]) => a === node && b === from), 1);
    return node;
  };
  const [picture, voice] = ["video", "audio"].map((kind) => ({ kind, isLive: true, stop() { this.isLive = false; } }));
  const tap = { stream: { getAudioTracks: () => [voice] } };
  context.createMediaStreamDestination = () => tap;
  const tracks = [picture];
  const stream = { addTrack: (track) => tracks.push(track), getTracks: () => tracks };
  const player = new Player({ getContext: () => ({ canvas: { captureStream: () => stream } }) });
  player.capture().release();
  assert.deepEqual(tracks.splice(1), [], "without sound there is only the picture");
  player.connect(context);
  const { release } = player.capture();
  assert.deepEqual(tracks, [picture, voice]);
  const toTap = links.find(([, to]) => to === tap);
  const toCard = links.find(([, to]) => to === context.destination);
  assert.ok(toTap && toTap[0] !== toCard[0], "not behind the volume");
  release();
  assert.ok(!picture.isLive && !voice.isLive && !links.some(([, to]) => to === tap));
});
