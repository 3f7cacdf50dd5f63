"""Step 2: speak the sentences and store mel rows with the mouth's ground truth.

Writes WORK/train.npz and WORK/val.npz: all clips' encoder inputs one after the
other (float16), the clip each belongs to, and the mouth parameters per frame.
"""
import sys

import numpy as np

from . import visemes
from .espeak import Espeak
from .frontend import SAMPLE_RATE, frame_count, mel_rows
from .paths import WORK
from .texts import HELD_OUT_SENTENCES, HELD_OUT_VARIANTS, TRAIN_VARIANTS, training_sentence

TRAIN_CLIPS = 1600


def truth(phonemes, samples):
    """Mouth parameters [frames, 5] of a clip."""
    duration = samples / SAMPLE_RATE
    curve = visemes.curves(visemes.segments(phonemes, duration), duration)
    return visemes.at_frames(curve, frame_count(samples))


def voice(lang, variant):
    return f"{lang}+{variant}" if variant else lang


def pad_silence(audio, phonemes, before, after):
    b = int(before * SAMPLE_RATE)
    audio = np.concatenate([np.zeros(b, np.float32), audio, np.zeros(int(after * SAMPLE_RATE), np.float32)])
    return audio, [(t + b / SAMPLE_RATE, p) for t, p in phonemes]


def coloured_noise(rng, n):
    """White to brown noise of unit power."""
    spec = np.fft.rfft(rng.standard_normal(n))
    f = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 40.0)
    x = np.fft.irfft(spec * f ** -rng.uniform(0, 1.0), n)
    return (x / (x.std() + 1e-9)).astype(np.float32)


def colour(rng, audio):
    """Random tilt and one broad resonance: rooms and microphones."""
    spec = np.fft.rfft(audio)
    f = np.maximum(np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE), 60.0)
    db = rng.normal(0, 2.0) * np.log2(f / 1000) + rng.normal(0, 4.0) * np.exp(-(np.log2(f / rng.uniform(200, 5000)) / 0.8) ** 2)
    return np.fft.irfft(spec * 10 ** (db / 20), len(audio)).astype(np.float32)


def degrade(rng, audio):
    """Gain and, more often than not, noise. Speech keeps an SNR of 12 dB or more."""
    if rng.random() < 0.5:
        audio = colour(rng, audio)
    rms = np.sqrt(np.mean(audio ** 2)) + 1e-9
    out = audio * (10 ** (rng.uniform(-32, -12) / 20) / rms)
    if rng.random() < 0.6:
        level = np.sqrt(np.mean(out ** 2)) * 10 ** (-rng.uniform(12, 45) / 20)
        out = out + coloured_noise(rng, len(out)) * level
    return np.clip(out, -1, 1).astype(np.float32)


def quiet_clip(rng):
    """Silence or noise alone: the mouth stays shut."""
    n = int(rng.uniform(1.0, 3.0) * SAMPLE_RATE)
    if rng.random() < 0.3:
        return np.zeros(n, np.float32)
    return np.clip(coloured_noise(rng, n) * 10 ** (rng.uniform(-85, -34) / 20), -1, 1).astype(np.float32)


def collect(clips):
    mels, params = [], []
    for audio, phonemes in clips:
        mels.append(mel_rows(audio).astype(np.float16))
        params.append(truth(phonemes, len(audio)).astype(np.float16))
    return {"mel": np.concatenate(mels), "mel_len": [len(m) for m in mels],
            "params": np.concatenate(params), "params_len": [len(p) for p in params]}


def train_clips(speaker, count):
    rng = np.random.default_rng(20)
    for i in range(count):
        if i % 16 == 15:
            yield quiet_clip(rng), []
            continue
        lang, text = training_sentence(rng)
        audio, ph = speaker.speak(text, voice(lang, str(rng.choice(TRAIN_VARIANTS))), rng.uniform(115, 220),
                                  rng.uniform(20, 80), rng.uniform(30, 80))
        if len(audio) < SAMPLE_RATE // 2:
            continue
        audio, ph = pad_silence(audio, ph, rng.uniform(0, 0.6), rng.uniform(0, 0.6))
        yield degrade(rng, audio), ph


def val_clips(speaker):
    rng = np.random.default_rng(7)
    for i, text in enumerate(HELD_OUT_SENTENCES):
        lang = "en-gb-x-rp" if i % 3 == 2 else "en-us"
        for k in range(3):
            variant = HELD_OUT_VARIANTS[(i + 3 * k) % len(HELD_OUT_VARIANTS)]
            audio, ph = speaker.speak(text, voice(lang, variant), 140 + 20 * k, 50)
            audio, ph = pad_silence(audio, ph, 0.2, 0.3)
            yield (audio if k == 0 else degrade(rng, audio)), ph


def load(name):
    """-> list of (mel [rows, 80] float32, params [frames, 5] float32)."""
    z = np.load(WORK / f"{name}.npz")
    mels = np.split(z["mel"], np.cumsum(z["mel_len"])[:-1])
    params = np.split(z["params"], np.cumsum(z["params_len"])[:-1])
    return [(m.astype(np.float32), p.astype(np.float32)) for m, p in zip(mels, params)]


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    speaker = Espeak()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else TRAIN_CLIPS
    for name, clips in (("train", train_clips(speaker, count)), ("val", val_clips(speaker))):
        data = collect(clips)
        np.savez(WORK / f"{name}.npz", **data)
        p = data["params"].astype(np.float32)
        print(name, len(data["mel_len"]), "clips", len(p) / 25 / 60, "minutes; mean", p.mean(0), "max", p.max(0))


if __name__ == "__main__":
    main()
