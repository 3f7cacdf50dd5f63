// Sessions on a WebSocket of the test's own: the vectors that all clients share, and what is said when
// somebody else answers.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const FILE = new URL("../../../tests/data/session/vectors.json", import.meta.url);
const { fps, rate_hz: rateHz, max_buffered_audio_s: maxBufferedAudioS, vectors } = JSON.parse(readFileSync(FILE));

class Socket {
  static OPEN = 1;
  static last;
  readyState = Socket.OPEN;
  sent = [];

  constructor() {
    Socket.last = this;
  }

  send(bytes) {
    this.sent.push(bytes);
  }

  close() {
    this.readyState = 3;
  }

  receive(bytes) {
    this.onmessage({ data: bytes });
  }
}

globalThis.WebSocket = Socket;
globalThis.location = { href: "https://faces.example/page/" };

const { Session } = await import("../src/session.js");
const { fetchModels } = await import("../src/refusal.js");

// Protobuf, of the kinds that the vectors need.
const varint = (value) => {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
};
const number = (field, value) => (value === undefined ? [] : [...varint(field * 8), ...varint(value)]);
const message = (field, bytes) => Uint8Array.from([...varint(field * 8 + 2), ...varint(bytes.length), ...bytes]);

const OPENED = message(1, [...number(1, fps), ...number(6, maxBufferedAudioS)]);

function answer(step) {
  switch (step.server) {
    case "frame": {
      const place = [...number(4, step.audio_time_us), ...number(5, step.segment_id)];
      return message(2, [...place, ...number(10, Number(step.generated ?? false))]);
    }
    case "segment_end":
      return message(3, [...number(1, step.segment_id), ...number(2, 1)]);
    case "cleared":
      return message(4, []);
    case "warning":
      return message(5, [...message(1, new TextEncoder().encode(step.code))]);
    case "opened":
      return OPENED;
    case "unknown":
      return message(99, []);
    default:
      throw new Error(step.server);
  }
}

// What requests say, neighbouring audio of a segment added up.
function summary(requests) {
  const sent = [];
  for (const bytes of requests) {
    const [kind, ...body] = read(bytes)[0];
    const fields = new Map(read(body[0]));
    const last = sent.at(-1);
    if (kind === 2 && last?.[0] === "audio" && last[1] === fields.get(1)) last[2] += fields.get(2).length;
    else if (kind === 2) sent.push(["audio", fields.get(1), fields.get(2).length]);
    else if (kind === 3) sent.push(["end_segment", fields.get(1)]);
    else {
      assert.deepEqual([kind, fields.size], [4, 0]);
      sent.push(["clear"]);
    }
  }
  return sent;
}

// The fields of a message, which are numbers or bytes.
function read(bytes) {
  const found = [];
  let at = 0;
  const next = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = next();
    const value = next();
    if (key % 8 === 0) found.push([Math.floor(key / 8), value]);
    else found.push([Math.floor(key / 8), bytes.subarray(at, (at += value))]);
  }
  return found;
}

function open() {
  const seen = { messages: [], lost: [] };
  const options = { modelId: "a", sampleRateHz: rateHz, startFrameIndex: 0 };
  const session = new Session(options, {
    message: (message) => seen.messages.push(message),
    lost: (why, retryMs) => seen.lost.push({ why, retryMs }),
  });
  return { session, socket: Socket.last, seen };
}

function act(session, step, segmentId) {
  switch (step.act) {
    case "push": {
      // The page asks for all or nothing nowhere: what has no room is not sent.
      const samples = new Int16Array(step.n_bytes / 2);
      if (step.gives === "full") {
        const room = maxBufferedAudioS * rateHz - session.held;
        assert.ok(samples.length > room, "it is full");
        return "full";
      }
      assert.equal(session.push(samples), samples.length);
      return segmentId();
    }
    case "end_segment":
      return session.endSegment() ?? null;
    case "clear":
      session.clear();
      return null;
    default:
      throw new Error(step.act);
  }
}

function run(steps) {
  const { session, socket, seen } = open();
  socket.onopen();
  socket.receive(OPENED);
  assert.equal(seen.messages.pop().kind, "opened");
  socket.sent = [];
  for (const [n, step] of steps.entries()) {
    const what = `step ${n}: ${JSON.stringify(step)}`;
    if (step.act) {
      const gives = act(session, step, () => summary(socket.sent).at(-1)[1]);
      assert.deepEqual(gives, step.gives, what);
      assert.deepEqual(summary(socket.sent.splice(0)), step.sends, what);
    } else {
      socket.receive(answer(step));
      const gives = seen.lost.length > 0 ? "fault" : seen.messages.length > 0 ? "event" : "dropped";
      assert.equal(gives, step.gives, what);
      assert.ok(seen.messages.splice(0).length <= 1, what);
    }
    if (step.gives !== "fault") assert.equal(session.held, step.held, what);
  }
  return { session, socket, seen };
}

const ours = vectors.filter((vector) => !vector.cuts_samples);
assert.ok(ours.length >= 15);

for (const { name, steps } of ours) test(name.replaceAll("_", " "), () => void run(steps));

test("what has no room is not sent, and can be sent when frames came", () => {
  const { session, socket } = run([]);
  assert.equal(session.push(new Int16Array(9_000)), 8_000);
  assert.equal(session.push(new Int16Array(10)), 0);
  socket.receive(answer({ server: "frame", segment_id: 1, audio_time_us: 0 }));
  assert.equal(session.push(new Int16Array(9_000)), 160);
});

test("a session that broke the contract is over and does not come back", () => {
  const { session, socket, seen } = run([]);
  socket.receive(Uint8Array.of(0x12, 0x05));
  assert.equal(seen.lost.length, 1);
  assert.match(seen.lost[0].why, /broke the contract/);
  assert.equal(seen.lost[0].retryMs, undefined);
  assert.equal(session.isOpened, false);
  assert.equal(socket.readyState, 3);
});

// Opens a session whose WebSocket is refused, where `answers` is what a plain request gets.
async function refused(answers) {
  const asked = [];
  globalThis.fetch = async (path, options) => {
    asked.push([path, options.method]);
    return answers();
  };
  const { session, socket, seen } = open();
  await socket.onclose({ code: 1006, reason: "" });
  session.close();
  assert.deepEqual(asked, [["session", "POST"]]);
  assert.equal(seen.lost.length, 1);
  assert.ok(seen.lost[0].retryMs > 0, "it is tried again");
  return seen.lost[0].why;
}

const html = (status) => () => new Response("<h1>no</h1>", { status, headers: { "content-type": "text/html" } });
const text = (status, body) => () => new Response(body, { status, headers: { "content-type": "text/plain; charset=utf-8" } });

test("a proxy that refuses is named with its answer", async () => {
  assert.match(await refused(html(502)), /proxy .* answered 502 \(it does not reach the server\)/);
  assert.match(await refused(html(504)), /answered 504/);
  assert.match(await refused(html(413)), /answered 413 \(request too large\)/);
  assert.match(await refused(html(418)), /answered 418$/);
  assert.match(await refused(() => Response.error()), /a redirect, perhaps to a login/);
});

test("where the server answers itself, what it says is told", async () => {
  const differ = "sessions can be opened only by pages of this server: Origin and Host differ\n";
  assert.match(await refused(text(403, differ)), /The server refuses this page: .*Origin and Host differ$/);
  assert.match(await refused(text(426, "sessions are WebSockets\n")), /may not pass WebSockets on/);
});

test("where nobody answers, the connection is lost", async () => {
  const why = await refused(() => Promise.reject(new TypeError("no")));
  assert.equal(why, "The connection to the server is lost");
});

test("a session that was open is lost without asking", async () => {
  globalThis.fetch = () => assert.fail("nothing is asked");
  const { session, socket, seen } = run([]);
  await socket.onclose({ code: 1006, reason: "" });
  session.close();
  assert.equal(seen.lost[0].why, "The connection to the server is lost");
});

test("a session of another server is looked for there", () => {
  const urls = [];
  class Elsewhere extends Socket {
    constructor(url) {
      super();
      urls.push(String(url));
    }
  }
  const handlers = { message() {}, lost() {} };
  const options = { modelId: "a", sampleRateHz: rateHz, WebSocket: Elsewhere };
  for (const server of [
    undefined,
    "http://faces.example:8080",
    "https://faces.example/lips/",
    "ws://faces.example:8080",
    "wss://faces.example/lips/",
    "WSS://faces.example",
  ]) {
    new Session({ ...options, server }, handlers).close();
  }
  assert.deepEqual(urls, [
    "wss://faces.example/page/session",
    "ws://faces.example:8080/session",
    "wss://faces.example/lips/session",
    "ws://faces.example:8080/session",
    "wss://faces.example/lips/session",
    "wss://faces.example/session",
  ]);
  for (const server of ["faces.example:8080", "127.0.0.1:8080", "ftp://faces.example", "grpc://faces.example", ""]) {
    assert.throws(() => new Session({ ...options, server }, handlers), /expected an address such as https/, server);
  }
});

test("a request to a server that is named as a WebSocket goes to its http", async () => {
  const asked = [];
  globalThis.fetch = async (url) => {
    asked.push(String(url));
    return new Response("[]", { headers: { "content-type": "application/json" } });
  };
  for (const server of ["wss://faces.example/lips/", "ws://faces.example:8080"]) await fetchModels({ server });
  assert.deepEqual(asked, ["https://faces.example/lips/api/models", "http://faces.example:8080/api/models"]);
});

test("a key that is none is refused without repeating it", () => {
  for (const key of ["", "hunter2\n", "hunter2 hunter2", "h\u00fcnter2"]) {
    const wrong = (error) => /the key is empty, or has/.test(error.message) && !error.message.includes("unter2");
    assert.throws(() => new Session({ modelId: "a", sampleRateHz: rateHz, key }, {}), wrong);
  }
});

test("a connection that cannot be made is told also where only an error says so", async () => {
  globalThis.fetch = () => Promise.reject(new TypeError("no"));
  const { session, socket, seen } = open();
  const told = new Promise((resolve) => (seen.told = resolve));
  socket.onerror({});
  // Of a browser, which tells both, it is lost once.
  await socket.onclose({ code: 1006, reason: "" });
  setTimeout(seen.told, 10);
  await told;
  assert.equal(seen.lost.length, 1);
  session.close();

  const alone = open();
  alone.socket.onerror({});
  while (alone.seen.lost.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(alone.seen.lost[0].why, "The connection to the server is lost");
  alone.session.close();
});

test("a foreign page is told which key would let it in", async () => {
  globalThis.location.origin = "https://mine.example";
  globalThis.fetch = () => Promise.reject(new TypeError("no"));
  const lost = [];
  const options = { modelId: "a", sampleRateHz: rateHz, server: "http://faces.example:8080/" };
  const session = new Session(options, { message() {}, lost: (why) => lost.push(why) });
  await Socket.last.onclose({ code: 1006, reason: "" });
  session.close();
  delete globalThis.location.origin;
  assert.match(lost[0], /http:\/\/faces.example:8080 .*operations.allowed_origins must have "https:\/\/mine.example"/);
});

test("what was finished ends, and does not come back", () => {
  const ended = [];
  const options = { modelId: "a", sampleRateHz: rateHz };
  const session = new Session(options, { message() {}, lost: (why) => ended.push(why), ended: () => ended.push(true) });
  const socket = Socket.last;
  socket.onopen();
  socket.receive(OPENED);
  assert.equal(session.push(new Int16Array(160)), 160);
  assert.equal(session.segmentId, 1);
  socket.sent = [];
  session.finish();
  session.finish();
  assert.deepEqual(socket.sent.map((bytes) => bytes.length > 0), [true, false], "the end of the segment, then of all");
  assert.equal(session.push(new Int16Array(160)), 0);
  return Promise.resolve(socket.onclose({ code: 1000, reason: "" })).then(() => assert.deepEqual(ended, [true]));
});

test("where there is no WebSocket, that is said", () => {
  const kept = globalThis.WebSocket;
  globalThis.WebSocket = undefined;
  assert.throws(() => new Session({ modelId: "a", sampleRateHz: rateHz }, {}), /no WebSocket .*options.WebSocket/);
  globalThis.WebSocket = kept;
});

test("a server that hangs is told after 2 s, and given up after 10 s", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const wait = (ms) => {
    for (const end = now + ms; now < end; ) {
      now += 50;
      t.mock.timers.tick(50);
    }
  };
  const seen = [];
  const options = { modelId: "a", sampleRateHz: rateHz };
  const session = new Session(options, {
    message() {},
    lost: (why, retryMs) => seen.push([why, retryMs]),
    silent: (isSilent) => seen.push(isSilent),
  });
  const socket = Socket.last;
  socket.onopen();
  // A model may take long to load.
  wait(30_000);
  assert.deepEqual(seen, []);
  socket.receive(OPENED);
  wait(2500);
  assert.deepEqual(seen, [true]);
  socket.receive(answer({ server: "frame", segment_id: 0 }));
  assert.deepEqual(seen, [true, false]);
  wait(10_500);
  assert.equal(session.isOpened, false);
  assert.deepEqual(seen.slice(2), [true, ["The server has said nothing for 10 s", 500]]);
  wait(600);
  assert.notEqual(Socket.last, socket, "it asks again");
  session.close();
});

test("a key goes with the socket and with every request, and never into an address", async () => {
  const opened = [];
  class Keyed extends Socket {
    constructor(url, protocols) {
      super();
      opened.push([String(url), protocols]);
    }
  }
  const asked = [];
  globalThis.fetch = async (url, { headers }) => {
    asked.push([String(url), headers]);
    return new Response("a valid key is wanted\n", { status: 401, headers: { "content-type": "text/plain" } });
  };
  const lost = [];
  const options = { modelId: "a", sampleRateHz: rateHz, key: "s3cret", WebSocket: Keyed };
  new Session(options, { message() {}, lost: (...what) => lost.push(what) });
  assert.deepEqual(opened, [["wss://faces.example/page/session", ["lipsync.v1", "lipsync-key.s3cret"]]]);
  Socket.last.onopen();
  await Socket.last.onclose({ code: 4016, reason: "UNAUTHENTICATED: a valid key is wanted" });
  assert.deepEqual(lost, [["UNAUTHENTICATED: a valid key is wanted", undefined, true]]);
  const { fetchModels } = await import("../src/refusal.js");
  await assert.rejects(fetchModels({ key: "s3cret" }), { message: "This server wants a key", needsKey: true });
  assert.deepEqual(asked, [["api/models", { authorization: "Bearer s3cret" }]]);
});
