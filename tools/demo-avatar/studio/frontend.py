"""Audio front-end and windows of the "ave" family, in NumPy."""
import numpy as np

SAMPLE_RATE, N_FFT, HOP, MELS, FPS = 16000, 800, 200, 80, 25
STEP_ROWS, WINDOW = 16, 16


def _mel_filters():
    """80 triangles from 55 to 7600 Hz, Slaney scale, each of unit area."""
    def to_mel(f):
        return np.where(f < 1000, 3 * f / 200, 15 + 27 * np.log(np.maximum(f, 1) / 1000) / np.log(6.4))

    def to_hz(m):
        return np.where(m < 15, 200 * m / 3, 1000 * np.exp(np.log(6.4) * (m - 15) / 27))
    edges = to_hz(np.linspace(to_mel(np.float64(55)), to_mel(np.float64(7600)), MELS + 2))
    freqs = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    width = np.diff(edges)
    ramps = edges[:, None] - freqs[None]
    out = np.maximum(0, np.minimum(-ramps[:-2] / width[:-1, None], ramps[2:] / width[1:, None]))
    return (out * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


_FILTERS = _mel_filters()
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


def mel_rows(samples):
    """float32 [n] in -1..1 -> [1 + n // 200, 80] in -4..4."""
    x = samples.astype(np.float32).copy()
    x[1:] -= 0.97 * samples[:-1]
    x = np.pad(x, N_FFT // 2)
    rows = 1 + len(samples) // HOP
    view = np.lib.stride_tricks.sliding_window_view(x, N_FFT)[::HOP][:rows]
    mag = np.abs(np.fft.rfft(view * _HANN, axis=1)).astype(np.float32)
    db = 20 * np.log10(np.maximum(1e-5, mag @ _FILTERS.T)) - 20
    return np.clip(8 * (db + 100) / 100 - 4, -4, 4).astype(np.float32)


def step_count(rows):
    return int(np.floor((rows - STEP_ROWS) / 80 * FPS)) + 2


def step_starts(rows):
    k = np.arange(step_count(rows))
    return np.minimum(np.floor(80 * k / FPS).astype(int), rows - STEP_ROWS)


def frame_count(samples):
    return -(-samples * FPS // SAMPLE_RATE)
