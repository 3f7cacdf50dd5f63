"""Kinds of audio: what an avatar hears, and with which networks.

    python -m studio.train_encoder --kind wenet

Frames of the two kinds meet every fifth of a second. Targets are drawn for those alone
(studio/targets.py), so that both kinds learn from the same pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import fbank, frontend
from .conformer import Conformer
from .nets import AudioBranch, Encoder, WenetBranch

MEETING = 5  # Hz at which frames of all kinds meet


@dataclass(frozen=True)
class Kind:
    name: str
    fps: int
    rows: Callable  # samples -> rows [T, 80]
    starts: Callable  # number of rows -> first row of each step
    patch: tuple  # (rows, bands) that a step hears
    is_band_major: bool  # patches are transposed
    n_steps: int  # of a window
    repeats_ends: bool  # the first and last step come twice
    window: tuple  # shape of the generator's audio input
    encoder: Callable  # makes the network of steps
    branch: Callable  # makes the generator's audio branch
    vary: Callable  # (rng, [N, ..., *patch]) -> each of the N in another voice, for training

    @property
    def patch_shape(self):
        return (1, *(reversed(self.patch) if self.is_band_major else self.patch))

    @property
    def suffix(self):
        """Of files that differ by kind."""
        return "" if self.name == "ave" else f"-{self.name}"

    def frame_count(self, samples):
        return -(-samples * self.fps // frontend.SAMPLE_RATE)

    def patches(self, rows, starts):
        """Encoder inputs [steps, 1, ...] from rows; rows past the end are zeros."""
        n, _ = self.patch
        missing = max(0, starts.max() + n - len(rows))
        x = np.pad(rows, ((0, missing), (0, 0)))[starts[:, None] + np.arange(n)]
        x = x.transpose(0, 2, 1) if self.is_band_major else x
        return np.ascontiguousarray(x[:, None], np.float32)

    def framed(self, n_steps):
        """Steps in the order in which windows count them."""
        steps = np.arange(n_steps)
        return np.concatenate([[0], steps, [n_steps - 1]]) if self.repeats_ends else steps


KINDS = {
    "ave": Kind(
        name="ave",
        fps=25,
        rows=frontend.mel_rows,
        starts=frontend.step_starts,
        patch=(frontend.STEP_ROWS, frontend.MELS),
        is_band_major=True,
        n_steps=16,
        repeats_ends=True,
        window=(32, 16, 16),
        encoder=Encoder,
        branch=AudioBranch,
        vary=lambda _, patches: patches,
    ),
    "wenet": Kind(
        name="wenet",
        fps=20,
        rows=fbank.fbank_rows,
        starts=fbank.chunk_starts,
        patch=(fbank.CHUNK_ROWS, fbank.BANDS),
        is_band_major=False,
        n_steps=8,
        repeats_ends=False,
        window=(128, 16, 32),
        encoder=Conformer,
        branch=WenetBranch,
        vary=fbank.other_voices,
    ),
}


def add_argument(parser):
    parser.add_argument("--kind", choices=KINDS, default="ave", help="of the audio [default: ave]")
