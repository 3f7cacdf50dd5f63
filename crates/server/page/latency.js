// How long a person waits: measured here, at the end of the line. Times are in ms.

export class Latency {
  // When the first audio of the newest segment left, until its first frame comes.
  #sent;
  // When the first frame of the newest segment came, until it is shown.
  #came;
  #interruptedAt = [];

  // From the first audio of a segment to its first frame here, and to that frame on the screen; from an interruption
  // to its confirmation. Undefined until measured.
  firstFrameMs;
  shownMs;
  interruptionMs;

  // Audio of a segment leaves.
  sent(segmentId, now) {
    if (segmentId === undefined || this.#sent?.segmentId >= segmentId) return;
    this.#sent = { segmentId, now };
    this.#came = undefined;
  }

  // A frame comes.
  came({ segmentId, audioTimeUs }, now) {
    if (audioTimeUs === undefined || segmentId !== this.#sent?.segmentId || this.#came) return;
    this.#came = { segmentId, since: this.#sent.now, isShown: false };
    this.firstFrameMs = now - this.#sent.now;
  }

  // A frame is on the screen.
  shown({ segmentId, audioTimeUs }, now) {
    const came = this.#came;
    if (audioTimeUs === undefined || segmentId !== came?.segmentId || came.isShown) return;
    came.isShown = true;
    this.shownMs = now - came.since;
  }

  interrupted(now) {
    this.#interruptedAt.push(now);
  }

  // The server confirms the oldest interruption.
  cleared(now) {
    const since = this.#interruptedAt.shift();
    if (since !== undefined) this.interruptionMs = now - since;
  }

  // Another session: what was on its way never comes. The figures stay.
  restart() {
    this.#sent = undefined;
    this.#came = undefined;
    this.#interruptedAt = [];
  }
}
