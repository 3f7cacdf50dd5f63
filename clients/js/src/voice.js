// Finds out when somebody speaks: loudness over a floor that follows the room.

// Of 16-bit full scale; quieter than this is never speech.
const QUIETEST = 0.008;
// Speech is so much louder than the floor.
const OVER_FLOOR = 3;
// Loud for so long before it counts, so that a click is none.
const BEGIN_S = 0.06;
// Quiet for so long before it is over: pauses between words are shorter.
const END_S = 0.8;
// Kept from before the beginning: first consonants are quiet.
const BEFORE_S = 0.3;
// How fast the floor rises to the room's level; it falls at once.
const RISE_PER_S = 0.35;

// `push(samples)` takes Float32Array blocks and gives `{ level, isSpeech, begins, ends, samples }`:
// `samples` are the blocks to be sent, those from before the beginning among them.
export class VoiceGate {
  #rate;
  #floor = QUIETEST / OVER_FLOOR;
  #loudS = 0;
  #quietS = 0;
  #isSpeech = false;
  #before = [];

  constructor(sampleRateHz) {
    this.#rate = sampleRateHz;
  }

  push(block) {
    const duration = block.length / this.#rate;
    const level = Math.sqrt(block.reduce((sum, x) => sum + x * x, 0) / block.length);
    const isLoud = level > Math.max(QUIETEST, this.#floor * OVER_FLOOR);
    this.#floor = Math.min(level, this.#floor * (1 + RISE_PER_S * duration)) || QUIETEST / OVER_FLOOR / 8;
    this.#loudS = isLoud ? this.#loudS + duration : 0;
    this.#quietS = isLoud ? 0 : this.#quietS + duration;
    const was = this.#isSpeech;
    if (!was && this.#loudS >= BEGIN_S) this.#isSpeech = true;
    if (was && this.#quietS >= END_S) this.#isSpeech = false;
    this.#before.push(block);
    const begins = this.#isSpeech && !was;
    let samples = this.#isSpeech || was ? [block] : [];
    if (begins) samples = this.#before.splice(0);
    while (this.#before.length * duration > BEFORE_S) this.#before.shift();
    return { level, isSpeech: this.#isSpeech, begins, ends: was && !this.#isSpeech, samples };
  }
}

// 16-bit samples, clipped at full scale.
export function toPcm(samples) {
  return Int16Array.from(samples, (x) => Math.round(Math.max(-1, Math.min(1, x)) * 32767));
}
