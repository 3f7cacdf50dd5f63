"""Step 5: the generator learns to redraw the mouth.

The audio branch comes trained and frozen, so its maps are computed once. The
U-Net is convolutional: most of the training runs on aligned crops around the
mouth (with the matching crop of the audio map), which costs a fraction; the
last part runs on whole regions so that padding and batch-norm statistics are
those of the real input.
"""
import argparse
import time

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from .corpus import load
from .frontend import windows
from .nets import AudioBranch, Encoder, Generator
from .paths import WORK
from .train_encoder import encode_clip

MASK = (slice(5, 310), slice(5, 315))  # rows, columns blacked out in channels 3-5


def region(rect_picture):
    """Face rectangle -> the 320x320 region the network sees."""
    return cv2.resize(rect_picture, (328, 328), interpolation=cv2.INTER_CUBIC)[4:324, 4:324]


def audio_maps(index, branch, encoder):
    """Audio branch output for every target, float16 [N, 128, 10, 10]."""
    clips = [(m, p) for m, p in load("train") if len(m) > 16]
    encoder.eval(), branch.eval()
    maps = np.zeros((len(index), 128, 10, 10), np.float16)
    order = np.argsort(index[:, 1], kind="stable")
    cut = np.flatnonzero(np.diff(index[order, 1])) + 1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for group in np.split(order, cut):
            mel, p = clips[index[group[0], 1]]
            w = windows(encode_clip(encoder, mel), len(p))[index[group, 2]]
            maps[group] = branch(torch.from_numpy(w.reshape(-1, 32, 16, 16))).float().numpy()
    return maps


class Data:
    def __init__(self, count, branch, encoder):
        self.photos = np.load(WORK / "photos.npy")
        self.targets = np.load(WORK / "targets.npy", mmap_mode="r")
        count = min(count, int(np.load(WORK / "targets_done.npy")))
        self.index = np.load(WORK / "targets_index.npy")[:count]
        self.maps = audio_maps(self.index, branch, encoder)

    def batch(self, rng, size, crop):
        """crop: side in pixels (a multiple of 32) or 320 for everything."""
        k = np.sort(rng.choice(len(self.index), size, replace=False))
        n = crop // 32
        # Crops keep the mouth (rows 96-256, columns 80-240) inside.
        r = 0 if n == 10 else (3 if n < 6 else int(rng.integers(2, 4)))
        c = 0 if n == 10 else (int(rng.integers(2, 4)) if n < 6 else 2)
        box = (slice(32 * r, 32 * (r + n)), slice(32 * c, 32 * (c + n)))
        xs, ys = [], []
        for j in k:
            real = region(self.photos[self.index[j, 0]])
            masked = real.copy()
            masked[MASK] = 0
            xs.append(np.concatenate([real, masked], 2)[box])
            ys.append(region(self.targets[j])[box])
        x = torch.from_numpy(np.stack(xs)).permute(0, 3, 1, 2).float().div_(255)
        y = torch.from_numpy(np.stack(ys)).permute(0, 3, 1, 2).float().div_(255)
        a = torch.from_numpy(self.maps[k][:, :, r:r + n, c:c + n].astype(np.float32))
        return (x.contiguous(memory_format=torch.channels_last), y,
                a.contiguous(memory_format=torch.channels_last))


def picture_loss(out, y, x):
    """L1, heavier where the mouth changed the picture, plus L1 of the edges."""
    change = (y - x[:, :3]).abs().amax(1, keepdim=True)
    near = F.max_pool2d((change > 0.03).float(), 9, 1, 4)
    w = 1 + 5 * near
    d = out - y
    flat = (d.abs() * w).mean()
    edges = ((d[..., 1:] - d[..., :-1]).abs() * w[..., 1:]).mean() + ((d[..., 1:, :] - d[..., :-1, :]).abs() * w[..., 1:, :]).mean()
    mouth = (d.abs() * near).sum() / (near.sum() * 3 + 1)
    return flat + 0.7 * edges, mouth.item()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--minutes", type=float, default=25)
    ap.add_argument("--targets", type=int, default=10 ** 9)
    ap.add_argument("--lr", type=float, default=6e-3)
    ap.add_argument("--batch", type=int, default=8)
    # Crop sides and the share of the time each gets.
    ap.add_argument("--plan", default="160:0.6,192:0.2,320:0.2")
    ap.add_argument("--resume", action="store_true")
    args = ap.parse_args()
    torch.manual_seed(5)
    rng = np.random.default_rng(6 if args.resume else 5)
    net, encoder = Generator(), Encoder()
    state = torch.load(WORK / "audio.pt")
    encoder.load_state_dict(state["encoder"])
    if args.resume:
        net.load_state_dict(torch.load(WORK / "generator.pt"))
    net.audio.load_state_dict(state["branch"])
    data = Data(args.targets, net.audio, encoder)
    net.train().to(memory_format=torch.channels_last)
    net.audio.eval().requires_grad_(False)
    plan, total = [], 0.0
    for part in args.plan.split(","):
        side, share = part.split(":")
        total += float(share)
        plan.append((total, int(side)))
    params = [p for p in net.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=args.lr, weight_decay=1e-4, betas=(0.9, 0.98))
    begin, it, log, frozen = time.time(), 0, [], False
    while (done := (time.time() - begin) / (60 * args.minutes)) < 1:
        side = next((s for t, s in plan if done < t), plan[-1][1])
        if done > 0.95 and not frozen:  # end on the statistics that inference uses
            net.eval()
            frozen = True
        for g in opt.param_groups:
            g["lr"] = args.lr * min(1, (it + 1) / 30) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * done)))
        x, y, a = data.batch(rng, args.batch if side < 320 else max(4, args.batch // 2), side)
        with torch.autocast("cpu", torch.bfloat16):
            out = net.picture(x, a)
        loss, mouth = picture_loss(out.float(), y, x)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        log.append((loss.item(), mouth))
        it += 1
        if it % 50 == 0:
            m = np.mean(log[-50:], 0)
            print(f"{it} {time.time() - begin:.0f}s side {side} loss {m[0]:.4f} mouth L1 {255 * m[1]:.2f}", flush=True)
            torch.save(net.state_dict(), WORK / "generator.pt")
    torch.save(net.state_dict(), WORK / "generator.pt")


if __name__ == "__main__":
    main()
