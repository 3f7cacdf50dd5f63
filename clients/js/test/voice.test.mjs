// The voice gate on made-up rooms.

import assert from "node:assert/strict";
import test from "node:test";

import { VoiceGate, toPcm } from "../src/voice.js";

const RATE = 48_000;
const BLOCK = 960;

// Blocks of a tone of this loudness.
function* tone(seconds, level) {
  for (let at = 0; at < seconds * RATE; at += BLOCK) {
    yield Float32Array.from({ length: BLOCK }, (_, i) => level * Math.SQRT2 * Math.sin((at + i) * 0.05));
  }
}

function run(gate, ...parts) {
  const seen = { begins: 0, ends: 0, blocks: 0 };
  for (const part of parts) {
    for (const block of part) {
      const { begins, ends, samples } = gate.push(block);
      seen.begins += begins;
      seen.ends += ends;
      seen.blocks += samples.length;
    }
  }
  return seen;
}

test("a sentence begins with what was just before it and ends after a pause", () => {
  const seen = run(new VoiceGate(RATE), tone(2, 0.001), tone(1, 0.1), tone(2, 0.001));
  assert.deepEqual([seen.begins, seen.ends], [1, 1]);
  const seconds = (seen.blocks * BLOCK) / RATE;
  assert.ok(seconds > 1 + 0.8 + 0.2 && seconds < 1 + 0.8 + 0.4, `${seconds} s`);
});

test("pauses between words do not cut it", () => {
  const words = [tone(0.4, 0.1), tone(0.5, 0.002), tone(0.4, 0.08), tone(0.5, 0.002), tone(0.4, 0.1)];
  const seen = run(new VoiceGate(RATE), tone(1, 0.002), ...words, tone(2, 0.002));
  assert.deepEqual([seen.begins, seen.ends], [1, 1]);
});

test("silence, a click and a loud room are no speech", () => {
  assert.equal(run(new VoiceGate(RATE), tone(5, 0)).begins, 0);
  assert.equal(run(new VoiceGate(RATE), tone(2, 0.001), tone(0.02, 0.5), tone(2, 0.001)).begins, 0);
  // A fan: at most taken for speech until the floor has risen to it.
  const gate = new VoiceGate(RATE);
  run(gate, tone(1, 0.001), tone(20, 0.02));
  assert.deepEqual(run(gate, tone(5, 0.02)), { begins: 0, ends: 0, blocks: 0 });
  assert.equal(run(gate, tone(1, 0.2)).begins, 1);
});

test("the first sound may come out of perfect silence", () => {
  assert.equal(run(new VoiceGate(RATE), tone(3, 0), tone(1, 0.05)).begins, 1);
});

test("samples are clipped at full scale", () => {
  assert.deepEqual([...toPcm(Float32Array.of(0, 1, -1, 2, -2, 0.5))], [0, 32767, -32767, 32767, -32767, 16384]);
});
