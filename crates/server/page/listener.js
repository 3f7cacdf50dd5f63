// The page's microphone: on and off, which one, and what is said into it.

import { Microphone, VoiceGate, microphones, toPcm, unavailable } from "./client/index.js";
import { $ } from "./dom.js";

export class Listener {
  #on;
  #gate;
  #microphone;
  // Whether somebody speaks now.
  #isSpoken = false;

  // `on.begins()` and `on.ends()` come as somebody begins and ends to speak, `on.says(Int16Array)` between them. Without
  // `on.isReady()` nothing is heard.
  constructor(on) {
    this.#on = on;
    navigator.mediaDevices?.addEventListener("devicechange", () => this.list());
    this.list();
  }

  get isOn() {
    return this.#microphone !== undefined;
  }

  // With the one that is chosen.
  async start(context) {
    const reason = unavailable();
    if (reason) throw new Error(reason);
    this.#gate = new VoiceGate(context.sampleRate);
    this.#microphone = await Microphone.start(context, (block) => this.#hear(block), $("microphones").value);
    await this.list(this.#microphone.deviceId);
  }

  stop() {
    this.#microphone?.stop();
    this.#microphone = undefined;
    if (this.#isSpoken) this.#on.ends();
    this.#isSpoken = false;
  }

  // What is being said is not an utterance any more.
  forget() {
    this.#isSpoken = false;
  }

  // To choose among them, where there is something to choose.
  async list(chosen = $("microphones").value) {
    const named = (await microphones()).filter(({ label }) => label);
    const options = named.map(({ deviceId, label }) => new Option(label, deviceId, false, deviceId === chosen));
    $("microphones").replaceChildren(...options);
    $("microphones-choice").hidden = options.length < 2;
  }

  #hear(block) {
    if (!this.#microphone || !this.#on.isReady()) return;
    const { level, begins, ends, samples } = this.#gate.push(block);
    $("microphone").style.setProperty("--level", Math.min(1, level * 6).toFixed(2));
    if (begins) {
      this.#on.begins();
      this.#isSpoken = true;
    }
    if (!this.#isSpoken) return;
    for (const piece of samples) this.#on.says(toPcm(piece));
    if (!ends) return;
    this.#isSpoken = false;
    this.#on.ends();
  }
}
