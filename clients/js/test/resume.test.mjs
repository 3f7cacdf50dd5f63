// Sessions that are cut and go on: what is said again to a server that goes on, and what happens where none does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Spoken } from "../src/spoken.js";

const RATE = 1000;

class Socket {
  static all = [];
  readyState = 1;
  sent = [];

  constructor() {
    Socket.all.push(this);
  }

  send(bytes) {
    this.sent.push(bytes);
  }

  close() {
    this.readyState = 3;
  }

  receive(bytes) {
    this.onmessage({ data: Uint8Array.from(bytes) });
  }
}

globalThis.location = { href: "https://faces.example/page/" };
const { Session } = await import("../src/session.js");

// Protobuf, as far as the test needs it: numbers below 128 x 128, and bytes.
const varint = (value) => (value > 127 ? [(value % 128) | 128, ...varint(Math.floor(value / 128))] : [value]);
const number = (field, value) => [...varint(field * 8), ...varint(value)];
const bytes = (field, value) => [...varint(field * 8 + 2), ...varint(value.length), ...value];
const OPENED = [...number(1, 25), ...number(6, 10), ...bytes(31, [1]), ...number(32, 400)];
const opened = (...more) => bytes(1, [...OPENED, ...more]);
const frame = (segment, n) =>
  bytes(2, [...number(1, n), ...number(4, n * 40_000), ...number(5, segment), ...bytes(11, [9]), ...bytes(31, [2, n])]);
const resumed = (segment, item) => bytes(33, [...number(1, segment), ...number(2, item)]);

function open() {
  const seen = [];
  const session = new Session(
    { modelId: "a", sampleRateHz: RATE, WebSocket: Socket },
    {
      message: ({ kind }) => seen.push(kind),
      resumed: (message) => seen.push(["resumed", message.resumed.firstItem]),
      lost: (why, retryMs) => seen.push(["lost", retryMs]),
      ended: () => seen.push("ended"),
    },
  );
  const socket = Socket.all.at(-1);
  socket.onopen();
  socket.receive(opened());
  return { session, socket, seen };
}

// The next socket, once the timers are run.
async function next(t, ms = 0) {
  const count = Socket.all.length;
  t.mock.timers.tick(ms);
  await Promise.resolve();
  assert.equal(Socket.all.length, count + 1, "it connects again");
  const socket = Socket.all.at(-1);
  socket.onopen();
  return socket;
}

const kinds = (socket) => socket.sent.map((sent) => (sent.length ? sent[0] >> 3 : 0));

test("what was not shown is said again, from where the server wants it", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { session, socket, seen } = open();
  assert.equal(session.push(Int16Array.from({ length: 1000 }, (_, n) => n)), 1000);
  assert.equal(session.endSegment(), 1);
  assert.equal(session.push(new Int16Array(100)), 100);
  for (let n = 0; n < 15; n += 1) socket.receive(frame(1, n));
  await socket.onclose({ code: 1006, reason: "" });
  assert.equal(session.isOpened, false);
  assert.equal(session.push(new Int16Array(10)), 0, "not now");
  assert.equal(session.endSegment(), 2, "but this is kept");
  const again = await next(t);
  assert.ok(again.sent[0].includes(14), "the last token goes with it");
  again.receive(opened(...resumed(1, 200)));
  assert.deepEqual(seen.slice(-2), ["frame", ["resumed", 200]]);
  // Open, four pieces of at most 200 samples, their end, the next segment, and its end.
  assert.deepEqual(kinds(again), [1, 2, 2, 2, 2, 3, 2, 3]);
  const first = again.sent[1];
  assert.deepEqual([...first.subarray(-400, -396)], [200, 0, 201, 0], "samples from 200 on");
  assert.equal(session.nextFrame, 15);
  again.receive(frame(1, 15));
  assert.equal(session.push(new Int16Array(10)), 10);
  assert.equal(session.segmentId, 3);
  session.close();
});

test("a session that was finished goes on to its end", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { session, socket, seen } = open();
  session.push(new Int16Array(500));
  session.finish();
  await socket.onclose({ code: 4014, reason: "UNAVAILABLE: draining" });
  const again = await next(t);
  again.receive(opened(...resumed(0, 0)));
  assert.equal(kinds(again).at(-1), 0, "the empty message");
  await again.onclose({ code: 1000, reason: "" });
  assert.equal(seen.at(-1), "ended");
});

test("where no server can go on, the session is lost and begins anew", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { session, socket, seen } = open();
  session.push(new Int16Array(500));
  socket.receive(frame(1, 0));
  await socket.onclose({ code: 1006, reason: "" });
  const again = await next(t);
  again.receive(opened());
  assert.deepEqual(seen.slice(-2), [["lost", 0], "opened"]);
  assert.deepEqual(kinds(again), [1], "nothing is said again");
  session.close();
});

test("it is tried for two seconds, and never after a refusal that would come again", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  t.mock.method(performance, "now", () => now);
  globalThis.fetch = () => Promise.reject(new TypeError("no"));
  const { session, socket, seen } = open();
  await socket.onclose({ code: 1006, reason: "" });
  for (const pause of [0, 100, 200, 400, 800]) {
    now += pause;
    const again = await next(t, pause);
    assert.equal(seen.at(-1), "opened", "not lost yet");
    await again.onclose({ code: 1006, reason: "" });
  }
  assert.deepEqual(seen.at(-1), ["lost", 500]);
  session.close();

  const other = open();
  await other.socket.onclose({ code: 4005, reason: "NOT_FOUND: no such model" });
  assert.deepEqual(other.seen.at(-1), ["lost", undefined]);
});

test("a session that is cut again before it shows anything is lost", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { session, socket, seen } = open();
  await socket.onclose({ code: 1006, reason: "" });
  const again = await next(t);
  again.receive(opened(...resumed(0, 0)));
  await again.onclose({ code: 1006, reason: "" });
  assert.deepEqual(seen.at(-1), ["lost", 500]);
  session.close();
});

test("what was shown is forgotten but for its context", () => {
  const spoken = new Spoken(RATE);
  spoken.opened({ fps: 25, resumeContextMs: 400 });
  const audio = Int16Array.from({ length: 2000 }, (_, n) => n);
  for (let at = 0; at < 2000; at += 100) spoken.push(3, audio.subarray(at, at + 100));
  assert.equal(spoken.endSegment(), 3);
  assert.equal(spoken.endSegment(), undefined);
  spoken.receive({ kind: "frame", segmentId: 3, audioTimeUs: 24 * 40_000 });
  const [again] = spoken.again({ segmentId: 3, firstItem: 640 });
  assert.deepEqual([again.segmentId, again.firstItem, again.isEnded], [3, 640, true]);
  assert.deepEqual(again.pieces.flatMap((piece) => [...piece]), [...audio.subarray(640)]);
  assert.ok(spoken.again({ segmentId: 3, firstItem: 600 }));
  assert.equal(spoken.again({ segmentId: 3, firstItem: 599 }), undefined);
  spoken.receive({ kind: "segmentEnd", segmentId: 3 });
  assert.deepEqual(spoken.again({ segmentId: 3, firstItem: 0 }), []);
});
