// Sounds that come into the page, and clips that leave it.

// What the samples are and say, by avatar: a man has a man's voice, and says his own name.

const TOMO = {
  "welcome.wav": ["tomo-welcome.mp3", "Welcome! My name is Tomo, and I am happy to meet you today."],
  "umbrella.wav": ["tomo-umbrella.mp3"],
  "lips.wav": ["tomo-lips.mp3"],
};

// The file and the words of a sample, `{ file, text }`, for an avatar.
export function sampleOf(modelId, { sample, text }) {
  const [file, words] = (modelId === "tomo" && TOMO[sample]) || [sample];
  return { file, text: words ?? text };
}

// One channel: the mean of all.
export function mixDown(sound) {
  const mix = new Float32Array(sound.length);
  for (let i = 0; i < sound.numberOfChannels; i++) {
    sound.getChannelData(i).forEach((x, n) => (mix[n] += x / sound.numberOfChannels));
  }
  return mix;
}

// How a clip is called that a visitor keeps: `mira-2026-11-29-093000.webm`.
export function fileName(modelId, type, at) {
  const time = at.toISOString().slice(0, 19).replace("T", "-").replaceAll(":", "");
  return `${modelId}-${time}.${type === "video/mp4" ? "mp4" : "webm"}`;
}
