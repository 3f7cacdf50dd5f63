// The codec against bytes that Google's protobuf for Python wrote from the same proto file.

import assert from "node:assert/strict";
import test from "node:test";

import * as proto from "../src/protocol.js";

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const bytes = (text) => new Uint8Array(Buffer.from(text, "hex"));
const decode = (text) => proto.decodeResponse(bytes(text));

test("requests are what the reference writes", () => {
  const open = proto.encodeOpen({ modelId: "mira", sampleRateHz: 48000, quality: 80 });
  assert.equal(hex(open), "0a1c0a046d69726110011880f70220012801320408011050380240014801");
  const again = { modelId: "a", sampleRateHz: 16_000, startFrameIndex: 9, resumable: true, resumeToken: bytes("6162") };
  assert.equal(hex(proto.encodeOpen(again)), "0a1e0a0161100118807d2001280132020801380240014801500960016a026162");
  const audio = proto.encodeAudio(300, Int16Array.of(1, -1, -32768, 32767));
  assert.equal(hex(audio), "120d08ac0212080100ffff0080ff7f");
  assert.equal(hex(proto.encodeEndSegment(2 ** 40 + 5)), "1a0708858080808020");
  assert.equal(hex(proto.encodeClear()), "2200");
  assert.equal(hex(proto.encodeClear(7)), "22020807");
  assert.equal(hex(proto.encodeClear(0)), "22020800");
});

test("responses are read as the reference wrote them", () => {
  assert.deepEqual(decode("0a15081910800a18d005220361766528c503303c38d00f"), {
    kind: "opened", fps: 25, width: 1280, height: 720, audioKind: "ave", lookAheadMs: 453, maxBufferedAudioS: 60,
    maxUnsentMs: 2000, frameBufferMs: 0, resumeToken: bytes(""), resumeContextMs: 0, resumed: undefined,
  });
  const frame = "1228080710031880c0ddeec10220002802300138800a40d0054a08080110021803200450015a03ffd8ff";
  assert.deepEqual(decode(frame), {
    kind: "frame", frameIndex: 7, backgroundIndex: 3, ptsUs: 86_400_000_000, audioTimeUs: 0, segmentId: 2, format: 1,
    width: 1280, height: 720, region: { x: 1, y: 2, width: 3, height: 4 }, generated: true, data: bytes("ffd8ff"),
    audio: undefined, resumeToken: bytes(""),
  });
  assert.deepEqual(decode("120718c0b8025a01ff"), {
    kind: "frame", frameIndex: 0, backgroundIndex: 0, ptsUs: 40_000, audioTimeUs: undefined, segmentId: 0, format: 0,
    width: 0, height: 0, region: { x: 0, y: 0, width: 0, height: 0 }, generated: false, data: bytes("ff"),
    audio: undefined, resumeToken: bytes(""),
  });
  // Made by protobuf: Opened { fps: 25, resume_token: "ab", resume_context_ms: 560, resumed { segment_id: 1, first_item:
  // 3200, next_audio_time_us: 640000, next_pts_us: 680000, next_frame_index: 17 } }.
  const resumed = decode("0a1d0819fa010261628002b0048a020f08011080191880882720c0c0292811");
  assert.deepEqual([resumed.resumeToken, resumed.resumeContextMs], [bytes("6162"), 560]);
  assert.deepEqual(resumed.resumed, {
    segmentId: 1, firstItem: 3200, nextAudioTimeUs: 640_000, nextPtsUs: 680_000, nextFrameIndex: 17,
  });
  assert.deepEqual(decode("1a0408021009"), { kind: "segmentEnd", segmentId: 2, nFrames: 9 });
  assert.deepEqual(decode("220408001001"), {
    kind: "cleared", segmentId: 0, lastPtsUs: 1, lastAudioTimeUs: undefined,
  });
  assert.deepEqual(decode("2a0a0a046c6174651202c3a9"), { kind: "warning", code: "late", text: "é" });
});

test("fields of a later version are skipped, whatever their kind", () => {
  // Of SegmentEnd: 100 as a number, 101 as 8 bytes, 102 as bytes, 103 as 4 bytes, then 1 = 2.
  assert.deepEqual(decode("1a1aa00601a9060102030405060708b20602aabbbd06010203040802"), {
    kind: "segmentEnd", segmentId: 2, nFrames: 0,
  });
  assert.equal(decode("fa0100"), undefined);
});

test("a broken message is an error and no endless loop", () => {
  for (const text of ["1a05", "1a04ffffffff", "ff", "1a0308ffff", "1b", `1a0b08${"ff".repeat(10)}`]) {
    assert.throws(() => decode(text), RangeError, text);
  }
});
