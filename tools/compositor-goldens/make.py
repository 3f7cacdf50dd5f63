"""Writes what OpenCV makes of the compositor's recipe, as goldens for its tests.

    pip install -r requirements.txt
    python make.py ../../crates/compositor/tests/golden

Pictures come from an integer formula that the tests repeat, so only results are stored. Of a result
only every third column of the rows 0, 5, 10, ... and of the last row is kept, as raw bytes.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

FRAME = (420, 340)
# Crop, region, and the mask as x, y, width, height.
LARGE = (328, 320, (5, 5, 310, 305))
SMALL = (168, 160, (5, 5, 150, 145))
# Name, rectangle [x1, y1, x2, y2] with exclusive ends, geometry.
CASES = [
    ("large_square", (97, 61, 277, 241), LARGE),
    ("large_same_size", (40, 6, 368, 334), LARGE),
    ("large_wide", (10, 2, 410, 318), LARGE),
    ("large_off_right_bottom", (300, 220, 480, 400), LARGE),
    ("small_square", (97, 61, 277, 241), SMALL),
    ("small_off_left_top", (-20, -30, 90, 80), SMALL),
    ("small_tiny", (200, 100, 203, 102), SMALL),
]


def synthetic(width, height, seed):
    """Ramps, hard edges and noise in blocks of 32 pixels; equal to `synthetic` of the tests."""
    y, x, c = np.meshgrid(
        np.arange(height, dtype=np.uint32),
        np.arange(width, dtype=np.uint32),
        np.arange(3, dtype=np.uint32),
        indexing="ij",
    )
    h = x * np.uint32(374761393) + y * np.uint32(668265263) + (c + np.uint32(seed)) * np.uint32(2246822519)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    noise = (h ^ (h >> np.uint32(16))) & np.uint32(255)
    ramp = (x * 2 + y * 3 + c * 40 + np.uint32(seed) * 17) & np.uint32(255)
    edges = ((x // 5 + y // 7 + c) & np.uint32(1)) * np.uint32(255)
    kind = (x // 32 + y // 32 + np.uint32(seed)) % np.uint32(3)
    return np.choose(kind, [ramp, noise, edges]).astype(np.uint8)


def parsing_mask(width, height):
    """Blocks of the two colours that keep the original, black, and a red that is not quite pure."""
    colours = np.array([(0, 0, 255), (255, 255, 255), (0, 0, 0), (0, 0, 254)], dtype=np.uint8)
    y, x = np.mgrid[0:height, 0:width]
    return colours[(x // 8 + y // 8) % 4]


def resize(picture, width, height):
    made = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    # OpenCV's u8 path uses integer weights, its float path does not: they must agree as we do.
    exact = cv2.resize(picture.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    exact = np.clip(np.rint(exact), 0, 255)
    difference = np.abs(made.astype(np.int32) - exact.astype(np.int32))
    print(f"    u8 and float path of OpenCV: max {difference.max()}, {(difference > 0).mean():.4%} differ")
    return made


def sampled(picture):
    rows = sorted({*range(0, picture.shape[0], 5), picture.shape[0] - 1})
    return np.ascontiguousarray(picture[rows][:, ::3]).tobytes()


def run(case, background, out):
    name, (x1, y1, x2, y2), (crop_px, region_px, _) = case
    print(name)
    # Array slicing cuts off what is past the end; before the start it would wrap around.
    x1, y1 = max(x1, 0), max(y1, 0)
    face = background[y1:y2, x1:x2]
    crop = resize(face, crop_px, crop_px)
    (out / f"{name}.crop.bin").write_bytes(sampled(crop))
    square = crop.copy()
    square[4 : 4 + region_px, 4 : 4 + region_px] = synthetic(region_px, region_px, 2)
    frame = background.copy()
    frame[y1:y2, x1:x2] = resize(square, face.shape[1], face.shape[0])
    (out / f"{name}.composite.bin").write_bytes(sampled(frame[y1:y2, x1:x2]))
    mask = parsing_mask(*FRAME)
    keep = (mask == (0, 0, 255)).all(axis=2) | (mask == (255, 255, 255)).all(axis=2)
    frame[keep] = background[keep]
    (out / f"{name}.masked.bin").write_bytes(sampled(frame[y1:y2, x1:x2]))


def main():
    out = Path(sys.argv[1])
    background = synthetic(*FRAME, 1)
    for case in CASES:
        run(case, background, out)
    for name, (_, region_px, box) in (("large", LARGE), ("small", SMALL)):
        white = np.full((region_px, region_px), 255, dtype=np.uint8)
        masked = cv2.rectangle(white, box, 0, -1) == 0
        (out / f"{name}.mask.bits").write_bytes(np.packbits(masked).tobytes())


main()
