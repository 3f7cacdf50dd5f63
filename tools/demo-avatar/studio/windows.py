"""Batches of encoder steps and the windows that the generator sees."""
import numpy as np

from .frontend import STEP_ROWS, step_starts


class Clips:
    """Random access to (steps of a stretch of frames, truth) over a corpus."""

    def __init__(self, clips):
        self.clips = [(m, p, step_starts(len(m))) for m, p in clips if len(m) > STEP_ROWS]
        self.frames = [(c, f) for c, (_, p, _) in enumerate(self.clips) for f in range(len(p))]

    def stretch(self, c, first, count):
        """Steps for the windows of frames first .. first+count: [count + 15, 80, 16] and a mask.

        Rows outside the padded features are zero features, which is what the
        mask is for: an encoder never gives exactly zero for a zero input.
        """
        mel, _, starts = self.clips[c]
        padded = np.concatenate([[0], np.arange(len(starts)), [len(starts) - 1]])
        idx = first - 8 + np.arange(count + 15)
        ok = (idx >= 0) & (idx < len(padded))
        rows = starts[padded[np.clip(idx, 0, len(padded) - 1)]]
        x = mel[rows[:, None] + np.arange(STEP_ROWS)].transpose(0, 2, 1)
        return x.astype(np.float32), ok.astype(np.float32)

    def batch(self, rng, size, count, stride):
        """-> steps [size, S, 80, 16], mask [size, S], truth [size, count, 5]."""
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


def unfold(features, count, stride):
    """[B, S, 512] -> audio inputs [B * count, 32, 16, 16] (step k in channels 2k, 2k+1)."""
    idx = (np.arange(count) * stride)[:, None] + np.arange(16)
    return features[:, idx].reshape(-1, 32, 16, 16)
