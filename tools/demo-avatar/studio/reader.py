"""A small network that reads the mouth's parameters back from pictures.

    python -m studio.reader mira

It is trained on drawn faces only (the generator's targets, whose parameters are
known), blurred and lit at random, so that it judges what the generator made by
what the illustrator would have drawn. Its own error on drawn frames that it was
not trained on is printed: no measurement made with it can be better.
"""
import sys

import cv2
import numpy as np
import torch
from torch import nn

from .characters import by_name
from .corpus import load
from .paths import work_folder
from .visemes import PARAMS

SIZE = (80, 72)                     # width and height of the picture of the mouth
SPAN = ((0.20, 0.80), (0.34, 0.92))  # its place in the face rectangle, x and y


def cut(face):
    """Face rectangle -> the picture of the mouth, both BGR uint8."""
    h, w = face.shape[:2]
    (xa, xb), (ya, yb) = SPAN
    part = face[int(ya * h):int(yb * h), int(xa * w):int(xb * w)]
    return cv2.resize(part, SIZE, interpolation=cv2.INTER_AREA)


def as_input(pictures):
    """Pictures of mouths -> [N, 3, 72, 80] in 0..1."""
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 255)


class Reader(nn.Module):
    """[N, 3, 72, 80] -> [N, 5]."""

    def __init__(self):
        super().__init__()
        def block(i, o):
            return [nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
        self.net = nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 48), *block(48, 64),
                                 nn.Flatten(), nn.Linear(64 * 5 * 5, 96), nn.ReLU(inplace=True), nn.Linear(96, 5))

    def forward(self, x):
        return self.net(x)


def disturb(rng, picture):
    """Softness and light, as a network's picture may differ from a drawing."""
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.2, 1.0))
    gain, offset = rng.uniform(0.97, 1.03), rng.uniform(-3, 3)
    noise = rng.normal(0, rng.uniform(0, 2.0), picture.shape)
    return np.clip(picture * gain + offset + noise, 0, 255).astype(np.uint8)


def samples(work):
    index = np.load(work / "targets_index.npy")[:int(np.load(work / "targets_done.npy"))]
    clips = [(m, p) for m, p in load("train") if len(m) > 16]
    targets = np.load(work / "targets.npy", mmap_mode="r")
    return [cut(t) for t in targets[:len(index)]], np.stack([clips[c][1][f] for _, c, f in index])


def correlations(net, x, y):
    net.eval()
    with torch.no_grad():
        got = net(as_input(x)).numpy()
    net.train()
    return [np.corrcoef(got[:, k], y[:, k])[0, 1] for k in range(5)], np.abs(got - y).mean(0)


def main():
    who = by_name(sys.argv[1])
    work = work_folder(who.name)
    torch.manual_seed(11)
    rng = np.random.default_rng(11)
    pictures, truth = samples(work)
    held = max(200, len(truth) // 10)
    net = Reader()
    steps, batch = 1500, 64
    opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-3)
    for it in range(steps):
        for g in opt.param_groups:
            g["lr"] = 2e-3 * 0.5 * (1 + np.cos(np.pi * it / steps))
        k = rng.integers(held, len(truth), batch)
        x = as_input([disturb(rng, pictures[j]) for j in k])
        loss = nn.functional.smooth_l1_loss(net(x), torch.from_numpy(truth[k]), beta=0.1)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if it % 250 == 249:
            corr, error = correlations(net, pictures[:held], truth[:held])
            print(it + 1, f"{loss.item():.4f}", *(f"{n} {c:.3f}/{e:.3f}" for n, c, e in zip(PARAMS, corr, error)), flush=True)
    torch.save(net.state_dict(), work / "reader.pt")


if __name__ == "__main__":
    main()
