"""Draw a character: one Pose in, one BGR picture (or a crop of it) out."""
import functools

import numpy as np
import skia

from . import face, scene
from .canvas import radial

SUPERSAMPLE = 2  # each output pixel is the mean of 2x2 drawn ones


@functools.lru_cache(maxsize=2)
def _room(who):
    surface = skia.Surface(scene.W, scene.H)
    who.draw_room(surface.getCanvas())
    return surface.makeImageSnapshot()


def render(who, pose, rect=None):
    """Picture of the pose as uint8 BGR; rect = (x1, y1, x2, y2) draws only that part."""
    x1, y1, x2, y2 = rect or (0, 0, scene.W, scene.H)
    w, h, ss = x2 - x1, y2 - y1, SUPERSAMPLE
    surface = skia.Surface(w * ss, h * ss)
    c = surface.getCanvas()
    c.scale(ss, ss)
    c.translate(-x1, -y1)
    c.drawImage(_room(who), 0, 0, skia.SamplingOptions(skia.FilterMode.kLinear))
    draw(c, who, pose)
    a = surface.makeImageSnapshot().toarray(colorType=skia.kBGRA_8888_ColorType)[:, :, :3]
    a = a.reshape(h, ss, w, ss, 3).astype(np.float32).mean(axis=(1, 3))
    return np.clip(a + 0.5, 0, 255).astype(np.uint8)


def draw(c, who, pose):
    hx, hy = pose.tx, pose.ty - 2.5 * pose.breath
    _head(c, pose, hx, hy, lambda: _back_hair(c, who, pose))
    who.draw_outfit(c, pose)
    c.save()
    c.translate(scene.CENTER[0], 0)
    scene.draw_neck(c, pose, who.skin, hx, hy)
    who.draw_collar(c, pose)
    c.restore()
    _head(c, pose, hx, hy, lambda: face.draw_head(c, pose, who))
    # The room's light over everything, very soft.
    c.drawCircle(330, 200, 560, radial((330, 200), 560, [(0, "#fff0d8", 0.20), (1, "#fff0d8", 0.0)]))


def _back_hair(c, who, pose):
    c.save()
    c.translate(-0.5 * pose.yaw, -0.3 * pose.pitch)
    who.draw_back_hair(c, pose)
    c.restore()


def _head(c, pose, hx, hy, body):
    """Head coordinates: roll turns about the base of the neck."""
    c.save()
    c.translate(scene.CENTER[0] + hx, scene.CENTER[1] + hy)
    c.rotate(pose.roll, 0, 210)
    body()
    c.restore()


def head_to_canvas(pose, x, y, z=0.0):
    """Canvas position of a head point at depth z (same maths as draw)."""
    dx, dy = face.shift(pose, z)
    t = np.deg2rad(pose.roll)
    px, py = x + dx, y + dy - 210
    return (scene.CENTER[0] + pose.tx + np.cos(t) * px - np.sin(t) * py,
            scene.CENTER[1] + pose.ty - 2.5 * pose.breath + 210 + np.sin(t) * px + np.cos(t) * py)
