// Records what a `Player` shows and plays, as a file that people can keep.

import { marked } from "./mark.js";

// The first that the browser can write. MP4 is played by everything; not every browser can write it.
const TYPES = ["video/mp4;codecs=avc1.42E01F,mp4a.40.2", "video/webm;codecs=vp8,opus", "video/webm"];
const VIDEO_BITS_PER_S = 4_000_000;
// The browser hands over what it has so often, so that little is lost and nothing grows in the encoder.
const SLICE_MS = 1000;

// Whether this browser can record.
export function canRecord() {
  return globalThis.MediaRecorder !== undefined && TYPES.some((type) => MediaRecorder.isTypeSupported(type));
}

export class Recorder {
  #recorder;
  #pieces = [];
  #ended;

  // From now on, for at most `maxS` seconds. `ended` is a promise of the file, a Blob. It says of itself that a trained
  // network made it, unless `mark` is false.
  constructor(player, { maxS = 300, mark = true } = {}) {
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    if (!mimeType) throw new Error("This browser cannot record video.");
    const { stream, release } = player.capture();
    this.#recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: VIDEO_BITS_PER_S });
    const timer = setTimeout(() => this.stop(), 1000 * maxS);
    this.#ended = new Promise((resolve, reject) => {
      this.#recorder.ondataavailable = ({ data }) => this.#pieces.push(data);
      this.#recorder.onerror = (event) => reject(event.error ?? new Error("The recording failed."));
      this.#recorder.onstop = () => resolve(new Blob(this.#pieces, { type: mimeType.split(";")[0] }));
    }).finally(() => {
      clearTimeout(timer);
      release();
    });
    if (mark) this.#ended = this.#ended.then(marked);
    this.#recorder.start(SLICE_MS);
  }

  // The file, once it is stopped or its time is over.
  get ended() {
    return this.#ended;
  }

  stop() {
    if (this.#recorder.state !== "inactive") this.#recorder.stop();
  }
}
