// A session over the WebSocket `/session`: one `StreamComposite`, and coming back when it is cut.

import { socketUrl } from "./address.js";
import { isKey, keyProtocols } from "./key.js";
import { Ledger } from "./ledger.js";
import { Pacing, decodeResponse, encodeAudio, encodeClear, encodeEndSegment, encodeOpen } from "./protocol.js";
import { refusal } from "./refusal.js";
import { Spoken } from "./spoken.js";
import { Watch } from "./watch.js";

// A close code is 4000 + a gRPC status code. After these it makes no sense to ask again unasked; 4 is
// a session that nobody used.
const LASTING = new Set([3, 4, 5, 7, 9, 12, 16].map((status) => 4000 + status));
const UNAUTHENTICATED = 4016;
// So a session ends whose connection or server is gone: another one may go on with it.
const CUT = new Set([1001, 1005, 1006, 1011, 1012, 1013, 4001, 4002, 4013, 4014]);
// How long that is tried before the session is lost, and the first pause between two attempts.
const RESUME_WITHIN_MS = 2_000;
const RESUME_PAUSE_MS = 100;
// A session that was resumed and is cut again within this time, before it showed anything, is lost.
const IN_VAIN_MS = 5_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
// Messages stay small: the server reads each as a whole.
const CHUNK_S = 0.2;
// A server of which nothing is heard for so long hangs, or the link is dead; then the connection is given up.
const SILENT_MS = 2_000;
const DEAD_MS = 10_000;

// Calls
// - `on.message(message)` for everything that comes, except what was on its way while its segment was interrupted;
// - `on.resumed(opened)`, if there is one, when a session that was cut goes on behind the last frame that came:
//   nothing of what was said is missing, and nothing comes twice;
// - `on.lost(reason, retryMs, needsKey)` when the session is gone (`retryMs` undefined: it will not come back by itself;
//   `needsKey`: the server wants another key);
// - `on.silent(isSilent)`, if there is one, when nothing was heard for 2 s although something should have been, and
//   when something is heard again;
// - `on.ended()`, if there is one, when the server has sent everything after `finish`.
export class Session {
  #options;
  #on;
  #socket;
  #timer;
  #watch;
  #pauseMs = FIRST_PAUSE_MS;
  // Undefined until the session is open.
  #ledger;
  #isFinished = false;
  // Where the avatar's walk goes on after a reconnection.
  #nextFrame = 0;
  // With which a server goes on behind the last frame; empty where none can.
  #token = new Uint8Array();
  #spoken;
  // While that is tried: { until, pauseMs }.
  #resuming;
  // When a session was resumed that has not shown anything yet.
  #resumedAt;
  // The segment that was begun last in the session that was cut.
  #newest = 0;

  constructor(options, on) {
    this.#options = { startFrameIndex: 0, ...options };
    if (!this.#WebSocket) {
      throw new Error("this platform has no WebSocket (Node has one since version 22): give one as options.WebSocket");
    }
    // The platform's own error would repeat it.
    if (options.key !== undefined && !isKey(options.key)) {
      throw new Error("the key is empty, or has characters that no key has");
    }
    this.#on = on;
    this.#nextFrame = this.#options.startFrameIndex;
    this.#spoken = new Spoken(this.#options.sampleRateHz);
    this.#watch = new Watch([SILENT_MS, DEAD_MS], (level) => this.#hush(level));
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

  // The segment that is open: what is pushed next belongs to it. Undefined when none is.
  get segmentId() {
    return this.#ledger?.segmentId;
  }

  // Samples that are with the server: sent, and not shown yet.
  get held() {
    return this.#ledger?.held ?? 0;
  }

  // Sends of `samples` (Int16Array) what the server has room for, and gives how many those were. The first, and the
  // first after `endSegment` or `clear`, begin a segment.
  push(samples) {
    if (this.#isFinished) return 0;
    const length = Math.min(samples.length, this.#ledger?.room ?? 0);
    const chunk = Math.max(Math.round(CHUNK_S * this.#options.sampleRateHz), 1);
    for (let at = 0; at < length; at += chunk) {
      const piece = samples.slice(at, Math.min(at + chunk, length));
      const segmentId = this.#ledger.book(piece.length);
      if (this.#token.length > 0) this.#spoken.push(segmentId, piece);
      this.#send(encodeAudio(segmentId, piece));
    }
    return length;
  }

  // There is no more audio for the open segment. Gives its id; undefined when none is open.
  endSegment() {
    if (this.#resuming) return this.#spoken.endSegment();
    const segmentId = this.#ledger?.endSegment();
    this.#spoken.endSegment();
    if (segmentId !== undefined) this.#send(encodeEndSegment(segmentId));
    return segmentId;
  }

  // Interrupts everything that was sent so far.
  clear() {
    this.#ledger?.clear();
    this.#spoken.clear();
    this.#send(encodeClear());
  }

  // There is no more to say. What was said is still shown, then `on.ended()` is called.
  finish() {
    if (this.#isFinished || !(this.isOpened || this.#resuming)) return;
    this.endSegment();
    this.#isFinished = true;
    // It is said when everything else was said again.
    if (this.#resuming) return;
    // A WebSocket cannot be closed in one direction only; an empty message stands for that.
    this.#send(new Uint8Array());
  }

  // Ends it for good.
  close() {
    clearTimeout(this.#timer);
    this.#watch.stop();
    const socket = this.#socket;
    this.#socket = undefined;
    this.#ledger = undefined;
    this.#resuming = undefined;
    socket?.close(1000);
  }

  get #WebSocket() {
    return this.#options.WebSocket ?? globalThis.WebSocket;
  }

  #connect() {
    const url = socketUrl("session", this.#options.server);
    const socket = new this.#WebSocket(url, keyProtocols(this.#options.key));
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#ledger = undefined;
    const resumeToken = this.#resuming ? this.#token : undefined;
    this.#watch.start();
    let wasReached = false;
    // Events of a socket that was replaced meanwhile mean nothing.
    const ours = (take) => (event) => {
      if (socket === this.#socket) return take(event);
    };
    socket.onopen = ours(() => {
      wasReached = true;
      // It may have to load the model first, for as long as that takes.
      this.#watch.heard();
      this.#watch.stop();
      socket.send(encodeOpen({ ...this.#options, startFrameIndex: this.#nextFrame, resumable: true, resumeToken }));
    });
    socket.onmessage = ours((event) => {
      this.#watch.heard();
      this.#receive(event.data);
    });
    let isOver = false;
    const end = ours(async (event) => {
      if (isOver) return;
      isOver = true;
      this.#forget();
      this.#watch.stop();
      // Browsers do not say why a WebSocket was refused; whoever refused it answers a plain request likewise.
      const why = wasReached ? undefined : await refusal(this.#options);
      if (socket === this.#socket) this.#lose(event, why);
    });
    socket.onclose = end;
    // Browsers tell of both. Node 20 says of a connection that cannot be made that there was an error, and nothing else.
    socket.onerror = () => setTimeout(() => end({ code: 1006, reason: "" }), 0);
  }

  // The books of a session that is over; which segments it had is for the next one to know.
  #forget() {
    this.#newest = this.#ledger?.newest ?? this.#newest;
    this.#ledger = undefined;
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
      this.#spoken.receive(message);
      if (message.kind === "frame") {
        this.#nextFrame = message.frameIndex + 1;
        if (message.resumeToken.length > 0) this.#token = message.resumeToken;
        this.#resumedAt = undefined;
      }
      return message;
    }
    if (message.kind !== "opened") throw new Error("the first message was not `opened`");
    const newest = this.#newest;
    this.#ledger = new Ledger(this.#options.sampleRateHz, message);
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#token = message.resumeToken;
    this.#spoken.opened(message);
    const said = message.resumed && this.#resuming && this.#spoken.again(message.resumed);
    const wasResuming = this.#resuming !== undefined;
    this.#resuming = undefined;
    if (said) this.#sayAgain(said, newest);
    else this.#spoken.clear();
    // Only then does something come all the time.
    const { pacing = Pacing.REALTIME, idleFrames = true } = this.#options;
    if (pacing === Pacing.REALTIME && idleFrames) this.#watch.start();
    if (said) {
      this.#resumedAt = performance.now();
      this.#on.resumed?.(message);
      return undefined;
    }
    if (wasResuming) this.#on.lost("The server could not go on where the connection was lost", 0);
    return message;
  }

  // Says what was said and not shown, and what follows it.
  #sayAgain(said, newest) {
    this.#ledger.resume(newest);
    for (const { segmentId, firstItem, pieces, isEnded } of said) {
      this.#ledger.beginAt(segmentId, firstItem);
      for (const piece of pieces) this.#send(encodeAudio(this.#ledger.book(piece.length), piece));
      if (!isEnded) continue;
      this.#ledger.endSegment();
      this.#send(encodeEndSegment(segmentId));
    }
    if (this.#isFinished) this.#send(new Uint8Array());
  }

  // Nothing was heard for a while (1), for too long (2), or something is heard again (0).
  #hush(level) {
    if (level < 2) {
      this.#on.silent?.(level > 0);
      return;
    }
    const socket = this.#socket;
    this.#socket = undefined;
    this.#forget();
    this.#watch.stop();
    // Its end may take a minute to be told, since nobody answers.
    socket?.close();
    this.#lose({ code: 1006, reason: "" }, `The server has said nothing for ${DEAD_MS / 1000} s`);
  }

  #lose({ code, reason }, refused) {
    if (this.#isFinished && code === 1000 && this.#on.ended) {
      this.#on.ended();
      return;
    }
    const why = reason || refused || (code === 1000 ? "The session has ended" : "The connection to the server is lost");
    if (this.#mayResume(code)) {
      const pause = this.#resuming.pauseMs;
      this.#resuming.pauseMs = Math.max(2 * pause, RESUME_PAUSE_MS);
      this.#timer = setTimeout(() => this.#connect(), pause);
      return;
    }
    this.#resuming = undefined;
    this.#token = new Uint8Array();
    this.#spoken.clear();
    if (this.#isFinished || LASTING.has(code)) {
      this.#on.lost(why, undefined, code === UNAUTHENTICATED);
      return;
    }
    const pause = this.#pauseMs;
    this.#pauseMs = Math.min(pause * 2, LONGEST_PAUSE_MS);
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#on.lost(why, pause);
  }

  // Whether a server may go on behind the last frame that came; notes that it is tried.
  #mayResume(code) {
    const now = performance.now();
    if (this.#resuming) return !LASTING.has(code) && now + this.#resuming.pauseMs < this.#resuming.until;
    const inVain = now - this.#resumedAt < IN_VAIN_MS;
    const within = this.#options.resumeWithinMs ?? RESUME_WITHIN_MS;
    if (this.#token.length === 0 || within <= 0 || inVain || !CUT.has(code)) return false;
    this.#resuming = { until: now + within, pauseMs: 0 };
    return true;
  }

  #send(bytes) {
    // 1 is OPEN, of whatever WebSocket it is.
    if (this.isOpened && this.#socket.readyState === 1) this.#socket.send(bytes);
  }
}
