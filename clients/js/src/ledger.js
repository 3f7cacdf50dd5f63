// What a session has sent and what has come back of it. Pure bookkeeping; the clients in Rust and Python keep the
// same books, and `tests/data/session` holds all three to the same vectors.
//
// Audio counts as held from the moment it is sent until a frame that shows it comes back. The server counts
// only what it has not begun to work on, so this never reaches the server's own limit.

export class Ledger {
  #fps;
  #rateHz;
  // Samples that may be held.
  #window;
  // Segments of which something is held, oldest first: { segmentId, nSamples, nShown }.
  #held = [];
  #newest = 0;
  #newestIsOpen = false;
  // Everything up to this segment was interrupted.
  #clearedTo = 0;
  // Interruptions that the server has not answered: the newest segment of each.
  #unanswered = [];
  // Everything up to this segment is gone on the server too.
  #confirmedTo = 0;

  // For audio of `rateHz`, and what `Opened` said.
  constructor(rateHz, { fps, maxBufferedAudioS }) {
    this.#fps = Math.max(fps, 1);
    this.#rateHz = rateHz;
    this.#window = Math.max(maxBufferedAudioS, 1) * rateHz;
  }

  // Samples with the server.
  get held() {
    return this.#held.reduce((sum, { nSamples, nShown }) => sum + nSamples - nShown, 0);
  }

  // The segment that is open: what is sent next belongs to it. Undefined when none is.
  get segmentId() {
    return this.#newestIsOpen ? this.#newest : undefined;
  }

  // Samples that may be sent now.
  get room() {
    return Math.max(this.#window - this.held, 0);
  }

  // Goes on with the books of the session before: segments up to this one were begun.
  resume(newest) {
    this.#newest = newest;
  }

  // Begins a segment again from a sample on: what lies before it is not held.
  beginAt(segmentId, firstItem) {
    this.#newest = segmentId;
    this.#newestIsOpen = true;
    this.#held.push({ segmentId, nSamples: firstItem, nShown: firstItem });
  }

  // The segment that was begun last; 0 before the first.
  get newest() {
    return this.#newest;
  }

  // Books samples, for which there must be room, and gives their segment, which begins if none is open.
  book(nSamples) {
    if (!this.#newestIsOpen) {
      this.#newest += 1;
      this.#newestIsOpen = true;
    }
    const last = this.#held.at(-1);
    if (last?.segmentId === this.#newest) last.nSamples += nSamples;
    else this.#held.push({ segmentId: this.#newest, nSamples, nShown: 0 });
    return this.#newest;
  }

  // Ends the open segment and gives its id; undefined when none is open.
  endSegment() {
    const ended = this.#newestIsOpen ? this.#newest : undefined;
    this.#newestIsOpen = false;
    return ended;
  }

  // Interrupts everything. What is sent from now on reaches a server that holds nothing.
  clear() {
    this.#newestIsOpen = false;
    this.#clearedTo = this.#newest;
    this.#unanswered.push(this.#newest);
    this.#held = [];
  }

  // Books a message of the server; false when it was on its way while its segment was interrupted. Throws where
  // the server breaks the contract.
  receive(message) {
    switch (message.kind) {
      case "opened":
        throw new Error("the session was opened twice");
      case "frame":
        return this.#frame(message);
      case "segmentEnd":
        this.#settle((held) => held.segmentId <= message.segmentId);
        return message.segmentId > this.#clearedTo;
      case "cleared":
        this.#confirmedTo = this.#unanswered.shift() ?? this.#confirmedTo;
        return true;
      default:
        return true;
    }
  }

  #frame({ segmentId, audioTimeUs }) {
    // Idle frames belong to no segment.
    if (audioTimeUs === undefined) return true;
    if (segmentId <= this.#confirmedTo) throw new Error("a frame came after its segment was cleared");
    // Segments play in order.
    this.#settle((held) => held.segmentId < segmentId);
    const first = this.#held[0];
    if (first?.segmentId === segmentId) {
      const shownUs = audioTimeUs + Math.floor(1e6 / this.#fps);
      first.nShown = Math.min(Math.floor((shownUs * this.#rateHz) / 1e6), first.nSamples);
    }
    return segmentId > this.#clearedTo;
  }

  // Nothing more is held of the segments at the front that `isOver` names.
  #settle(isOver) {
    while (this.#held.length > 0 && isOver(this.#held[0])) this.#held.shift();
  }
}
