"""Speak the sentences and store what every kind hears with the mouth's ground truth.

    python -m studio.corpus [COUNT]

Writes WORK/train.npz and WORK/val.npz. For each kind of audio: all clips' rows one
after the other (float16), how many each clip has, and the mouth parameters per frame.
"""
import sys

import numpy as np

from . import flite, visemes
from .augment import add_sound, coloured_noise, decibels, degrade
from .espeak import Espeak
from .frontend import SAMPLE_RATE
from .kinds import KINDS
from .paths import WORK
from .texts import HELD_OUT_SENTENCES, HELD_OUT_VARIANTS, TRAIN_VARIANTS, training_sentence

TRAIN_CLIPS = 4200
FLITE_SHARE = 0.4  # of American English


def truth(phonemes, samples, kind=KINDS["ave"]):
    """Mouth parameters [frames, 5] of a clip."""
    duration = samples / SAMPLE_RATE
    curve = visemes.curves(visemes.segments(phonemes, duration), duration)
    return visemes.at_frames(curve, kind.frame_count(samples), kind.fps)


def voice(lang, variant):
    return f"{lang}+{variant}" if variant else lang


def pad_silence(audio, phonemes, before, after):
    b = int(before * SAMPLE_RATE)
    audio = np.concatenate([np.zeros(b, np.float32), audio, np.zeros(int(after * SAMPLE_RATE), np.float32)])
    return audio, [(t + b / SAMPLE_RATE, p) for t, p in phonemes]


def quiet_clip(rng):
    """Silence, noise, or sounds that are not speech: the mouth stays shut."""
    n = int(rng.uniform(1.0, 3.0) * SAMPLE_RATE)
    if rng.random() < 0.2:
        return np.zeros(n, np.float32)
    audio = coloured_noise(rng, n) * decibels(rng.uniform(-85, -36))
    for _ in range(rng.integers(0, 4)):
        audio = add_sound(rng, audio, 0, n)
    return np.clip(audio, -1, 1).astype(np.float32)


def spoken_clip(rng, speaker, lang, text):
    if lang == "en-us" and rng.random() < FLITE_SHARE:
        audio, ph = flite.speak(text, str(rng.choice(flite.TRAIN_VOICES)), rng.uniform(0.8, 1.35), rng.uniform(85, 210))
    else:
        audio, ph = speaker.speak(text, voice(lang, str(rng.choice(TRAIN_VARIANTS))), rng.uniform(110, 230),
                                  rng.uniform(15, 85), rng.uniform(25, 85))
    if len(audio) < SAMPLE_RATE // 2:
        return None
    before, after = rng.uniform(0, 0.7, 2)
    n = len(audio)
    audio, ph = pad_silence(audio, ph, before, after)
    audio = degrade(rng, audio)
    if rng.random() < 0.4:
        audio = add_sound(rng, audio, 0, int(before * SAMPLE_RATE))
    if rng.random() < 0.4:
        audio = add_sound(rng, audio, int(before * SAMPLE_RATE) + n, len(audio))
    return audio, ph


def collect(clips):
    parts = {f"{name}_{what}": [] for name in KINDS for what in ("rows", "params")}
    for audio, phonemes in clips:
        for name, kind in KINDS.items():
            parts[f"{name}_rows"].append(kind.rows(audio).astype(np.float16))
            parts[f"{name}_params"].append(truth(phonemes, len(audio), kind).astype(np.float16))
    whole = {key: np.concatenate(part) for key, part in parts.items()}
    return whole | {f"{key}_len": [len(x) for x in part] for key, part in parts.items()}


def train_clips(speaker, count):
    rng = np.random.default_rng(20)
    for i in range(count):
        if i % 14 == 13:
            yield quiet_clip(rng), []
        elif (clip := spoken_clip(rng, speaker, *training_sentence(rng))) is not None:
            yield clip


def val_clips(speaker):
    rng = np.random.default_rng(7)
    for i, text in enumerate(HELD_OUT_SENTENCES):
        lang = "en-gb-x-rp" if i % 3 == 2 else "en-us"
        for k in range(3):
            variant = HELD_OUT_VARIANTS[(i + 3 * k) % len(HELD_OUT_VARIANTS)]
            audio, ph = speaker.speak(text, voice(lang, variant), 140 + 20 * k, 50)
            audio, ph = pad_silence(audio, ph, 0.2, 0.3)
            yield (audio if k == 0 else degrade(rng, audio)), ph


def load(name, kind=KINDS["ave"]):
    """-> list of (rows [rows, 80] float32, params [frames, 5] float32)."""
    z = np.load(WORK / f"{name}.npz")
    rows, params = (np.split(z[key], np.cumsum(z[f"{key}_len"])[:-1]) for key in (f"{kind.name}_rows", f"{kind.name}_params"))
    return [(m.astype(np.float32), p.astype(np.float32)) for m, p in zip(rows, params)]


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    speaker = Espeak()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else TRAIN_CLIPS
    for name, clips in (("train", train_clips(speaker, count)), ("val", val_clips(speaker))):
        data = collect(clips)
        np.savez(WORK / f"{name}.npz", **data)
        p = data["ave_params"].astype(np.float32)
        print(name, len(data["ave_rows_len"]), "clips", len(p) / 25 / 60, "minutes; mean", p.mean(0), "max", p.max(0))


if __name__ == "__main__":
    main()
