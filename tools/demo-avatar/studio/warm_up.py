"""The conformer learns alone, before the audio branch learns with it.

A chunk has 16 vectors, each of a time of its own, and a linear map reads the mouth of that time from each. So
a chunk gives 16 truths, and the branch, which costs more than the encoder, is not needed. Then every tile of the
features begins with a copy of what that map reads: the branch slides over them, and must find the mouth everywhere.
"""


import numpy as np
import torch
from torch import nn

from .conformer import STEPS, WIDTH
from .corpus import load
from .fbank import CHUNK_ROWS, FRAME, HOP, LEAD
from .frontend import SAMPLE_RATE
from .kinds import KINDS
from .paths import WORK
from .schedule import share_of_rate

BATCH, LR = 160, 3e-3
RATE = 100  # Hz of the truth
# Seconds from a frame to the middle of what each vector of its chunk hears: rows 4 j to 4 j + 6.
TIMES = ((4 * np.arange(STEPS) + 3) * HOP - LEAD + FRAME / 2) / SAMPLE_RATE
MIDDLE = int(np.abs(TIMES).argmin())
REACH = 0.25  # seconds: the outer vectors hear one side only, and count less
TILE = (2, 4)  # of the 16 x 32 numbers of a vector: what the branch's strides make one place of
FILE = WORK / "warm-up.pt"


class Chunks:
    """All chunks of a corpus, and the mouth at the times of their vectors."""

    def __init__(self, name):
        rows, truths, self.first, self.place = [], [], [], []
        n_rows = n_truths = 0
        for (x, p), (_, q) in zip(load(name, KINDS["wenet"]), load(name)):
            if len(x) <= CHUNK_ROWS or len(p) < 2:
                continue
            starts = KINDS["wenet"].starts(len(x))[: len(p)]
            missing = max(0, starts[-1] + CHUNK_ROWS - len(x))
            rows.append(np.pad(x, ((0, missing), (0, 0))))
            truths.append(between(p, q))
            times = np.arange(len(starts))[:, None] / KINDS["wenet"].fps + TIMES
            self.first.append(n_rows + starts)
            self.place.append(n_truths + np.clip(np.round(times * RATE), 0, len(truths[-1]) - 1).astype(int))
            n_rows, n_truths = n_rows + len(rows[-1]), n_truths + len(truths[-1])
        self.rows, self.truths = np.concatenate(rows), np.concatenate(truths)
        self.first, self.place = np.concatenate(self.first), np.concatenate(self.place)

    def take(self, k):
        """-> chunks [N, 1, 67, 80], a tensor of truth [N, 16, 5]."""
        x = self.rows[self.first[k][:, None] + np.arange(CHUNK_ROWS)]
        return x[:, None], torch.from_numpy(self.truths[self.place[k]])


def between(wenet, ave):
    """Truth at RATE: both kinds have samples of one curve."""
    times = np.concatenate([np.arange(len(p)) / KINDS[kind].fps for kind, p in (("wenet", wenet), ("ave", ave))])
    times, order = np.unique(times, return_index=True)
    samples = np.concatenate([wenet, ave])[order]
    grid = np.arange(int(len(wenet) / KINDS["wenet"].fps * RATE) + 1) / RATE
    return np.stack([np.interp(grid, times, s) for s in samples.T], 1).astype(np.float32)


def correlations(encoder, head, chunks):
    """Per parameter, of the vector that is nearest in time to the frame."""
    encoder.eval()
    got, want = [], []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for k in np.array_split(np.arange(0, len(chunks.first), 3), 16):
            x, y = chunks.take(k)
            got.append(head(encoder.vectors(torch.from_numpy(x)))[:, MIDDLE].float().numpy())
            want.append(y[:, MIDDLE].numpy())
    encoder.train()
    return [float(np.corrcoef(g, w)[0, 1]) for g, w in zip(np.concatenate(got).T, np.concatenate(want).T)]


def spread(encoder, head):
    """Every tile of a vector's features begins with what the head reads, and a little of all the rest."""
    with torch.no_grad():
        rows, columns = TILE
        weight = encoder.out.weight.view(16 // rows, rows, 32 // columns, columns, WIDTH)
        bias = encoder.out.bias.view(weight.shape[:-1])
        for k in range(len(head.bias)):
            i, j = divmod(k, columns)
            weight[:, i, :, j] = head.weight[k] + 0.1 * weight[:, i, :, j]
            bias[:, i, :, j] = head.bias[k]


def warm_up(encoder, weights, n_steps, resume):
    """Trains all of the conformer but its last layer, and begins that one."""
    train, val = Chunks("train"), Chunks("val")
    head = nn.Linear(WIDTH, len(weights))
    params = [*(p for name, p in encoder.named_parameters() if not name.startswith("out.")), *head.parameters()]
    opt = torch.optim.AdamW(params, lr=LR, weight_decay=1e-2, betas=(0.9, 0.98))
    modules, begin = {"encoder": encoder, "head": head, "optimizer": opt}, 0
    if resume and FILE.exists():
        state = torch.load(FILE, weights_only=True)
        for name, m in modules.items():
            m.load_state_dict(state[name])
        begin = state["step"]
    rng = np.random.default_rng(40 + begin)
    near = torch.from_numpy(np.exp(-((TIMES / REACH) ** 2))[:, None]).float()
    losses = []
    for it in range(begin, n_steps):
        for g in opt.param_groups:
            g["lr"] = LR * share_of_rate(it, it / n_steps, 60, 0.02)
        x, y = train.take(rng.integers(len(train.first), size=BATCH))
        with torch.autocast("cpu", torch.bfloat16):
            got = head(encoder.vectors(torch.from_numpy(KINDS["wenet"].vary(rng, x)))).float()
        closed = 1 + 1.5 * (y[..., :1] < 0.05)
        loss = (nn.functional.smooth_l1_loss(got, y, reduction="none", beta=0.1) * weights * closed * near).mean()
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        losses.append(loss.item())
        if (it + 1) % 50 == 0:
            print(f"alone {it + 1} loss {np.mean(losses[-50:]):.4f}", flush=True)
            part = FILE.with_suffix(".part")
            torch.save({name: m.state_dict() for name, m in modules.items()} | {"step": it + 1}, part)
            part.replace(FILE)  # never half a file
    print("held out, alone", " ".join(f"{c:.3f}" for c in correlations(encoder, head, val)), flush=True)
    spread(encoder, head)
