// A session over the WebSocket `/session`: one `StreamComposite`, and coming back when it is cut.

import { keyProtocols } from "./key.js";
import { Ledger } from "./ledger.js";
import { decodeResponse, encodeAudio, encodeClear, encodeEndSegment, encodeOpen } from "./proto.js";
import { refusal } from "./refusal.js";

// A close code is 4000 + a gRPC status code. After these it makes no sense to ask again unasked; 4 is
// a session that nobody used.
const LASTING = new Set([3, 4, 5, 7, 9, 12, 16].map((status) => 4000 + status));
const UNAUTHENTICATED = 4016;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
// Messages stay small: the server reads each as a whole.
const CHUNK_S = 0.2;

// Calls `on.message(message)` for everything that comes, except what was on its way while its segment was
// interrupted, and `on.lost(reason, retryMs, needsKey)` when the session is gone (`retryMs` undefined: it will not
// come back by itself; `needsKey`: the server wants another key).
export class Session {
  #options;
  #on;
  #socket;
  #timer;
  #pauseMs = FIRST_PAUSE_MS;
  // Undefined until the session is open.
  #ledger;
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
    return this.#ledger !== undefined;
  }

  // Place on the avatar's walk of the frame that comes next.
  get nextFrame() {
    return this.#nextFrame;
  }

  // Samples that are with the server: sent, and not shown yet.
  get held() {
    return this.#ledger?.held ?? 0;
  }

  // Sends of `samples` (Int16Array) what the server has room for, and gives how many those were. The first, and the
  // first after `endSegment` or `clear`, begin a segment.
  push(samples) {
    const length = Math.min(samples.length, this.#ledger?.room ?? 0);
    const chunk = Math.max(Math.round(CHUNK_S * this.#options.sampleRateHz), 1);
    for (let at = 0; at < length; at += chunk) {
      const piece = samples.subarray(at, Math.min(at + chunk, length));
      this.#send(encodeAudio(this.#ledger.book(piece.length), piece));
    }
    return length;
  }

  // There is no more audio for the open segment. Gives its id; undefined when none is open.
  endSegment() {
    const segmentId = this.#ledger?.endSegment();
    if (segmentId !== undefined) this.#send(encodeEndSegment(segmentId));
    return segmentId;
  }

  // Interrupts everything that was sent so far.
  clear() {
    this.#ledger?.clear();
    this.#send(encodeClear());
  }

  // Ends it for good.
  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = undefined;
    this.#ledger = undefined;
    socket?.close(1000);
  }

  #connect() {
    const url = new URL("session", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, keyProtocols());
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#ledger = undefined;
    let wasReached = false;
    // Events of a socket that was replaced meanwhile mean nothing.
    const ours = (take) => (event) => {
      if (socket === this.#socket) return take(event);
    };
    socket.onopen = ours(() => {
      wasReached = true;
      socket.send(encodeOpen({ ...this.#options, startFrameIndex: this.#nextFrame }));
    });
    socket.onmessage = ours((event) => this.#receive(event.data));
    socket.onclose = ours(async (event) => {
      this.#ledger = undefined;
      // Browsers do not say why a WebSocket was refused; whoever refused it answers a plain request likewise.
      const why = wasReached ? undefined : await refusal();
      if (socket === this.#socket) this.#lose(event, why);
    });
  }

  #receive(data) {
    let message;
    try {
      message = this.#wanted(decodeResponse(new Uint8Array(data)));
    } catch (error) {
      this.close();
      this.#on.lost(`The server broke the contract: ${error.message}`, undefined);
      return;
    }
    if (message) this.#on.message(message);
  }

  // Books a message, and gives it unless its segment was interrupted; undefined also for a kind of a later version.
  #wanted(message) {
    if (!message) return undefined;
    if (this.#ledger) {
      if (!this.#ledger.receive(message)) return undefined;
      if (message.kind === "frame") this.#nextFrame = message.frameIndex + 1;
      return message;
    }
    if (message.kind !== "opened") throw new Error("the first message was not `opened`");
    this.#ledger = new Ledger(this.#options.sampleRateHz, message);
    this.#pauseMs = FIRST_PAUSE_MS;
    return message;
  }

  #lose({ code, reason }, refused) {
    const why = reason || refused || (code === 1000 ? "The session has ended" : "The connection to the server is lost");
    if (LASTING.has(code)) {
      this.#on.lost(why, undefined, code === UNAUTHENTICATED);
      return;
    }
    const pause = this.#pauseMs;
    this.#pauseMs = Math.min(pause * 2, LONGEST_PAUSE_MS);
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#on.lost(why, pause);
  }

  #send(bytes) {
    if (this.isOpened && this.#socket.readyState === WebSocket.OPEN) this.#socket.send(bytes);
  }
}
