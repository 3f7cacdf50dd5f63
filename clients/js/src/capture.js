// In the audio thread: gathers the microphone's samples into blocks and posts them.

const BLOCK_S = 0.02;

registerProcessor(
  "capture",
  class extends AudioWorkletProcessor {
    #block = new Float32Array(Math.round(BLOCK_S * sampleRate));
    #filled = 0;

    process([input]) {
      // One channel is asked for; without a source there is none.
      let rest = input[0] ?? new Float32Array(0);
      while (rest.length > 0) {
        const n = Math.min(rest.length, this.#block.length - this.#filled);
        this.#block.set(rest.subarray(0, n), this.#filled);
        this.#filled += n;
        rest = rest.subarray(n);
        if (this.#filled === this.#block.length) {
          this.port.postMessage(this.#block.slice());
          this.#filled = 0;
        }
      }
      return true;
    }
  },
);
