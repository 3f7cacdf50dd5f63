"""What microphones, rooms and people add to clean speech.

Everything takes and gives float32 mono at 16 kHz of unchanged length, so that
the mouth's truth stays where it is.
"""
import numpy as np
from scipy.signal import fftconvolve

from .frontend import SAMPLE_RATE


def decibels(db):
    return 10 ** (db / 20)


def coloured_noise(rng, n):
    """White to brown noise of unit power."""
    spec = np.fft.rfft(rng.standard_normal(n))
    f = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 40.0)
    x = np.fft.irfft(spec * f ** -rng.uniform(0, 1.0), n)
    return (x / (x.std() + 1e-9)).astype(np.float32)


def colour(rng, audio):
    """Random tilt and one broad resonance: microphones and throats."""
    spec = np.fft.rfft(audio)
    f = np.maximum(np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE), 60.0)
    db = rng.normal(0, 2.5) * np.log2(f / 1000) + rng.normal(0, 5.0) * np.exp(-(np.log2(f / rng.uniform(200, 5000)) / 0.8) ** 2)
    if rng.random() < 0.2:  # telephone and cheap headsets
        db = db - 60 * (f > rng.uniform(3400, 7000))
    return np.fft.irfft(spec * decibels(db), len(audio)).astype(np.float32)


def room(rng, audio):
    """The echo of a small room: decaying noise after the direct sound."""
    decay = rng.uniform(0.1, 0.5)  # seconds until -60 dB
    n = int(decay * SAMPLE_RATE)
    tail = rng.standard_normal(n) * decibels(-60 * np.arange(n) / n)
    tail[:int(0.003 * SAMPLE_RATE)] = 0
    tail *= decibels(-rng.uniform(3, 16)) / np.sqrt(np.sum(tail ** 2))
    tail[0] = 1
    return fftconvolve(audio, tail)[:len(audio)].astype(np.float32)


def degrade(rng, audio):
    """Room, colour, gain and, more often than not, noise at an SNR of 12 dB or more."""
    if rng.random() < 0.35:
        audio = room(rng, audio)
    if rng.random() < 0.6:
        audio = colour(rng, audio)
    rms = np.sqrt(np.mean(audio ** 2)) + 1e-9
    out = audio * (decibels(rng.uniform(-36, -12)) / rms)
    if rng.random() < 0.6:
        level = np.sqrt(np.mean(out ** 2)) * decibels(-rng.uniform(12, 45))
        out = out + coloured_noise(rng, len(out)) * level
    return np.clip(out, -1, 1).astype(np.float32)


def breath(rng, n):
    """A breath through the nose or between closed lips: a swell of band-limited noise."""
    spec = np.fft.rfft(rng.standard_normal(n))
    f = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 20.0)
    middle, spread = rng.uniform(500, 3000), rng.uniform(0.6, 1.4)
    x = np.fft.irfft(spec * np.exp(-(np.log2(f / middle) / spread) ** 2), n)
    return (x / (x.std() + 1e-9) * np.hanning(n) ** rng.uniform(0.5, 2)).astype(np.float32)


def click(rng, n):
    """A key, a mouse, a cup put down: a short damped ring."""
    t = np.arange(n) / SAMPLE_RATE
    x = np.zeros(n)
    for start in rng.uniform(0, 0.9 * n / SAMPLE_RATE, rng.integers(1, 5)):
        late = np.maximum(t - start, 0)
        x += (t >= start) * np.exp(-late * rng.uniform(60, 600)) * np.sin(2 * np.pi * rng.uniform(300, 5000) * late)
    return x.astype(np.float32)


def hum(rng, n):
    """Mains and fans: a low tone with its overtones."""
    t = np.arange(n) / SAMPLE_RATE
    base = rng.choice([50.0, 60.0, rng.uniform(80, 300)])
    x = sum(rng.uniform(0, 1) / k * np.sin(2 * np.pi * (base * k * t + rng.random())) for k in range(1, 8))
    return (x / (x.std() + 1e-9)).astype(np.float32)


NON_SPEECH = (breath, click, hum)


def add_sound(rng, audio, start, stop):
    """Something that is not speech, somewhere in samples start..stop; the mouth stays shut."""
    n = int(min(stop - start, rng.uniform(0.15, 0.7) * SAMPLE_RATE))
    if n < SAMPLE_RATE // 20:
        return audio
    at = int(rng.integers(start, stop - n + 1))
    kind = NON_SPEECH[rng.integers(len(NON_SPEECH))]
    out = audio.copy()
    out[at:at + n] += kind(rng, n) * decibels(rng.uniform(-60, -28))
    return out
