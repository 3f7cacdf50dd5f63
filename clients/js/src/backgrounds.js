// The background frames of a model, fetched once: `regionOnly` frames bring the face alone, which takes an eighth of
// the bandwidth.

import { requestUrl } from "./address.js";
import { keyHeaders } from "./key.js";

// They are fetched ahead, this many at a time: sessions need the connection, too.
const AT_ONCE = 2;
// As they came, not decoded: an avatar of 200 frames takes some 20 MB.
const MAX_BYTES = 96 << 20;
// Says of each answer how many the model has.
const COUNT = "x-background-frames";

export class Backgrounds {
  #server;
  #modelId;
  #key;
  // By index, the least recently used first: { blob: a promise, nBytes: 0 until it is kept }.
  #held = new Map();
  #bytes = 0;
  #count;
  #isStopped = false;

  constructor(modelId, { server, key } = {}) {
    this.#server = server;
    this.#key = key;
    this.#modelId = modelId;
  }

  // The frame as a Blob; it is fetched if it is not held. Rejects where the server does not give it.
  get(index) {
    const held = this.#held.get(index) ?? this.#fetch(index);
    this.#held.delete(index);
    this.#held.set(index, held);
    return held.blob;
  }

  // Fetches the frames of a walk from `start` on, while there is room for them. Rejects as `get` does.
  async prefetch(start) {
    await this.get(0);
    const order = walk(start, this.#count);
    const next = async () => {
      for (const index of order) {
        if (this.#isStopped || this.#bytes > MAX_BYTES / 2) return;
        await this.get(index);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, next));
  }

  // Fetches no more ahead.
  stop() {
    this.#isStopped = true;
  }

  #fetch(index) {
    const held = { blob: undefined, nBytes: 0 };
    held.blob = this.#load(index).then(
      (blob) => {
        held.nBytes = blob.size;
        this.#bytes += blob.size;
        this.#shrink();
        return blob;
      },
      (error) => {
        this.#held.delete(index);
        throw error;
      },
    );
    return held;
  }

  async #load(index) {
    const path = `api/models/${encodeURIComponent(this.#modelId)}/backgrounds/${index}`;
    const url = requestUrl(path, this.#server);
    const answer = await fetch(url, { headers: keyHeaders(this.#key) });
    if (!answer.ok) throw new Error(`The server does not give the avatar's background frames (${answer.status})`);
    this.#count = Number(answer.headers.get(COUNT) ?? 1);
    return answer.blob();
  }

  #shrink() {
    for (const [index, { nBytes }] of this.#held) {
      if (this.#bytes <= MAX_BYTES) return;
      if (nBytes === 0) continue;
      this.#held.delete(index);
      this.#bytes -= nBytes;
    }
  }
}

// Each background once, in the order in which a walk from `start` comes to them: 1, 2, ..., N-1, N-2, ..., 0, 1, ...
export function* walk(start, nBackgrounds) {
  const seen = new Set();
  const period = Math.max(2 * (nBackgrounds - 1), 1);
  for (let n = 0; n < period; n++) {
    const place = (start + n + 1) % period;
    const index = place < nBackgrounds ? place : period - place;
    if (!seen.has(index)) yield index;
    seen.add(index);
  }
}
