"""Encoder + the generator's audio branch, trained on audio alone.

A 1x1 convolution reads the five mouth parameters from every place of the audio
branch's 10x10 map. So each place of the map, and thus each place of the
picture's bottleneck, learns to hold a plain linear code of the mouth: the
generator then has only drawing left to learn. A conformer learns alone before
(studio/warm_up.py), and then moves less than the branch.
"""
import argparse

import numpy as np
import torch
from torch import nn

from .corpus import load
from .kinds import KINDS, add_argument
from .paths import WORK
from .schedule import share_of_rate
from .warm_up import warm_up
from .windows import Clips, unfold, windows

WEIGHTS = torch.tensor([3.0, 1.0, 1.5, 0.8, 0.6])
WARM = 0.3  # share of the learning rate for an encoder that knows something already
INNER = slice(1, 9)  # the outermost ring of the map sees mostly padding


def features(encoder, steps, mask):
    b, s = mask.shape
    f = encoder(torch.from_numpy(steps).reshape(b * s, 1, *steps.shape[2:])).float().reshape(b, s, -1)
    return f * torch.from_numpy(mask)[..., None]


def encode_clip(encoder, rows, kind):
    with torch.no_grad():
        return encoder(torch.from_numpy(kind.patches(rows, kind.starts(len(rows))))).float().numpy()


def evaluate(modules, kind, clips, limit=24):
    """Correlation per parameter over held-out clips."""
    encoder, branch, head = modules.values()
    encoder.eval(), branch.eval()
    got, want = [], []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for rows, p in clips[:limit]:
            w = windows(encode_clip(encoder, rows, kind), len(p), kind)
            y = head(branch(torch.from_numpy(w)))[:, :, INNER, INNER].mean((2, 3))
            got.append(y.float().numpy()), want.append(p)
    encoder.train(), branch.train()
    got, want = np.concatenate(got), np.concatenate(want)
    return [float(np.corrcoef(got[:, k], want[:, k])[0, 1]) for k in range(5)], float(np.abs(got - want)[:, 0].mean())


def weights_file(kind):
    return WORK / f"audio{kind.suffix}.pt"


def save(kind, modules, opt, step):
    states = {name: m.state_dict() for name, m in modules.items()}
    torch.save({**states, "optimizer": opt.state_dict(), "step": step}, WORK / "audio.part")
    (WORK / "audio.part").replace(weights_file(kind))  # never half a file


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=3000)
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--batch", type=int, default=24, help="stretches of 8 frames in a step [default: 24]")
    ap.add_argument("--alone", type=int, default=1500, help="steps of a conformer alone, before [default: 1500]")
    ap.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    add_argument(ap)
    args = ap.parse_args()
    kind = KINDS[args.kind]
    torch.manual_seed(1)
    train, val = Clips(load("train", kind), kind), load("val", kind)
    modules = {"encoder": kind.encoder(), "branch": kind.branch(), "head": nn.Conv2d(128, 5, 1)}
    encoder, branch, head = modules.values()
    params = [p for m in modules.values() for p in m.parameters()]
    is_warm = kind.name == "wenet" and args.alone > 0
    groups = [{"params": list(encoder.parameters()), "share": WARM if is_warm else 1},
              {"params": [*branch.parameters(), *head.parameters()], "share": 1}]
    opt = torch.optim.AdamW(groups, lr=args.lr, weight_decay=1e-3)
    begin = 0
    goes_on = args.resume and weights_file(kind).exists()
    if is_warm and not goes_on:
        warm_up(encoder, WEIGHTS, args.alone, args.resume)
    if goes_on:
        state = torch.load(weights_file(kind), weights_only=True)
        for name, m in modules.items():
            m.load_state_dict(state[name])
        opt.load_state_dict(state["optimizer"])
        begin = state["step"]
    for m in (encoder, branch):
        m.to(memory_format=torch.channels_last)
    rng = np.random.default_rng(1 + begin)
    losses = []
    w = WEIGHTS[None, :, None, None]
    for it in range(begin, args.steps):
        for g in opt.param_groups:
            g["lr"] = g["share"] * args.lr * share_of_rate(it, it / args.steps, 40, 0.02)
        steps, mask, truth = train.batch(rng, args.batch, 8, 2)
        steps = kind.vary(rng, steps)
        target = torch.from_numpy(truth).reshape(-1, 5, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            audio = unfold(features(encoder, steps, mask), 8, 2, kind)
            y = head(branch(audio))[:, :, INNER, INNER].float()
        closed = 1 + 1.5 * (target[:, :1] < 0.05)  # a lip closure missed shows most
        loss = (nn.functional.smooth_l1_loss(y, target.expand_as(y), reduction="none", beta=0.1) * w * closed).mean()
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        losses.append(loss.item())
        if (it + 1) % 50 == 0:
            print(f"{it + 1} loss {np.mean(losses[-50:]):.4f}", flush=True)
            save(kind, modules, opt, it + 1)
        if (it + 1) % 300 == 0:
            corr, err = evaluate(modules, kind, val[::3])
            print("held out", " ".join(f"{c:.3f}" for c in corr), f"opening off by {err:.3f}", flush=True)
    print("held out (opening, width, rounding, teeth, tongue)", evaluate(modules, kind, val, 99))
    save(kind, modules, opt, args.steps)


if __name__ == "__main__":
    main()
