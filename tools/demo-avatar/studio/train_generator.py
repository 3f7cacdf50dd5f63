"""The generator learns to redraw the mouth.

    python -m studio.train_generator mira [--kind wenet]

The audio branch comes trained and frozen, so its maps are computed once. The
U-Net is convolutional: most of the training runs on aligned crops around the
mouth (with the matching crop of the audio map), which costs a fraction; the
last part runs on whole regions so that padding and batch-norm statistics are
those of the real input. What is kept is a running mean of the weights, which is
quieter than any single step.
"""
import argparse
import copy
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from .characters import by_name
from .corpus import load
from .kinds import KINDS, MEETING, add_argument
from .nets import Generator
from .paths import work_folder
from .restore import restore
from .schedule import share_of_rate
from .train_encoder import features, weights_file
from .windows import Clips, unfold

CELLS = 10  # the bottleneck is 10x10 whatever the region
RING = 4    # px of the crop that the region leaves out on each side
RIM = 3     # px at the region's edge, where what is redrawn meets what is not
N_SILENT = 600  # different sounds of silence
CLOSED = 0.1    # opening that is a lip closure
CLOSED_WEIGHT = 4.0  # by which such targets are drawn more often: the mean of what a sound may mean is open


def region(rect_picture, side):
    """Face rectangle -> the side x side region that the network sees."""
    crop = cv2.resize(rect_picture, (side + 2 * RING, side + 2 * RING), interpolation=cv2.INTER_CUBIC)
    return crop[RING:-RING, RING:-RING]


def masked(real):
    """The region with the mouth blacked out: channels 3-5."""
    side = len(real)
    out = real.copy()
    out[5:side - 10, 5:side - 5] = 0
    return out


def audio_maps(clips, index, branch, encoder):
    """Audio branch output for every target, float16 [N, 128, 10, 10]."""
    encoder.eval(), branch.eval()
    maps = np.zeros((len(index), 128, CELLS, CELLS), np.float16)
    for at in range(0, len(index), 64):
        steps, mask = zip(*(clips.stretch(c, f, 1) for _, c, f in index[at:at + 64]))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            audio = unfold(features(encoder, np.stack(steps), np.stack(mask)), 1, 1, clips.kind)
            maps[at:at + 64] = branch(audio).float().numpy()
    return maps


def silent_frames(clips, rng, count):
    """Corpus frames of closed lips in silence or noise, listed like targets: (none, clip, frame)."""
    still = [(0, c, f) for c, (_, truth, _) in enumerate(clips.clips) for f in np.flatnonzero(np.abs(truth).max(1) < 0.01)]
    return np.array(still)[rng.choice(len(still), count, replace=False)]


def at_kind(frames, kind, of=KINDS["ave"]):
    """Numbers of frames of one kind, for those of another at the same time."""
    meetings, rest = np.divmod(frames, of.fps // MEETING)
    assert not rest.any(), "targets were drawn for other frames than those at which kinds meet: draw them again"
    return meetings * (kind.fps // MEETING)


class Data:
    def __init__(self, who, kind, branch, encoder):
        work = work_folder(who.name)
        self.kind = kind
        self.side = who.region
        self.photos = np.load(work / "photos.npy")
        self.targets = np.load(work / "targets.npy", mmap_mode="r")
        self.index = np.load(work / "targets_index.npy")[:int(np.load(work / "targets_done.npy"))]
        self.index[:, 2] = at_kind(self.index[:, 2], kind)
        self.branch = branch.state_dict()
        self.clips = clips = Clips(load("train", kind), kind)
        opening = np.array([clips.clips[c][1][f, 0] for _, c, f in self.index])
        weight = np.where(opening <= CLOSED, CLOSED_WEIGHT, 1.0)
        self.chance = weight / weight.sum()
        self.maps = audio_maps(clips, self.index, branch, encoder)
        silent = silent_frames(clips, np.random.default_rng(6), N_SILENT)
        self.silent_maps = audio_maps(clips, silent, branch, encoder)

    def first(self, n_pictures, n_maps):
        """Inputs of the first targets: pictures, AVE encoder steps and their mask, audio maps."""
        ave = KINDS["ave"]
        clips = self.clips if self.kind is ave else Clips(load("train"))
        index = self.index.copy()
        index[:, 2] = at_kind(index[:, 2], ave, self.kind)
        real = [region(self.photos[k], self.side) for k in self.index[:n_pictures, 0]]
        x = np.stack([np.concatenate([r, masked(r)], 2) for r in real])
        stretches = zip(*(clips.stretch(c, f, 1) for _, c, f in index[:n_maps]))
        return (torch.from_numpy(x).permute(0, 3, 1, 2).float().div_(255), tuple(np.stack(s) for s in stretches),
                torch.from_numpy(self.maps[:n_maps].astype(np.float32)))

    def batch(self, rng, size, n_silent, n):
        """n x n cells around the mouth, all of them for n = 10; the last n_silent show what silence leaves as it is."""
        k = np.sort(rng.choice(len(self.index), size - n_silent, replace=False, p=self.chance))
        # Crops keep the mouth (rows 3 to 8, columns 2.5 to 7.5) inside.
        r = 0 if n == CELLS else (3 if n < 6 else int(rng.integers(2, 4)))
        c = 0 if n == CELLS else (int(rng.integers(2, 4)) if n < 6 else 2)
        px = self.side // CELLS
        box = (slice(px * r, px * (r + n)), slice(px * c, px * (c + n)))
        xs, ys = [], []
        for j in k:
            real = region(self.photos[self.index[j, 0]], self.side)
            xs.append(np.concatenate([real, masked(real)], 2)[box])
            ys.append(region(self.targets[j], self.side)[box])
        for j in rng.integers(len(self.photos), size=n_silent):
            real = region(self.photos[j], self.side)
            xs.append(np.concatenate([real, masked(real)], 2)[box])
            ys.append(real[box])
        x = torch.from_numpy(np.stack(xs)).permute(0, 3, 1, 2).float().div_(255)
        y = torch.from_numpy(np.stack(ys)).permute(0, 3, 1, 2).float().div_(255)
        maps = np.concatenate([self.maps[k], self.silent_maps[rng.integers(N_SILENT, size=n_silent)]])
        a = torch.from_numpy(maps[:, :, r:r + n, c:c + n].astype(np.float32))
        return (x.contiguous(memory_format=torch.channels_last), y,
                a.contiguous(memory_format=torch.channels_last))


def picture_loss(out, y, x, whole):
    """L1, heavier where a mouth of the batch changes the picture and at the rim of whole regions, plus L1 of the edges.

    The weights are the same for all of the batch: lips that stay closed count as much as those that open.
    """
    change = (y - x[:, :3]).abs().amax((0, 1), keepdim=True)
    near = F.max_pool2d((change > 0.03).float(), 9, 1, 4)
    if whole:
        near[..., :RIM, :] = near[..., -RIM:, :] = near[..., :RIM] = near[..., -RIM:] = 1
    w = 1 + 5 * near
    d = out - y
    flat = (d.abs() * w).mean()
    edges = ((d[..., 1:] - d[..., :-1]).abs() * w[..., 1:]).mean() + ((d[..., 1:, :] - d[..., :-1, :]).abs() * w[..., 1:, :]).mean()
    mouth = (d.abs() * near).mean() / (near.mean() + 1e-6)
    return flat + 0.7 * edges, mouth.item()


def follow(mean, net, keep):
    """Moves the running mean of weights and statistics towards the network."""
    with torch.no_grad():
        for m, n in zip(mean.state_dict().values(), net.state_dict().values()):
            if m.is_floating_point():
                m.lerp_(n, 1 - keep)
            else:
                m.copy_(n)


def begin(who, data, args):
    """Network, running mean, optimiser and the step to go on from."""
    net = Generator(who.channels, who.region, data.kind.branch)
    goes_on = args.resume or args.again
    if args.restore and not goes_on:
        shipped = Generator(who.channels, who.region)
        restore(shipped, args.restore, *data.first(16, 800))
        net.load_state_dict({k: v for k, v in shipped.state_dict().items() if not k.startswith("audio.")}, strict=False)
    net.audio.load_state_dict(data.branch)
    net.to(memory_format=torch.channels_last)
    net.audio.requires_grad_(False)
    params = [p for p in net.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=args.lr, weight_decay=1e-4, betas=(0.9, 0.98))
    mean, step = copy.deepcopy(net), 0
    if goes_on:
        state = torch.load(weights(who, data.kind), weights_only=True)
        net.load_state_dict(state["net"])
        mean.load_state_dict(state["mean"])
        opt.load_state_dict(state["optimizer"])
        step = 0 if args.again else state["step"]
        for n in (net, mean):  # which may have been trained further meanwhile
            n.audio.load_state_dict(data.branch)
    return net, mean, params, opt, step


def weights(who, kind):
    return work_folder(who.name) / f"generator{kind.suffix}.pt"


def save(path, net, mean, opt, step):
    part = path.with_suffix(".part")
    torch.save({"net": net.state_dict(), "mean": mean.state_dict(), "optimizer": opt.state_dict(), "step": step}, part)
    part.replace(path)  # never half a file


def arguments():
    ap = argparse.ArgumentParser()
    ap.add_argument("avatar")
    ap.add_argument("--steps", type=int, default=4000)
    ap.add_argument("--lr", type=float, default=6e-3)
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--plan", default="5:0.5,6:0.2,10:0.3", help="sides of the crops in cells, and each one's share of the steps")
    ap.add_argument("--settle", type=float, default=0.25, help="last share of the steps, with batch norms held still")
    ap.add_argument("--silent", type=int, default=2, help="pictures of each batch that are of silence")
    ap.add_argument("--restore", type=Path, help="begin with the AVE networks in this avatar's folder, whatever the kind")
    ap.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    ap.add_argument("--again", action="store_true", help="begin a run with what an ended one has learnt")
    add_argument(ap)
    return ap.parse_args()


def main():
    args = arguments()
    torch.manual_seed(5)
    who = by_name(args.avatar)
    kind = KINDS[args.kind]
    state, encoder, branch = torch.load(weights_file(kind), weights_only=True), kind.encoder(), kind.branch()
    encoder.load_state_dict(state["encoder"])
    branch.load_state_dict(state["branch"])
    data = Data(who, kind, branch, encoder)
    net, mean, params, opt, first = begin(who, data, args)
    rng = np.random.default_rng(5 + first)
    plan, total = [], 0.0
    for part in args.plan.split(","):
        cells, share = part.split(":")
        total += float(share)
        plan.append((total, int(cells)))
    log = []
    for it in range(first, args.steps):
        done = it / args.steps
        cells = next((n for t, n in plan if done < t), plan[-1][1])
        # The end runs on the statistics that inference uses: with those of a batch, the
        # network learns to read a mouth by its difference from the others of the batch.
        net.train(done < 1 - args.settle)
        net.audio.eval()
        for g in opt.param_groups:
            g["lr"] = args.lr * share_of_rate(it, done, 30, 0.01)
        size = args.batch if cells * who.region < 3200 else max(4, args.batch // 2)
        x, y, a = data.batch(rng, size, args.silent, cells)
        with torch.autocast("cpu", torch.bfloat16):
            out = net.picture(x, a)
        loss, mouth = picture_loss(out.float(), y, x, cells == CELLS)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        follow(mean, net, min(0.99, it / (it + 20)))
        log.append((loss.item(), mouth))
        if (it + 1) % 50 == 0:
            m = np.mean(log[-50:], 0)
            print(f"{it + 1} cells {cells} loss {m[0]:.4f} mouth L1 {255 * m[1]:.2f}", flush=True)
            save(weights(who, kind), net, mean, opt, it + 1)
    save(weights(who, kind), net, mean, opt, args.steps)


if __name__ == "__main__":
    main()
