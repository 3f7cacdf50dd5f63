// Recording, with a recorder of the test's own.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Recorder, canRecord } from "../src/recorder.js";

// Can write one type, and hands over what it is told to.
function browser(type) {
  return class {
    static made;
    static isTypeSupported = (asked) => asked === type;
    state = "inactive";
    constructor(stream, { mimeType }) {
      Object.assign(this, { stream, mimeType });
      this.constructor.made = this;
    }
    start() {
      this.state = "recording";
    }
    stop() {
      this.state = "inactive";
      this.ondataavailable({ data: new Blob(["the end"]) });
      this.onstop();
    }
  };
}

function player() {
  const released = [];
  return { released, capture: () => ({ stream: "stream", release: () => released.push(true) }) };
}

test("what comes until the end is one file of the best type that there is", async () => {
  assert.ok(!canRecord(), "Node cannot");
  globalThis.MediaRecorder = browser("video/webm;codecs=vp8,opus");
  assert.ok(canRecord());
  const shown = player();
  const recorder = new Recorder(shown, { mark: false });
  const { made } = MediaRecorder;
  made.ondataavailable({ data: new Blob(["the beginning, "]) });
  recorder.stop();
  recorder.stop();
  const file = await recorder.ended;
  assert.deepEqual([file.type, await file.text()], ["video/webm", "the beginning, the end"]);
  assert.equal(shown.released.length, 1);
});

test("it stops by itself when its time is over", async () => {
  globalThis.MediaRecorder = browser("video/mp4;codecs=avc1.42E01F,mp4a.40.2");
  const recorder = new Recorder(player(), { maxS: 0.001 });
  const file = await recorder.ended;
  assert.equal(file.type, "video/mp4");
  assert.match(await file.text(), /^the end.*trainedAlgorithmicMedia/s, "it says how it was made");
});

test("a browser that can write nothing says so", () => {
  globalThis.MediaRecorder = browser("video/x");
  assert.ok(!canRecord());
  assert.throws(() => new Recorder(player()), /cannot record/);
});

test("a recording that fails is no file, and holds nothing", async () => {
  globalThis.MediaRecorder = browser("video/webm");
  const shown = player();
  const recorder = new Recorder(shown);
  MediaRecorder.made.onerror({ error: new Error("the disk is full") });
  await assert.rejects(recorder.ended, /disk is full/);
  assert.equal(shown.released.length, 1);
});
