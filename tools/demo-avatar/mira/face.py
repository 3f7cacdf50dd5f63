"""The head: skin, ears, eyes, brows, nose, front hair. Origin between the eyes."""
import math

import skia

from .canvas import cubic, linear, mirrored, paint, radial, smooth
from .mouth import draw_mouth, jaw_drop

MOUTH_Y = 118.0
CHIN_Y = 182.0

SKIN = "#f6cdae"
SKIN_SHADE = "#dd9c7c"


def shift(pose, z):
    """Parallax: how far a feature at depth z slides with yaw and pitch."""
    return pose.yaw * z, pose.pitch * z


def face_path(drop=0.0):
    return smooth(mirrored([
        (0, -166), (60, -156), (100, -112), (117, -50), (118, 10), (111, 66),
        (94, 112 + drop * .25), (64, 151 + drop * .65), (30, 176 + drop), (0, CHIN_Y + drop)]))


def draw_head(c, pose):
    drop = jaw_drop(pose.mouth)
    _ears(c, pose)
    fx, fy = shift(pose, 0.25)
    c.save()
    c.translate(fx, fy)
    face = face_path(drop)
    c.drawPath(face, paint("#7d3c38", 0.28, blur=9))
    c.drawPath(face, radial((-34, -20), 235, [
        (0.0, "#ffe0c6", 1), (0.45, SKIN, 1), (0.78, "#eebb98", 1), (1.0, SKIN_SHADE, 1)]))
    c.save()
    c.clipPath(face, doAntiAlias=True)
    _skin_shading(c, pose, drop)
    c.restore()
    c.restore()
    _nose(c, pose)
    for side in (-1, 1):
        _eye(c, pose, side)
        _brow(c, pose, side)
    mx, my = shift(pose, 0.70)
    c.save()
    c.translate(mx, my + MOUTH_Y)
    draw_mouth(c, pose.mouth, 0.35 + 0.5 * pose.smile)
    c.restore()
    _front_hair(c, pose)


def _ears(c, pose):
    ex, ey = shift(pose, -0.25)
    for s in (-1, 1):
        c.save()
        c.translate(ex, ey)
        ear = smooth([(s * 112, -18), (s * 128, -22), (s * 133, 4), (s * 127, 34), (s * 114, 48), (s * 106, 30)])
        c.drawPath(ear, linear((s * 106, -20), (s * 132, 50), [(0, "#eab390", 1), (1, "#d4886d", 1)]))
        c.drawPath(cubic((s * 116, -8), (s * 126, -10, s * 127, 14, s * 117, 30), closed=False),
                   paint("#b96d57", 0.5, blur=1.5, stroke=3))
        c.drawCircle(s * 117, 56, 5.5, radial((s * 117 - 2, 54), 7, [(0, "#fff8dc", 1), (1, "#dca945", 1)]))
        c.restore()


def _skin_shading(c, pose, drop):
    # Window light from the left, soft shadow on the right and along the jaw.
    c.drawOval(skia.Rect.MakeLTRB(84, -120, 190, 190), paint("#c87a62", 0.30, blur=24))
    c.drawOval(skia.Rect.MakeLTRB(-175, -60, -104, 170), paint("#ffe9d2", 0.25, blur=14))
    c.drawOval(skia.Rect.MakeLTRB(-80, 171 + drop, 90, 230 + drop), paint("#c87a62", 0.42, blur=12))
    # Forehead in the shade of the fringe.
    c.drawOval(skia.Rect.MakeLTRB(-150, -200, 150, -84), paint("#b4664e", 0.42, blur=16))
    bx, by = shift(pose, 0.35)
    for s, a in ((-1, 0.50), (1, 0.56)):
        c.drawCircle(s * 70 + bx, 60 + by, 42, radial((s * 70 + bx, 60 + by), 42, [
            (0, "#f08a7c", a), (0.5, "#f08a7c", a * .5), (1, "#f08a7c", 0)]))
    c.drawOval(skia.Rect.MakeLTRB(-86 + bx, 34 + by, -44 + bx, 52 + by), paint("#fff0e0", 0.55, blur=7))
    c.drawOval(skia.Rect.MakeLTRB(-24 + bx, 158 + drop, 14 + bx, 174 + drop), paint("#ffe9d6", 0.45, blur=6))
    for x, y in ((-58, 46), (-46, 54), (-66, 56), (52, 48), (62, 55), (46, 58), (70, 47)):  # freckles
        c.drawCircle(x + bx, y + by, 1.5, paint("#b9694c", 0.35, blur=0.6))


def _nose(c, pose):
    x, y = shift(pose, 1.0)
    c.save()
    c.translate(x, y)
    c.drawPath(cubic((11, -6), (14, 22, 24, 48, 20, 68), (14, 78, 6, 74, 4, 70), (8, 40, 6, 10, 11, -6)),
               paint("#cf8468", 0.42, blur=6))
    c.drawPath(cubic((-3, -12), (-5, 20, -6, 40, -4, 56), closed=False), paint("#fff1e2", 0.55, blur=4, stroke=7))
    c.drawOval(skia.Rect.MakeLTRB(-9, 52, 5, 66), paint("#fff4e8", 0.75, blur=4))
    base = cubic((-17, 70), (-15, 78, -8, 77, -4, 79), (0, 82, 4, 81, 7, 79), (11, 77, 17, 78, 18, 69), closed=False)
    c.drawPath(base, paint("#bf6d55", 0.75, blur=1.0, stroke=2.8))
    for s in (-1, 1):
        c.drawOval(skia.Rect.MakeLTRB(s * 9.5 - 4, 73.5, s * 9.5 + 4, 78), paint("#8c3f36", 0.60, blur=1.1))
    c.drawOval(skia.Rect.MakeLTRB(-16, 80, 16, 92), paint("#c87a62", 0.30, blur=5))
    c.restore()


def _eye(c, pose, s):
    x, y = shift(pose, 0.62)
    c.save()
    c.translate(s * 52 + x, y)
    c.scale(1.14, 1.18)
    shut = min(max(pose.blink, 0.0), 1.0)
    # Lids: the upper one comes down, the lower one rises a touch.
    top = -15.6 * (1 - shut) + 7.5 * shut
    low = 12.2 - 2.7 * shut
    inner, outer = -s * 27, s * 29
    c.drawOval(skia.Rect.MakeLTRB(-36, -34, 36, 14), paint("#c4745f", 0.26, blur=8))
    lid = cubic((inner, 5), (-s * 16, top * 1.18 - 1, s * 15, top * 1.25 - 2, outer, -3),
                (s * 18, low * 1.22, -s * 12, low * 1.24, inner, 5))
    c.save()
    c.clipPath(lid, doAntiAlias=True)
    c.drawPaint(linear((0, -18), (0, 14), [(0, "#d8cdd0", 1), (0.35, "#fbf7f3", 1), (1, "#f4ebe6", 1)]))
    gx, gy = pose.gaze_x, pose.gaze_y - 1.5
    c.drawCircle(gx, gy, 15.2, paint("#3b241c", 1))
    c.drawCircle(gx, gy, 14.0, radial((gx, gy + 6), 18, [
        (0.0, "#c99a55", 1), (0.45, "#8a6a3a", 1), (0.8, "#4f4a2c", 1), (1.0, "#2f2a1e", 1)]))
    c.drawCircle(gx, gy, 6.6, paint("#170d0c", 1))
    c.drawOval(skia.Rect.MakeLTRB(-32, -24, 32, -8), paint("#3a1c20", 0.55, blur=3.5))  # lid shadow
    c.drawCircle(gx - 5.2, gy - 5.6, 4.3, paint("#ffffff", 0.97))
    c.drawCircle(gx + 5.6, gy + 5.6, 2.0, paint("#ffffff", 0.75))
    c.restore()
    # Crease, upper lash line with a wing, lower lash line.
    if shut < 0.9:
        crease = cubic((inner * .9, -5), (-s * 14, top * 1.35 - 9, s * 16, top * 1.4 - 10, outer * 1.04, -9), closed=False)
        c.drawPath(crease, paint("#a3594a", 0.55 * (1 - shut), blur=0.8, stroke=2.0))
    lash = cubic((inner - s * 1, 5.5), (-s * 16, top * 1.18 - 1.5, s * 15, top * 1.25 - 2.5, outer + s * 1, -3.5),
                 (outer + s * 4, -5.5, outer + s * 6, -7.5, outer + s * 8, -10.5 + 8 * shut),
                 (outer + s * 4, -3.5 + 5 * shut, outer + s * 2, -1.5, outer - s * 1, -.5),
                 (s * 15, top * 1.18 + 2.0, -s * 15, top * 1.12 + 2.6, inner - s * 1, 5.5))
    c.drawPath(lash, paint("#2a1416", 1))
    c.drawPath(lash, paint("#2a1416", 0.9, stroke=1.4))
    lower = cubic((inner + s * 8, 9.2 - shut), (-s * 6, low + .2, s * 14, low * .98, outer - s * 2, 1.0), closed=False)
    c.drawPath(lower, paint("#7a3c36", 0.55, blur=0.6, stroke=1.4))
    c.drawOval(skia.Rect.MakeLTRB(-22, 15, 22, 22), paint("#c4745f", 0.20, blur=3))
    c.restore()


def _brow(c, pose, s):
    x, y = shift(pose, 0.55)
    c.save()
    c.translate(s * 53 + x, y - 41 - 6.5 * pose.brow + 1.5 * pose.blink)
    brow = cubic((-s * 29, 5), (-s * 14, -6.5, s * 12, -10.5, s * 35, 2.5),
                 (s * 14, -4.0, -s * 10, 0.5, -s * 27, 10.5), (-s * 30, 10, -s * 31, 7, -s * 29, 5))
    c.drawPath(brow, linear((-s * 30, 0), (s * 34, 0), [(0, "#70402f", .85), (0.4, "#5a2f26", 1), (1, "#5a2f26", .9)]))
    c.drawPath(brow, paint("#5a2f26", 0.35, blur=1.5))
    c.restore()


def _front_hair(c, pose):
    """Side-parted fringe and the wavy locks that frame the face."""
    x, y = shift(pose, 0.30)
    c.save()
    c.translate(x, y)
    # Parting high on her left (our right); two sweeps fall to the sides.
    sweep = cubic((38, -197), (-44, -216, -126, -182, -146, -98), (-162, -40, -150, 24, -163, 84),
                  (-172, 124, -190, 150, -186, 196), (-183, 232, -160, 246, -150, 276),
                  (-134, 246, -128, 214, -138, 186), (-148, 156, -126, 122, -122, 88),
                  (-118, 54, -126, 20, -121, -22), (-112, -60, -84, -86, -40, -106),
                  (0, -124, 30, -148, 38, -197))
    right = cubic((32, -198), (104, -202, 142, -158, 151, -88), (160, -32, 148, 26, 162, 86),
                  (171, 126, 191, 152, 187, 198), (184, 234, 162, 250, 152, 282),
                  (134, 250, 128, 216, 139, 188), (149, 158, 128, 122, 123, 88),
                  (119, 50, 128, 6, 121, -30), (114, -70, 72, -104, 32, -198))
    for path, g0, g1 in ((right, (60, -190), (160, 260)), (sweep, (-30, -195), (-160, 260))):
        c.save()
        c.drawPath(path, paint("#4a1f20", 0.38, blur=6))
        c.drawPath(path, linear(g0, g1, [(0.0, "#83493a", 1), (0.28, "#64352c", 1), (0.60, "#502926", 1), (1.0, "#8a4f3b", 1)]))
        c.clipPath(path, doAntiAlias=True)
        _strands(c, path is sweep)
        c.restore()
    # A few loose hairs break the hard outline.
    for pts, w in ((((-20, -112), (-52, -84, -98, -66, -112, -18)), 1.6),
                   (((8, -130), (-34, -92, -86, -84, -108, -44)), 1.3),
                   (((46, -160), (70, -112, 104, -86, 113, -34)), 1.5)):
        c.drawPath(cubic(pts[0], pts[1], closed=False), paint("#6b3a2e", 0.75, stroke=w))
    c.restore()


def _strands(c, is_sweep):
    side = -1 if is_sweep else 1
    n = 13 if is_sweep else 10
    for i in range(n):
        t = i / (n - 1)
        if is_sweep:
            head = ((36 - 4 * t, -195 + 18 * t), (-34 - 26 * t, -194 + 52 * t, -98 - 20 * (1 - t), -148 + 48 * t,
                                                  -127 - 16 * (1 - t), -62 + 20 * t))
        else:
            head = ((36 + 4 * t, -192 + 12 * t), (86 + 14 * (1 - t), -184 + 44 * t, 128 + 14 * (1 - t), -126 + 34 * t,
                                                  130 + 14 * (1 - t), -52))
        u = 1 - t
        tail = ((side * (128 + 18 * u), 20, side * (124 + 22 * u), 62, side * (132 + 26 * u), 96),
                (side * (136 + 32 * u), 134, side * (148 + 36 * u), 160, side * (146 + 38 * u), 200),
                (side * (144 + 36 * u), 226, side * (146 + 18 * u), 250, side * (148 + 8 * u), 276))
        s = cubic(head[0], head[1], *tail, closed=False)
        col, a, w = (("#c5835c", .46, 3.0), ("#2f1619", .34, 2.6), ("#9c5c45", .44, 2.2))[i % 3]
        c.drawPath(s, paint(col, a, blur=0.9, stroke=w))
    if is_sweep:
        c.drawPath(cubic((-10, -182), (-66, -172, -110, -130, -126, -80), closed=False), paint("#efb98c", 0.42, blur=6, stroke=13))
        c.drawPath(cubic((-150, 120), (-164, 150, -168, 180, -160, 214), closed=False), paint("#e0a077", 0.36, blur=5, stroke=9))
    else:
        c.drawPath(cubic((80, -174), (114, -146, 132, -112, 140, -72), closed=False), paint("#d69a72", 0.32, blur=6, stroke=10))
        c.drawPath(cubic((152, 122), (166, 152, 170, 182, 162, 216), closed=False), paint("#d69a72", 0.28, blur=5, stroke=8))
