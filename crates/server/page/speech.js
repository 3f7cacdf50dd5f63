// The text box: the server has a text spoken by the text-to-speech service that its configuration names.

import { fetchJson, keyHeaders } from "./client/index.js";
import { $ } from "./dom.js";
import { currentKey } from "./key.js";

export class TextBox {
  #say;
  #asking;

  // `say(data, text)` is given the sound of a text as it came.
  constructor(say, attempt) {
    this.#say = say;
    $("say").onsubmit = (event) => {
      event.preventDefault();
      attempt(() => this.#ask());
    };
  }

  // Is there only where the server has such a service.
  async look() {
    const { max_characters: max } = await fetchJson("api/speech", { key: currentKey() });
    $("say").hidden = max === 0;
    $("text").maxLength = max;
  }

  // What was asked for is not wanted any more.
  stop() {
    this.#asking?.abort();
    this.#asking = undefined;
  }

  async #ask() {
    this.stop();
    const text = $("text").value.trim();
    if (!text) return;
    const asking = new AbortController();
    this.#asking = asking;
    $("say").setAttribute("aria-busy", "true");
    try {
      const data = await speech(text, $("avatar").value, asking.signal);
      if (this.#asking === asking) await this.#say(data, text);
    } catch (error) {
      if (!asking.signal.aborted) throw error;
    } finally {
      if (this.#asking === asking) this.#asking = undefined;
      if (!this.#asking) $("say").removeAttribute("aria-busy");
    }
  }
}

async function speech(text, modelId, signal) {
  const headers = { "content-type": "text/plain; charset=utf-8", ...keyHeaders(currentKey()) };
  let answer;
  try {
    answer = await fetch(`api/speech?model_id=${encodeURIComponent(modelId)}`, { method: "POST", body: text, headers, signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Error("The server does not answer");
  }
  if (!answer.ok) throw new Error(`The text cannot be spoken: ${(await answer.text()).trim() || answer.status}`);
  return answer.arrayBuffer();
}
