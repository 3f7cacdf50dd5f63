// What was said in a session and may have to be said again: to a server that goes on where the connection was lost.
// Pure bookkeeping. Of what was shown it keeps as much as such a server must hear again.

export class Spoken {
  #rateHz;
  #fps = 1;
  #context = 0;
  // Segments whose frames have not all come, oldest first: { segmentId, pieces, nDropped, isEnded }. The first of
  // `pieces` begins at sample `nDropped` of its segment.
  #segments = [];

  constructor(rateHz) {
    this.#rateHz = rateHz;
  }

  // Takes what `Opened` said.
  opened({ fps, resumeContextMs }) {
    this.#fps = Math.max(fps, 1);
    this.#context = Math.ceil((resumeContextMs * this.#rateHz) / 1000);
  }

  // Keeps samples, which nobody may change afterwards.
  push(segmentId, samples) {
    if (this.#segments.at(-1)?.segmentId !== segmentId) {
      this.#segments.push({ segmentId, pieces: [], nDropped: 0, isEnded: false });
    }
    this.#segments.at(-1).pieces.push(samples);
  }

  // Ends the last segment, and gives its id if it was open.
  endSegment() {
    const last = this.#segments.at(-1);
    if (!last || last.isEnded) return undefined;
    last.isEnded = true;
    return last.segmentId;
  }

  clear() {
    this.#segments = [];
  }

  // Forgets what a message of the server shows to be over.
  receive({ kind, segmentId, audioTimeUs }) {
    if (kind === "segmentEnd") this.#settle((id) => id <= segmentId);
    if (kind !== "frame" || audioTimeUs === undefined) return;
    this.#settle((id) => id < segmentId);
    const first = this.#segments[0];
    if (first?.segmentId !== segmentId) return;
    const nFrames = Math.round((audioTimeUs * this.#fps) / 1e6) + 1;
    const wanted = Math.floor((nFrames * this.#rateHz) / this.#fps) - this.#context;
    // Whole pieces: they are short.
    while (first.pieces.length > 0 && first.nDropped + first.pieces[0].length <= wanted) {
      first.nDropped += first.pieces.shift().length;
    }
  }

  // What a server must hear that goes on with sample `firstItem` of a segment, as { segmentId, firstItem, pieces,
  // isEnded }; undefined where that is not here any more.
  again({ segmentId, firstItem }) {
    const said = this.#segments.map((segment) => {
      const first = segment.segmentId === segmentId ? firstItem : 0;
      let skip = first - segment.nDropped;
      if (skip < 0) return undefined;
      const pieces = [];
      for (const piece of segment.pieces) {
        if (skip < piece.length) pieces.push(piece.subarray(skip));
        skip = Math.max(skip - piece.length, 0);
      }
      return { segmentId: segment.segmentId, firstItem: first, pieces, isEnded: segment.isEnded };
    });
    return said.includes(undefined) ? undefined : said;
  }

  #settle(isOver) {
    while (this.#segments.length > 0 && isOver(this.#segments[0].segmentId)) this.#segments.shift();
  }
}
