"""Read the mouth opening back from pixels, in a way any language can repeat.

In a narrow column through the middle of the mouth, count the pixels that are
cavity (dark) or teeth (bright and grey). Skin and lips are neither.
"""
import json

PROBE = {
    "x": [0.44, 0.56],          # sub-rectangle as fractions of the face rectangle
    "y": [0.42, 0.78],
    "dark_if_red_below": 128,   # cavity, on 0..255
    "teeth_if_red_minus_green_below": 32,
    "teeth_if_blue_above": 100,
}


def opening(frame_bgr, rect, probe=PROBE):
    """Share of inside-of-mouth pixels in the sub-rectangle (0 closed .. about 0.6)."""
    x1, y1, x2, y2 = rect
    size = x2 - x1
    xa, xb = (x1 + int(f * size) for f in probe["x"])
    ya, yb = (y1 + int(f * size) for f in probe["y"])
    part = frame_bgr[ya:yb, xa:xb].astype(int)
    b, g, r = part[..., 0], part[..., 1], part[..., 2]
    dark = r < probe["dark_if_red_below"]
    teeth = (r - g < probe["teeth_if_red_minus_green_below"]) & (b > probe["teeth_if_blue_above"])
    return float((dark | teeth).mean())


def write(path):
    path.write_text(json.dumps(PROBE, indent=2) + "\n")
