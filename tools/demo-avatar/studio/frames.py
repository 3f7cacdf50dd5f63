"""Draw the background frames, the rectangles and the portrait.

    python -m studio.frames mira
"""
import json
import sys

import cv2
import numpy as np

from .characters import by_name
from .illustrator import render
from .motion import poses, rectangle
from .paths import avatar_folder
from .pose import Mouth, Pose

JPEG = [cv2.IMWRITE_JPEG_QUALITY, 70, cv2.IMWRITE_JPEG_OPTIMIZE, 1,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]


def main():
    who = by_name(sys.argv[1])
    avatar = avatar_folder(who.name)
    folder = avatar / "frames"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    rects = []
    for i, pose in enumerate(poses(who)):
        cv2.imwrite(str(folder / f"frame_{i:04d}.jpg"), render(who, pose), JPEG)
        rects.append(rectangle(who, pose))
    (avatar / "crop_rectangles.json").write_text(
        "[\n" + ",\n".join(f"  {json.dumps(r)}" for r in rects) + "\n]\n")
    # Portrait for the README: the middle of the picture, mid-word.
    wide = render(who, Pose(smile=1.0, yaw=-3, roll=-1.2, brow=0.3, mouth=Mouth(open=0.22, width=0.6, teeth=0.6)))
    cv2.imwrite(str(avatar / "portrait.jpg"), np.ascontiguousarray(wide[:, 200:1080]), JPEG)
    print(f"{len(rects)} frames, {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
