// The clip that a visitor keeps: what is seen and heard, from one click to the next.

import { Recorder, canRecord } from "./client/index.js";
import { $, put } from "./dom.js";
import { fileName } from "./samples.js";

const MAX_S = 300;

export class Clip {
  #player;
  #recorder;
  #sound;

  // `sound()` resolves once the page has sound: what is recorded without it would be silent for ever.
  constructor(player, sound, attempt) {
    this.#player = player;
    this.#sound = sound;
    $("record").hidden = !canRecord();
    $("record").onclick = () => attempt(() => (this.#recorder ? this.stop() : this.#start()));
  }

  // Ends it, and gives the visitor what there is.
  stop() {
    this.#recorder?.stop();
  }

  async #start() {
    await this.#sound();
    const recorder = new Recorder(this.#player, { maxS: MAX_S });
    this.#recorder = recorder;
    this.#show(true);
    try {
      keep(await recorder.ended, $("avatar").value);
    } finally {
      this.#recorder = undefined;
      this.#show(false);
    }
  }

  #show(isOn) {
    $("record").setAttribute("aria-pressed", isOn);
    put("record-text", isOn ? "Save clip" : "Record");
  }
}

// Gives a file to the visitor.
function keep(blob, modelId) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = fileName(modelId, blob.type, new Date());
  link.click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
