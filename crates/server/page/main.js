// The page: one session with one avatar, and the ways to give it a voice.

import { Backgrounds, Player, Session, fetchModels, isKey, toPcm } from "./client/index.js";
import { Clip } from "./clip.js";
import { Dashboard } from "./dashboard.js";
import { $, put } from "./dom.js";
import { currentKey, takeKey } from "./key.js";
import { Latency } from "./latency.js";
import { Listener } from "./listener.js";
import { Panel } from "./panel.js";
import { mixDown, sampleOf } from "./samples.js";
import { TextBox } from "./speech.js";

// Until there is sound, sessions are opened with the usual rate; nothing is sent at it.
const USUAL_RATE_HZ = 48_000;
// A recording is sent so far ahead of what is shown.
const AHEAD_S = 4;
const MAX_FILE_BYTES = 64 << 20;
// A page that nobody looks at gives its place in the server back after this.
const HIDDEN_MS = 60_000;
// How long it is said what went wrong.
const TROUBLE_MS = 8_000;
// How long it is said that frames are late, after the server last said so; it does once a second at most.
const SLOW_MS = 3_000;
// Readouts change this often: digits that flicker cannot be read.
const READOUT_MS = 500;

class Page {
  #session;
  #context;
  #player;
  #avatar;
  #listener;
  #textBox;
  #clip;
  // A recording on its way: { samples, next, segmentId, isOver }; the id once it is sent.
  #recording;
  #whenOpened = [];
  #hiddenTimer;
  #troubleTimer;
  #slowTimer;
  #backgrounds;
  // Whether the faces alone come; whole frames where the backgrounds cannot be fetched.
  #regionOnly = true;
  #latency = new Latency();

  constructor() {
    this.#player = new Player($("face"), (picture) => this.#shown(picture));
    const attempt = (action) => this.#try(action);
    this.#textBox = new TextBox((data, text) => this.#play(data, text), attempt);
    this.#clip = new Clip(this.#player, () => this.#sound(), attempt);
    // Whoever begins to speak interrupts a recording. A server that is so far behind that it has no room misses some.
    this.#listener = new Listener({
      isReady: () => this.#session?.isOpened,
      begins: () => this.#recording && this.interrupt(),
      says: (samples) => this.#push(samples),
      ends: () => this.#session?.endSegment(),
    });
    $("microphone").onclick = () => this.#try(() => this.#toggleMicrophone());
    $("interrupt").onclick = () => this.interrupt();
    $("file").onchange = (event) => this.#try(() => this.#playFile(event.target.files[0]));
    $("hear").onchange = (event) => (this.#player.isMuted = !event.target.checked);
    $("volume").oninput = (event) => (this.#player.volume = event.target.value / 100);
    $("microphones").onchange = () => this.#try(() => this.#changeMicrophone());
    $("retry").onclick = () => this.#try(() => this.#begin());
    $("avatar").onchange = () => {
      this.#clip.stop();
      this.#regionOnly = true;
      this.#open();
    };
    document.addEventListener("keydown", (event) => {
      // An open list is closed by the same key.
      if (event.key === "Escape" && event.target.tagName !== "SELECT") this.interrupt();
    });
    setInterval(() => this.#readOut(), READOUT_MS);
    $("key-form").onsubmit = (event) => {
      event.preventDefault();
      this.#try(() => this.#takeKey());
    };
    for (const chip of document.querySelectorAll("[data-sample]")) {
      chip.onclick = () => this.#try(() => this.#playSample(chip.dataset));
    }
    this.#takeDrops($("stage"));
    document.addEventListener("visibilitychange", () => this.#look());
    this.#try(() => this.#begin());
  }

  // Stops what is said, here at once and in the server as soon as it hears of it.
  interrupt() {
    if (this.#session?.isOpened) this.#latency.interrupted(performance.now());
    this.#session?.clear();
    this.#recording = undefined;
    this.#listener.forget();
    this.#textBox.stop();
    this.#player.flush();
    this.#rest();
  }

  // With the chosen avatar, or with the first of those that there are.
  async #begin() {
    if ($("avatar").options.length > 0) return this.#open();
    this.#notice(undefined);
    let models;
    try {
      models = await fetchModels({ key: currentKey() });
    } catch (error) {
      this.#status("lost", "Not connected");
      return this.#notice(error.message, true, error.needsKey);
    }
    this.#textBox.look().catch((error) => console.info(error.message));
    const options = models.map(({ model_id }) => new Option(model_id, model_id));
    $("avatar").replaceChildren(...options);
    if (options.length === 0) return this.#notice("No avatar is configured in this server.");
    this.#open();
  }

  // The avatars may be other ones with another key.
  #takeKey() {
    if (!takeKey($("key").value, isKey)) throw new Error("A key has letters, digits and signs, and no spaces.");
    $("key").value = "";
    $("avatar").replaceChildren();
    return this.#begin();
  }

  // Begins a session with the chosen avatar, in place of the one before.
  #open() {
    const modelId = $("avatar").value;
    // The same face goes on where it was.
    const startFrameIndex = this.#avatar === modelId ? (this.#session?.nextFrame ?? 0) : 0;
    this.#session?.close();
    this.#forget();
    this.#notice(undefined);
    this.#status("waiting", "Connecting");
    this.#avatar = modelId;
    $("face").setAttribute("aria-label", `The face of ${this.#avatar}`);
    const options = {
      modelId,
      sampleRateHz: this.#rate,
      startFrameIndex,
      regionOnly: this.#regionOnly,
      key: currentKey(),
    };
    const session = new Session(options, {
      message: (message) => session === this.#session && this.#take(message),
      lost: (...what) => session === this.#session && this.#lost(...what),
      silent: (isSilent) => session === this.#session && this.#silent(isSilent),
    });
    session.rate = options.sampleRateHz;
    this.#session = session;
  }

  get #rate() {
    return this.#context?.sampleRate ?? USUAL_RATE_HZ;
  }

  #forget() {
    this.#recording = undefined;
    this.#listener.forget();
    this.#latency.restart();
    this.#player.restart();
    this.#rest();
  }

  // The pictures around the faces; once all are here, the session takes an eighth of the bandwidth.
  #fetchBackgrounds() {
    this.#backgrounds?.stop();
    this.#backgrounds = undefined;
    if (this.#regionOnly) {
      const backgrounds = new Backgrounds(this.#avatar, { key: currentKey() });
      this.#backgrounds = backgrounds;
      backgrounds.prefetch(this.#session.nextFrame).catch((error) => {
        if (backgrounds !== this.#backgrounds || !this.#session?.isOpened) return;
        console.info(`${error.message}: whole frames are used`);
        this.#regionOnly = false;
        this.#open();
      });
    }
    this.#player.backgrounds = this.#backgrounds;
  }

  // A server that hangs, or a link that is dead, closes nothing.
  #silent(isSilent) {
    if (isSilent) this.#status("lost", this.#session?.isOpened ? "No answer for 2 s" : "No answer");
    else if (this.#session?.isOpened) this.#status("open", "Connected");
    else this.#status("waiting", "Connecting");
  }

  // The server makes frames without the network, because it is too slow.
  #slow() {
    $("slow").textContent = "The server is too slow right now: frames come without the network";
    clearTimeout(this.#slowTimer);
    this.#slowTimer = setTimeout(() => ($("slow").textContent = ""), SLOW_MS);
  }

  #readOut() {
    const { firstFrameMs, shownMs, interruptionMs } = this.#latency;
    for (const [id, ms] of Object.entries({ "first-frame": firstFrameMs, "on-screen": shownMs, interruption: interruptionMs })) {
      $(id).textContent = ms === undefined ? "–" : `${Math.round(ms)}`;
    }
  }

  #take(message) {
    switch (message.kind) {
      case "opened":
        this.#forget();
        this.#notice(undefined);
        this.#status("open", "Connected");
        this.#fetchBackgrounds();
        for (const go of this.#whenOpened.splice(0)) go();
        break;
      case "frame":
        this.#takeFrame(message);
        break;
      case "segmentEnd":
        if (message.segmentId === this.#recording?.segmentId) this.#recording.isOver = true;
        break;
      case "cleared":
        this.#latency.cleared(performance.now());
        break;
      case "warning":
        if (message.code === "late_frames") this.#slow();
        console.info(`${message.code}: ${message.text}`);
        break;
    }
  }

  #takeFrame(frame) {
    this.#latency.came(frame, performance.now());
    if (frame.audioTimeUs !== undefined && this.#recording) this.#feed();
    this.#player.push(frame);
  }

  // A picture is on the screen. What the data attributes say is for tests and for the curious.
  #shown(frame) {
    const { segmentId, audioTimeUs, ptsUs, generated } = frame;
    const speaks = audioTimeUs !== undefined;
    this.#latency.shown(frame, performance.now());
    Object.assign($("face").dataset, {
      ptsUs,
      generated: Number(generated),
      segmentId: speaks ? segmentId : "",
      audioTimeUs: speaks ? audioTimeUs : "",
    });
    if (speaks) {
      $("interrupt").disabled = false;
      this.#mood("speaking", "Speaking");
    } else {
      if (this.#recording?.isOver) this.#recording = undefined;
      this.#rest();
    }
  }

  #rest() {
    const waits = this.#recording !== undefined;
    $("interrupt").disabled = !waits;
    if (!waits) $("caption").hidden = true;
    if (this.#listener.isOn) this.#mood("listening", "Listening");
    else this.#mood("idle", "Resting");
  }

  #lost(why, retryMs, needsKey) {
    this.#forget();
    this.#status("lost", "Not connected");
    if (retryMs !== undefined) return this.#notice(`${why}. Trying again…`);
    this.#session = undefined;
    this.#notice(why, true, needsKey);
  }

  // Sound needs a click first; browsers insist. The session then speaks at the rate of the sound card.
  async #sound() {
    if (!this.#context) {
      this.#context = new AudioContext();
      this.#player.connect(this.#context);
      this.#player.isMuted = !$("hear").checked;
      this.#player.volume = $("volume").value / 100;
    }
    await this.#context.resume();
    if (this.#session?.rate !== this.#rate) this.#open();
    if (!this.#session?.isOpened) await new Promise((go) => this.#whenOpened.push(go));
  }

  async #playSample(chosen) {
    const { file, text } = sampleOf(this.#avatar, chosen);
    const answer = await fetch(`samples/${file}`);
    if (!answer.ok) throw new Error("The sample cannot be fetched.");
    await this.#play(await answer.arrayBuffer(), text);
  }

  async #playFile(file) {
    $("file").value = "";
    if (!file) return;
    if (file.size > MAX_FILE_BYTES) throw new Error(`Files may have up to ${MAX_FILE_BYTES >> 20} MB.`);
    await this.#play(await file.arrayBuffer(), file.name);
  }

  async #play(data, caption) {
    await this.#sound();
    let sound;
    try {
      sound = await this.#context.decodeAudioData(data);
    } catch {
      throw new Error("This file has no sound that the browser can read.");
    }
    this.interrupt();
    this.#recording = { samples: toPcm(mixDown(sound)), next: 0, segmentId: undefined, isOver: false };
    $("caption").textContent = caption;
    $("caption").hidden = false;
    $("interrupt").disabled = false;
    this.#feed();
  }

  // Sends a recording, some seconds ahead of what is shown: long ones would not fit the server.
  #feed() {
    const recording = this.#recording;
    const { samples } = recording;
    if (recording.next >= samples.length) return;
    const wanted = Math.max(Math.round(AHEAD_S * this.#rate) - this.#session.held, 0);
    recording.next += this.#push(samples.subarray(recording.next, recording.next + wanted));
    if (recording.next >= samples.length) recording.segmentId = this.#session.endSegment();
  }

  // As the session's `push`.
  #push(samples) {
    const now = performance.now();
    const n = this.#session.push(samples);
    this.#latency.sent(this.#session.segmentId, now);
    return n;
  }

  async #toggleMicrophone() {
    if (this.#listener.isOn) this.#listener.stop();
    else await this.#listen();
    this.#showMicrophone();
  }

  // Goes on with the chosen one.
  async #changeMicrophone() {
    if (!this.#listener.isOn) return;
    this.#listener.stop();
    try {
      await this.#listen();
    } finally {
      this.#showMicrophone();
    }
  }

  async #listen() {
    await this.#sound();
    await this.#listener.start(this.#context);
  }

  #showMicrophone() {
    const { isOn } = this.#listener;
    $("microphone").setAttribute("aria-pressed", isOn);
    put("microphone-text", isOn ? "Stop" : "Speak");
    $("microphone").style.setProperty("--level", 0);
    this.#rest();
  }

  #takeDrops(stage) {
    const mark = (on) => (event) => {
      event.preventDefault();
      stage.classList.toggle("dropping", on);
    };
    stage.addEventListener("dragover", mark(true));
    stage.addEventListener("dragleave", mark(false));
    stage.addEventListener("drop", (event) => {
      mark(false)(event);
      this.#try(() => this.#playFile(event.dataTransfer.files[0]));
    });
  }

  #look() {
    clearTimeout(this.#hiddenTimer);
    if (!document.hidden) {
      if (!this.#session && this.#avatar) this.#open();
      return;
    }
    this.#hiddenTimer = setTimeout(() => {
      if (this.#listener.isOn || this.#recording) return;
      this.#session?.close();
      this.#session = undefined;
      this.#status("waiting", "Paused");
    }, HIDDEN_MS);
  }

  async #try(action) {
    try {
      await action();
    } catch (error) {
      const text = error.name === "NotAllowedError" ? "The microphone was not allowed." : error.message;
      $("trouble").textContent = text;
      $("trouble").hidden = false;
      clearTimeout(this.#troubleTimer);
      this.#troubleTimer = setTimeout(() => ($("trouble").hidden = true), TROUBLE_MS);
    }
  }

  #mood(mood, text) {
    const node = $("mood");
    if (node.dataset.mood === mood) return;
    node.dataset.mood = mood;
    $("mood-text").textContent = text;
  }

  #status(state, text) {
    $("connection").dataset.state = state;
    $("connection").textContent = text;
  }

  #notice(text, canRetry = false, needsKey = false) {
    $("notice").hidden = text === undefined;
    $("notice-text").textContent = text ?? "";
    $("retry").hidden = !canRetry || needsKey;
    $("key-form").hidden = !needsKey;
  }
}

new Page();
new Panel();
new Dashboard();
