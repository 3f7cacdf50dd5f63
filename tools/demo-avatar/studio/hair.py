"""Hair as layers of tapered locks over a silhouette.

A lock is a ribbon along a curve that narrows towards its tip; a few dozen of
them in three tones, clipped to the silhouette, read as hair.
"""
import math

from .canvas import cubic, linear, paint, smooth


def along(points, n=28):
    """n points of the Catmull-Rom curve through the given ones, ends included."""
    pts = [points[0], *points, points[-1]]
    spans = len(points) - 1
    out = []
    for k in range(n):
        u = k / (n - 1) * spans
        i = min(int(u), spans - 1)
        t = u - i
        p0, p1, p2, p3 = pts[i:i + 4]
        out.append(tuple(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t ** 3)
                         for a, b, c, d in zip(p0, p1, p2, p3)))
    return out


def ribbon(points, width, root=0.55, tip=0.02):
    """Outline of a lock: full width in the middle, `root` and `tip` are shares of it at the ends."""
    spine = along(points)
    n = len(spine)
    left, right = [], []
    for k, (x, y) in enumerate(spine):
        (xa, ya), (xb, yb) = spine[max(k - 1, 0)], spine[min(k + 1, n - 1)]
        length = math.hypot(xb - xa, yb - ya) or 1.0
        t = k / (n - 1)
        share = root + (1 - root) * math.sin(min(t / 0.35, 1) * math.pi / 2) if t < 0.35 else \
            tip + (1 - tip) * math.cos((t - 0.35) / 0.65 * math.pi / 2) ** 0.8
        w = 0.5 * width * share
        nx, ny = -(yb - ya) / length * w, (xb - xa) / length * w
        left.append((x + nx, y + ny))
        right.append((x - nx, y - ny))
    return smooth(left + right[::-1])


def vary(i, seed):
    """A fixed number in -1..1 for the i-th lock: random looking, the same in every frame."""
    x = math.sin(i * 12.9898 + seed * 78.233) * 43758.5453
    return 2 * (x - math.floor(x)) - 1


def draw_locks(c, spines, tones, width, seed=0):
    """Locks from back to front; tones are (colour, opacity) and repeat."""
    for i, spine in enumerate(spines):
        colour, alpha = tones[i % len(tones)]
        c.drawPath(ribbon(spine, width * (1 + 0.35 * vary(i, seed))), paint(colour, alpha, blur=0.8))


def draw_flyaways(c, strands, colour):
    for start, curve, width in strands:
        c.drawPath(cubic(start, curve, closed=False), paint(colour, 0.6, stroke=width))


def fill(c, path, top, bottom, stops, shadow):
    c.drawPath(path, paint(shadow, 0.34, blur=7))
    c.drawPath(path, linear(top, bottom, stops))
