"""Writes what libswscale makes of colours as planes of luma and chroma, as a golden for the tests.

    pip install av==18.1.0 numpy
    python yuv.py ../../crates/compositor/tests/golden

`yuv.txt` has a line for each of 7 x 7 x 7 colours: R G B, then Y U V in BT.601 full range, in BT.601 limited
range, and in BT.709 limited range.
"""

import itertools
import sys
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

LEVELS = (0, 51, 85, 128, 170, 221, 255)
FORMS = (
    (Colorspace.ITU601, ColorRange.JPEG),
    (Colorspace.ITU601, ColorRange.MPEG),
    (Colorspace.ITU709, ColorRange.MPEG),
)
# Without these libswscale takes short cuts.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def planes(rgb, space, range_):
    """Y, U, V in the middle of a large picture of one colour."""
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), rgb, np.uint8), format="rgb24")
    made = VideoReformatter().reformat(
        frame, format="yuv444p", src_color_range=ColorRange.JPEG, dst_colorspace=space,
        dst_color_range=range_, interpolation=EXACT,
    )
    return [int(np.frombuffer(plane, np.uint8)[32 * plane.line_size + 32]) for plane in made.planes]


lines = []
for rgb in itertools.product(LEVELS, repeat=3):
    values = [*rgb, *(value for form in FORMS for value in planes(rgb, *form))]
    lines.append(" ".join(map(str, values)))
Path(sys.argv[1], "yuv.txt").write_text("\n".join(lines) + "\n")
