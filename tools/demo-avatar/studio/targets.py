"""Draw training targets for the generator.

    python -m studio.targets mira [COUNT]

Each sample is a background frame, a frame of the corpus and that frame's truth
drawn on the background. What is stored is the rectangle as it would come out of
the JPEG (background) plus the *difference* the mouth makes: so outside of the
mouth the target equals the input to the last bit and the network need not learn
to undo JPEG.
"""
import sys
from dataclasses import replace

import cv2
import numpy as np

from .characters import by_name
from .corpus import load
from .frontend import FPS
from .illustrator import render
from .kinds import MEETING
from .motion import poses, rectangle
from .paths import avatar_folder, work_folder
from .visemes import mouth


def backgrounds(who):
    """Face rectangles of the decoded frames [N, S, S, 3], and their drawn neutral twins."""
    photos, drawn = [], []
    for i, pose in enumerate(poses(who)):
        x1, y1, x2, y2 = r = rectangle(who, pose)
        photos.append(cv2.imread(str(avatar_folder(who.name) / "frames" / f"frame_{i:04d}.jpg"))[y1:y2, x1:x2])
        drawn.append(render(who, pose, r))
    return np.stack(photos), np.stack(drawn)


def composite(photo, neutral, talking):
    return np.clip(photo.astype(np.int16) + talking.astype(np.int16) - neutral, 0, 255).astype(np.uint8)


def choose(rng, clips, count):
    """Corpus frames, thinned so that wide, round and closed mouths are all common.

    Only those at which frames of every kind meet.
    """
    each = FPS // MEETING
    all_p = np.concatenate([p[::each] for _, p in clips])
    where = [(c, f) for c, (_, p) in enumerate(clips) for f in range(0, len(p), each)]
    key = (np.clip(all_p[:, 0] * 6, 0, 5).astype(int) * 9 + np.clip((all_p[:, 1] + 1) * 1.5, 0, 2).astype(int) * 3
           + np.clip(all_p[:, 2] * 3, 0, 2).astype(int))
    weight = (1.0 / np.bincount(key)[key]) ** 0.5
    picked = rng.choice(len(where), size=count, replace=False, p=weight / weight.sum())
    return [where[k] for k in picked]


def main():
    who = by_name(sys.argv[1])
    work = work_folder(who.name)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    rng = np.random.default_rng(3)
    clips = [(m, p) for m, p in load("train") if len(m) > 16]
    photos, drawn = backgrounds(who)
    np.save(work / "photos.npy", photos)
    np.save(work / "drawn.npy", drawn)
    pose_list = poses(who)
    out = np.lib.format.open_memmap(work / "targets.npy", "w+", np.uint8, (count, who.rect_size, who.rect_size, 3))
    index = np.zeros((count, 3), np.int32)  # background, clip, frame
    for k, (c, f) in enumerate(choose(rng, clips, count)):
        b = int(rng.integers(len(pose_list)))
        talking = render(who, replace(pose_list[b], mouth=mouth(clips[c][1][f])), rectangle(who, pose_list[b]))
        out[k] = composite(photos[b], drawn[b], talking)
        index[k] = b, c, f
        if k % 200 == 199:
            np.save(work / "targets_index.npy", index)
            np.save(work / "targets_done.npy", k + 1)
            print(k + 1, flush=True)


if __name__ == "__main__":
    main()
