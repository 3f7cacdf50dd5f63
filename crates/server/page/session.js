// A session over the WebSocket `/session`: one `StreamComposite`, and coming back when it is cut.

import { decodeResponse, encodeAudio, encodeClear, encodeEndSegment, encodeOpen } from "./proto.js";

// A close code is 4000 + a gRPC status code. After these it makes no sense to ask again unasked; 4 is
// a session that nobody used.
const LASTING = new Set([3, 4, 5, 7, 9, 12, 16].map((status) => 4000 + status));
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

// Calls `on.message(message)` for everything that comes, `on.lost(reason, retryMs)` when the session
// is gone (`retryMs` undefined: it will not come back by itself).
export class Session {
  #options;
  #on;
  #socket;
  #timer;
  #pauseMs = FIRST_PAUSE_MS;
  #segmentId = 0;
  #isOpened = false;
  // Where the avatar's walk goes on after a reconnection.
  #nextFrame = 0;

  constructor(options, on) {
    this.#options = options;
    this.#on = on;
    this.#nextFrame = options.startFrameIndex;
    this.#connect();
  }

  // Whether audio can be sent.
  get isOpened() {
    return this.#isOpened;
  }

  // Place on the avatar's walk of the frame that comes next.
  get nextFrame() {
    return this.#nextFrame;
  }

  // Begins a segment and gives its id; it ends the one before.
  beginSegment() {
    this.#segmentId += 1;
    return this.#segmentId;
  }

  // Sends samples (Int16Array) of the segment.
  sendAudio(segmentId, samples) {
    this.#send(encodeAudio(segmentId, samples));
  }

  // There is no more audio for the segment.
  endSegment(segmentId) {
    this.#send(encodeEndSegment(segmentId));
  }

  // Interrupts everything that was sent so far, and gives the last segment of that.
  clear() {
    this.#send(encodeClear());
    return this.#segmentId;
  }

  // Ends it for good.
  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = undefined;
    this.#isOpened = false;
    socket?.close(1000);
  }

  #connect() {
    const url = new URL("session", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#segmentId = 0;
    this.#isOpened = false;
    // Events of a socket that was replaced meanwhile mean nothing.
    const ours = (take) => (event) => {
      if (socket === this.#socket) take(event);
    };
    socket.onopen = ours(() => socket.send(encodeOpen({ ...this.#options, startFrameIndex: this.#nextFrame })));
    socket.onmessage = ours((event) => this.#receive(event.data));
    socket.onclose = ours((event) => this.#lose(event));
  }

  #receive(data) {
    const message = decodeResponse(new Uint8Array(data));
    if (message?.kind === "opened") {
      this.#isOpened = true;
      this.#pauseMs = FIRST_PAUSE_MS;
    }
    if (message?.kind === "frame") this.#nextFrame = message.frameIndex + 1;
    if (message) this.#on.message(message);
  }

  #lose({ code, reason }) {
    this.#isOpened = false;
    const why = reason || (code === 1000 ? "The session has ended" : "The connection to the server is lost");
    if (LASTING.has(code)) {
      this.#on.lost(why, undefined);
      return;
    }
    const pause = this.#pauseMs;
    this.#pauseMs = Math.min(pause * 2, LONGEST_PAUSE_MS);
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#on.lost(why, pause);
  }

  #send(bytes) {
    if (this.#isOpened && this.#socket.readyState === WebSocket.OPEN) this.#socket.send(bytes);
  }
}
