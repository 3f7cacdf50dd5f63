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
const decode = (data) => createImageBitmap(new Blob([data], { type: "image/jpeg" }));
const close = (...bitmaps) => bitmaps.forEach((bitmap) => bitmap?.close());

export class Player {
  #pen;
  #context;
  // Everything that is heard, before the volume.
  #mix;
  #gain;
  #volume = 1;
  #isMuted = false;
  #voice;
  // Where the rest of pictures comes from of which only the face came.
  #backgrounds;
  // Presentation time 0 on the clock; undefined until the next frame sets it.
  #origin;
  #pictures = [];
  #onShown;
  #sound = { segmentId: 0, nextSample: 0 };
  #lastPts = 0;

  // Draws on `canvas`, which takes the size of the pictures. `onShown(frame)` is called for each as it is drawn.
  constructor(canvas, onShown = () => {}) {
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
    this.#gain = context.createGain();
    this.#mix = context.createGain();
    this.#mix.connect(this.#gain);
    this.#gain.connect(context.destination);
    this.#loud();
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
    this.#isMuted = muted;
    this.#loud();
  }

  // From 0 to 1; 1 unless set.
  set volume(volume) {
    this.#volume = Math.max(0, Math.min(1, volume));
    this.#loud();
  }

  #loud() {
    // Loudness is heard as a power of what is sent to the card: the middle of a slider shall sound like half.
    if (this.#gain) this.#gain.gain.value = this.#isMuted ? 0 : this.#volume ** 2;
  }

  // For `regionOnly` frames: a `Backgrounds` of the model, which has the pictures around their faces.
  set backgrounds(backgrounds) {
    this.#backgrounds = backgrounds;
  }

  // What is shown and played from now on, as a MediaStream for a `MediaRecorder`. The voice has its full loudness, and is
  // there once there is sound. `release()` ends it.
  capture() {
    const stream = this.#pen.canvas.captureStream();
    const [mix, tap] = [this.#mix, this.#context?.createMediaStreamDestination()];
    if (tap) {
      mix.connect(tap);
      for (const track of tap.stream.getAudioTracks()) stream.addTrack(track);
    }
    const release = () => {
      for (const track of stream.getTracks()) track.stop();
      if (tap) mix.disconnect(tap);
    };
    return { stream, release };
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
    const rests = frame.audioTimeUs === undefined && !this.#pictures.some((p) => p.frame.audioTimeUs !== undefined);
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
    const picture = { frame, time, bitmap: undefined, around: undefined, isDropped: false };
    this.#pictures.push(picture);
    this.#dropPictures(this.#pictures.length - MAX_PICTURES);
    try {
      const [bitmap, around] = await Promise.all([decode(frame.data), this.#around(frame)]);
      if (picture.isDropped) close(bitmap, around);
      else Object.assign(picture, { bitmap, around });
    } catch (error) {
      console.error("a frame cannot be decoded", error);
    }
  }

  // The picture around a frame that is only a face; undefined for one that is whole.
  async #around({ backgroundIndex, width, height, region }) {
    const isFace = region !== undefined && region.width === width && region.height === height && this.#backgrounds;
    if (!isFace) return undefined;
    return createImageBitmap(await this.#backgrounds.get(backgroundIndex));
  }

  #dropPictures(count) {
    for (const picture of this.#pictures.splice(0, Math.max(count, 0))) {
      picture.isDropped = true;
      close(picture.bitmap, picture.around);
    }
  }

  #draw() {
    const now = this.#now;
    const due = this.#pictures.findLastIndex((p) => p.time <= now && p.bitmap);
    if (due < 0) return;
    const { frame, bitmap, around } = this.#pictures[due];
    const { canvas } = this.#pen;
    const { width, height } = around ?? bitmap;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    if (around) this.#pen.drawImage(around, 0, 0);
    this.#pen.drawImage(bitmap, around ? frame.region.x : 0, around ? frame.region.y : 0);
    this.#dropPictures(due + 1);
    this.#onShown(frame);
  }

  #newVoice() {
    this.#voice = this.#context.createGain();
    this.#voice.connect(this.#mix);
  }
}
