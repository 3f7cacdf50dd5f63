// Shows frames and plays their sound in step.
//
// Every frame carries its slice of the voice and a presentation time. Both are put on one clock, that
// of the sound card: a picture is shown when its slice is heard. What comes late moves the clock for
// sound and picture alike, so that they cannot drift apart.

// Between the arrival of a frame and its showing: evens out the network.
const LEAD_S = 0.15;
// Sound must be scheduled so long before it is heard.
const MARGIN_S = 0.02;
// More lead than this is cut while nobody speaks: it came from a pause that is over, or from a stall that
// the server has made up for since.
const SLACK_S = 0.12;
// Samples below this, of 32768, are silence: leaving out a slice of them is not heard.
const QUIET = 200;
// Slices further apart than this are not joined.
const JOIN_S = 0.02;
// Pictures kept, should the page not be drawn.
const MAX_PICTURES = 64;
const FADE_S = 0.02;

const seconds = (us) => us / 1e6;

export class Player {
  #pen;
  #context;
  #volume;
  #voice;
  // Presentation time 0 on the clock; undefined until the next frame sets it.
  #origin;
  #pictures = [];
  #onShown;
  #sound = { segmentId: 0, nextSample: 0 };
  #lastPts = 0;

  // `onShown(frame)` is called for each picture as it is drawn.
  constructor(canvas, onShown) {
    this.#pen = canvas.getContext("2d");
    this.#onShown = onShown;
    const draw = () => {
      this.#draw();
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  // Plays sound through `context` from now on.
  connect(context) {
    this.#context = context;
    this.#volume = context.createGain();
    this.#volume.connect(context.destination);
    this.#newVoice();
    context.addEventListener("statechange", () => this.restart());
    this.restart();
  }

  get #hasSound() {
    return this.#context?.state === "running";
  }

  // Seconds: by the sound card once there is sound, by the computer before. What is put into the
  // context for this time is heard now.
  get #now() {
    return this.#hasSound ? this.#context.currentTime - this.#latency : performance.now() / 1000;
  }

  get #latency() {
    return this.#hasSound ? this.#context.outputLatency || this.#context.baseLatency || 0 : 0;
  }

  set isMuted(muted) {
    if (this.#volume) this.#volume.gain.value = muted ? 0 : 1;
  }

  // A new session, whose presentation times begin again, or another clock.
  restart() {
    this.#origin = undefined;
    this.#lastPts = 0;
    this.flush();
  }

  // Drops everything that is not seen or heard yet.
  flush() {
    this.#dropPictures(this.#pictures.length);
    this.#sound = { segmentId: 0, nextSample: 0 };
    if (!this.#context) return;
    const [voice, now] = [this.#voice, this.#context.currentTime];
    voice.gain.setTargetAtTime(0, now, FADE_S / 3);
    setTimeout(() => voice.disconnect(), 2000 * FADE_S);
    this.#newVoice();
  }

  // Takes a frame of the session.
  push(frame) {
    const samples = frame.audio?.length ? new Int16Array(frame.audio.slice().buffer) : undefined;
    const time = this.#timeOf(frame, samples);
    if (time === undefined) return;
    if (samples) this.#play(samples, frame.segmentId, time);
    // Nobody sees a hidden page: its pictures are not even decoded.
    if (!document.hidden) this.#load(frame, time);
  }

  // When to show it; undefined: not at all. Moves the clock's origin where frames come too late, or
  // needlessly early.
  #timeOf(frame, samples) {
    const pts = seconds(frame.ptsUs);
    const now = this.#now;
    const lead = LEAD_S + this.#latency;
    this.#origin ??= now + lead - pts;
    const ahead = this.#origin + pts - now;
    const isLate = ahead < this.#latency + MARGIN_S;
    const rests = frame.audioTimeUs === undefined && !this.#pictures.some((p) => p.audioTimeUs !== undefined);
    const isEarly = ahead > lead + SLACK_S;
    const span = Math.max(pts - this.#lastPts, 0);
    this.#lastPts = pts;
    if (isLate || (rests && isEarly)) this.#origin += lead - ahead;
    else if (isEarly && samples?.every((sample) => Math.abs(sample) < QUIET)) {
      // What follows takes its place.
      this.#origin -= span;
      return undefined;
    }
    return this.#origin + pts;
  }

  #play(samples, segmentId, time) {
    const context = this.#context;
    if (!this.#hasSound) return;
    const buffer = context.createBuffer(1, samples.length, context.sampleRate);
    const channel = buffer.getChannelData(0);
    samples.forEach((sample, i) => (channel[i] = sample / 32768));
    const wanted = Math.round(time * context.sampleRate);
    const sound = this.#sound;
    const joins =
      sound.segmentId === segmentId &&
      Math.abs(wanted - sound.nextSample) < JOIN_S * context.sampleRate;
    const start = joins ? sound.nextSample : wanted;
    this.#sound = { segmentId, nextSample: start + samples.length };
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#voice);
    source.start(start / context.sampleRate);
  }

  async #load(frame, time) {
    const { segmentId, audioTimeUs, generated, ptsUs } = frame;
    const picture = { time, segmentId, audioTimeUs, generated, ptsUs, bitmap: undefined, isDropped: false };
    this.#pictures.push(picture);
    this.#dropPictures(this.#pictures.length - MAX_PICTURES);
    try {
      const bitmap = await createImageBitmap(new Blob([frame.data], { type: "image/jpeg" }));
      if (picture.isDropped) bitmap.close();
      else picture.bitmap = bitmap;
    } catch (error) {
      console.error("a frame cannot be decoded", error);
    }
  }

  #dropPictures(count) {
    for (const picture of this.#pictures.splice(0, Math.max(count, 0))) {
      picture.isDropped = true;
      picture.bitmap?.close();
    }
  }

  #draw() {
    const now = this.#now;
    const due = this.#pictures.findLastIndex((p) => p.time <= now && p.bitmap);
    if (due < 0) return;
    const picture = this.#pictures[due];
    const { canvas } = this.#pen;
    const { width, height } = picture.bitmap;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    this.#pen.drawImage(picture.bitmap, 0, 0);
    this.#dropPictures(due + 1);
    this.#onShown(picture);
  }

  #newVoice() {
    this.#voice = this.#context.createGain();
    this.#voice.connect(this.#volume);
  }
}
