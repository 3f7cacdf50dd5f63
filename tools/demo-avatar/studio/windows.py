"""Batches of encoder steps and the windows that the generator sees."""
import numpy as np

from .kinds import KINDS


class Clips:
    """Random access to (steps of a stretch of frames, truth) over a corpus."""

    def __init__(self, clips, kind=KINDS["ave"]):
        self.kind = kind
        self.clips = [(m, p, kind.starts(len(m))) for m, p in clips if len(m) > kind.patch[0]]
        self.frames = [(c, f) for c, (_, p, _) in enumerate(self.clips) for f in range(len(p))]

    def stretch(self, c, first, count):
        """Steps for the windows of frames first .. first+count: [count + n - 1, ...] and a mask, n steps a window.

        Rows outside the padded features are zero features, which is what the
        mask is for: an encoder never gives exactly zero for a zero input.
        """
        rows, _, starts = self.clips[c]
        framed = self.kind.framed(len(starts))
        idx = first - self.kind.n_steps // 2 + np.arange(count + self.kind.n_steps - 1)
        ok = (idx >= 0) & (idx < len(framed))
        x = self.kind.patches(rows, starts[framed[np.clip(idx, 0, len(framed) - 1)]])
        return x[:, 0], ok.astype(np.float32)

    def batch(self, rng, size, count, stride):
        """-> steps [size, S, ...], mask [size, S], truth [size, count, 5]."""
        span = (count - 1) * stride + 1
        xs, oks, ps = [], [], []
        while len(xs) < size:
            c, f = self.frames[rng.integers(len(self.frames))]
            p = self.clips[c][1]
            if f + span > len(p):
                continue
            x, ok = self.stretch(c, f, span)
            xs.append(x), oks.append(ok), ps.append(p[f:f + span:stride])
        return np.stack(xs), np.stack(oks), np.stack(ps)


def unfold(features, count, stride, kind=KINDS["ave"]):
    """[B, S, floats of a step] -> audio inputs [B * count, *kind.window] (of AVE, step k in channels 2k, 2k+1)."""
    idx = (np.arange(count) * stride)[:, None] + np.arange(kind.n_steps)
    return features[:, idx].reshape(-1, *kind.window)


def windows(features, frames, kind=KINDS["ave"]):
    """[steps, F] -> the windows of all frames of a clip [frames, *kind.window]: n / 2 steps to either side."""
    f = features[kind.framed(len(features))]
    half = kind.n_steps // 2
    idx = np.arange(frames)[:, None] + np.arange(-half, half)
    ok = (idx >= 0) & (idx < len(f))
    return (f[np.clip(idx, 0, len(f) - 1)] * ok[..., None]).reshape(-1, *kind.window)
