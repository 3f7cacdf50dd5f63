"""The front-end of the "wenet" family in NumPy: Kaldi's filter banks of 16-bit samples.

As `wenet_infer.py` of Ultralight-Digital-Human has it, with torchaudio's defaults. The server's
twin is crates/audio/src/fbank.rs.
"""

import numpy as np

from .frontend import SAMPLE_RATE

BANDS, HOP, FRAME, N_FFT = 80, 160, 400, 512
CHUNK_ROWS, STEP_ROWS = 67, 5  # rows that a step hears, rows between steps
LEAD, TAIL = 32 * HOP, 35 * HOP  # silence around a clip
FLOOR = 2.0**-23  # the least power of a band


def _mel(hz):
    """Kaldi's mel scale."""
    return 1127 * np.log1p(hz / 700)


_EDGES = np.linspace(_mel(20.0), _mel(SAMPLE_RATE / 2), BANDS + 2)  # of the bands, in mel


def _filters():
    """80 triangles from 20 to 8000 Hz, even on the mel scale."""
    bins = _mel(np.arange(N_FFT // 2) * SAMPLE_RATE / N_FFT)
    step = _EDGES[1] - _EDGES[0]
    rising = (bins - _EDGES[:-2, None]) / step
    falling = (_EDGES[2:, None] - bins) / step
    return np.maximum(0, np.minimum(rising, falling))


_FILTERS = _filters()
_POVEY = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / (FRAME - 1))) ** 0.85


def fbank_rows(samples):
    """float32 [n] in -1..1 -> [1 + (n + 10320) // 160, 80], natural logarithms of powers."""
    x = np.trunc(np.clip(samples.astype(np.float64) * 32767, -32768, 32767))
    x = np.concatenate([np.zeros(LEAD), x, np.zeros(TAIL)])
    view = np.lib.stride_tricks.sliding_window_view(x, FRAME)[::HOP]
    view = view - view.mean(1, keepdims=True)
    before = np.concatenate([view[:, :1], view[:, :-1]], 1)
    spectrum = np.fft.rfft((view - 0.97 * before) * _POVEY, N_FFT, axis=1)
    power = np.abs(spectrum[:, :-1]) ** 2
    return np.log(np.maximum(FLOOR, power @ _FILTERS.T)).astype(np.float32)


def chunk_starts(rows):
    """First row of each step of a clip; chunks that end past the last row see zeros there."""
    return STEP_ROWS * np.arange(1 + max(0, -(-(rows - CHUNK_ROWS) // STEP_ROWS)))


_BENDS, _COLOURS = 5, 9  # places, evenly spread over the bands, at which a voice is changed
_MIDDLES = 700 * np.expm1(_EDGES[1:-1] / 1127)  # of the bands, Hz


def other_voices(rng, rows):
    """[N, ..., 80] -> each of the N as another throat may have said it: its formants elsewhere, and louder or softer.

    Formants move by some 8 % together and by 6 % each; their levels change by some 4 dB.
    """
    n, bands = len(rows), np.arange(BANDS)

    def curves(places, spread):
        at = rng.normal(0, spread, (n, places))
        return np.stack([np.interp(bands, np.linspace(0, BANDS - 1, places), a) for a in at])

    bent = _MIDDLES * np.exp(rng.normal(0, 0.08, (n, 1)) + curves(_BENDS, 0.06))
    place = np.stack([np.interp(b, _MIDDLES, bands) for b in bent])
    weights = np.maximum(0, 1 - np.abs(place[:, None] - bands[:, None])).astype(np.float32)  # [n, from, to]
    moved = rows.reshape(n, -1, BANDS) @ weights + curves(_COLOURS, 0.9)[:, None]
    return np.maximum(moved, np.log(FLOOR)).astype(np.float32).reshape(rows.shape)
