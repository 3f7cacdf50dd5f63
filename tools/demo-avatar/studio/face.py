"""The head: skin, ears, eyes, brows, nose. Origin between the eyes."""
import skia

from .canvas import cubic, linear, mirrored, paint, radial, smooth
from .mouth import draw_mouth, jaw_drop

MOUTH_Y = 118.0
JAW_Y = 80.0  # above this line the jaw moves nothing


def shift(pose, z):
    """Parallax: how far a feature at depth z slides with yaw and pitch."""
    return pose.yaw * z, pose.pitch * z


def face_path(outline, drop=0.0):
    """The outline; below the cheekbones it goes down with the jaw, most at the chin."""
    chin = outline[-1][1]
    def lowered(x, y):
        return x, y + drop * min(max((y - JAW_Y) / (chin - JAW_Y), 0.0), 1.0) ** 1.2
    return smooth(mirrored([lowered(x, y) for x, y in outline]))


def draw_head(c, pose, who):
    drop = jaw_drop(pose.mouth)
    skin = who.skin
    if who.ears:
        _ears(c, pose, skin)
    fx, fy = shift(pose, 0.25)
    c.save()
    c.translate(fx, fy)
    face = face_path(who.outline, drop)
    c.drawPath(face, paint(skin.deep, 0.28, blur=9))
    c.drawPath(face, radial((-34, -20), 235, [
        (0.0, skin.light, 1), (0.45, skin.base, 1), (0.78, skin.mid, 1), (1.0, skin.shade, 1)]))
    c.save()
    c.clipPath(face, doAntiAlias=True)
    _skin_shading(c, pose, skin, drop)
    c.restore()
    c.restore()
    _nose(c, pose, skin)
    for side in (-1, 1):
        _eye(c, pose, side, who)
        _brow(c, pose, side, who.eyes)
    mx, my = shift(pose, 0.70)
    c.save()
    c.translate(mx, my + MOUTH_Y)
    draw_mouth(c, pose.mouth, who.smile * (0.7 + pose.smile), who)
    c.restore()
    x, y = shift(pose, 0.30)
    c.save()
    c.translate(x, y)
    who.draw_front_hair(c, pose)
    c.restore()


def _ears(c, pose, skin):
    ex, ey = shift(pose, -0.25)
    for s in (-1, 1):
        c.save()
        c.translate(ex, ey)
        ear = smooth([(s * 112, -18), (s * 128, -22), (s * 133, 4), (s * 127, 34), (s * 114, 48), (s * 106, 30)])
        c.drawPath(ear, linear((s * 106, -20), (s * 132, 50), [(0, skin.mid, 1), (1, skin.shade, 1)]))
        c.drawPath(cubic((s * 116, -8), (s * 126, -10, s * 127, 14, s * 117, 30), closed=False),
                   paint(skin.shadow, 0.6, blur=1.5, stroke=3))
        c.restore()


def _skin_shading(c, pose, skin, drop):
    # Window light from the left, soft shadow on the right and along the jaw.
    c.drawOval(skia.Rect.MakeLTRB(84, -120, 190, 190), paint(skin.shadow, 0.30, blur=24))
    c.drawOval(skia.Rect.MakeLTRB(-175, -60, -104, 170), paint(skin.gleam, 0.25, blur=14))
    c.drawOval(skia.Rect.MakeLTRB(-80, 171 + drop, 90, 230 + drop), paint(skin.shadow, 0.42, blur=12))
    # Forehead in the shade of the fringe.
    c.drawOval(skia.Rect.MakeLTRB(-150, -200, 150, -84), paint(skin.shadow, 0.42, blur=16))
    bx, by = shift(pose, 0.35)
    for s, a in ((-1, skin.blush_alpha), (1, 1.1 * skin.blush_alpha)):
        c.drawCircle(s * 70 + bx, 60 + by, 42, radial((s * 70 + bx, 60 + by), 42, [
            (0, skin.blush, a), (0.5, skin.blush, a * .5), (1, skin.blush, 0)]))
    c.drawOval(skia.Rect.MakeLTRB(-86 + bx, 34 + by, -44 + bx, 52 + by), paint(skin.gleam, 0.55, blur=7))
    c.drawOval(skia.Rect.MakeLTRB(-24 + bx, 158 + drop, 14 + bx, 174 + drop), paint(skin.gleam, 0.45, blur=6))
    for x, y in skin.freckles:
        c.drawCircle(x + bx, y + by, 1.5, paint(skin.shadow, 0.35, blur=0.6))


def _nose(c, pose, skin):
    x, y = shift(pose, 1.0)
    c.save()
    c.translate(x, y)
    c.drawPath(cubic((11, -6), (14, 22, 24, 48, 20, 68), (14, 78, 6, 74, 4, 70), (8, 40, 6, 10, 11, -6)),
               paint(skin.shadow, 0.42, blur=6))
    c.drawPath(cubic((-3, -12), (-5, 20, -6, 40, -4, 56), closed=False), paint(skin.gleam, 0.55, blur=4, stroke=7))
    c.drawOval(skia.Rect.MakeLTRB(-9, 52, 5, 66), paint(skin.gleam, 0.75, blur=4))
    base = cubic((-17, 70), (-15, 78, -8, 77, -4, 79), (0, 82, 4, 81, 7, 79), (11, 77, 17, 78, 18, 69), closed=False)
    c.drawPath(base, paint(skin.shadow, 0.62, blur=1.0, stroke=2.8))
    for s in (-1, 1):
        c.drawOval(skia.Rect.MakeLTRB(s * 9.5 - 4, 73.5, s * 9.5 + 4, 78), paint(skin.deep, 0.60, blur=1.1))
    c.drawOval(skia.Rect.MakeLTRB(-16, 80, 16, 92), paint(skin.shadow, 0.30, blur=5))
    c.restore()


def _eye(c, pose, s, who):
    x, y = shift(pose, 0.62)
    c.save()
    c.translate(s * 52 + x, y)
    c.scale(*who.eyes.scale)
    wing = who.eyes.wing
    shut = min(max(pose.blink, 0.0), 1.0)
    # Lids: the upper one comes down, the lower one rises a touch.
    top = -15.6 * (1 - shut) + 7.5 * shut
    low = 12.2 - 2.7 * shut
    inner, outer = -s * 27, s * 29
    c.drawOval(skia.Rect.MakeLTRB(-36, -34, 36, 14), paint(who.skin.shadow, 0.26, blur=8))
    lid = cubic((inner, 5), (-s * 16, top * 1.18 - 1, s * 15, top * 1.25 - 2, outer, -3),
                (s * 18, low * 1.22, -s * 12, low * 1.24, inner, 5))
    c.save()
    c.clipPath(lid, doAntiAlias=True)
    c.drawPaint(linear((0, -18), (0, 14), [(0, "#d8cdd0", 1), (0.35, "#fbf7f3", 1), (1, "#f4ebe6", 1)]))
    gx, gy = pose.gaze_x, pose.gaze_y - 1.5
    c.drawCircle(gx, gy, 15.2, paint(who.eyes.rim, 1))
    c.drawCircle(gx, gy, 14.0, radial((gx, gy + 6), 18, [
        (at, colour, 1) for at, colour in zip((0.0, 0.45, 0.8, 1.0), who.eyes.iris)]))
    c.drawCircle(gx, gy, 6.6, paint("#170d0c", 1))
    c.drawOval(skia.Rect.MakeLTRB(-32, -24, 32, -8), paint("#3a1c20", 0.55, blur=3.5))  # lid shadow
    c.drawCircle(gx - 5.2, gy - 5.6, 4.3, paint("#ffffff", 0.97))
    c.drawCircle(gx + 5.6, gy + 5.6, 2.0, paint("#ffffff", 0.75))
    c.restore()
    # Crease, upper lash line with a wing, lower lash line.
    if shut < 0.9:
        crease = cubic((inner * .9, -5), (-s * 14, top * 1.35 - 9, s * 16, top * 1.4 - 10, outer * 1.04, -9), closed=False)
        c.drawPath(crease, paint(who.skin.deep, 0.55 * (1 - shut), blur=0.8, stroke=2.0))
    lash = cubic((inner - s * 1, 5.5), (-s * 16, top * 1.18 - 1.5, s * 15, top * 1.25 - 2.5, outer + s * 1, -3.5),
                 (outer + s * 4 * wing, -4.5 - wing, outer + s * 6 * wing, -5 - 2.5 * wing, outer + s * 8 * wing, -5 - 5.5 * wing + 8 * shut * wing),
                 (outer + s * 4 * wing, -3.5 + 5 * shut * wing, outer + s * 2 * wing, -1.5, outer - s * 1, -.5),
                 (s * 15, top * 1.18 + 2.0, -s * 15, top * 1.12 + 2.6, inner - s * 1, 5.5))
    c.drawPath(lash, paint(who.eyes.lash, 1))
    c.drawPath(lash, paint(who.eyes.lash, 0.9, stroke=1.4))
    lower = cubic((inner + s * 8, 9.2 - shut), (-s * 6, low + .2, s * 14, low * .98, outer - s * 2, 1.0), closed=False)
    c.drawPath(lower, paint(who.skin.deep, 0.55, blur=0.6, stroke=1.4))
    c.drawOval(skia.Rect.MakeLTRB(-22, 15, 22, 22), paint(who.skin.shadow, 0.20, blur=3))
    c.restore()


def _brow(c, pose, s, eyes):
    x, y = shift(pose, 0.55)
    c.save()
    c.translate(s * 53 + x, y - 41 - 6.5 * pose.brow + 1.5 * pose.blink)
    c.rotate(s * eyes.brow_tilt)
    w = eyes.brow_weight
    brow = cubic((-s * 29, 5), (-s * 14, -6.5 * w, s * 12, -10.5 * w, s * 35, 2.5),
                 (s * 14, -4.0, -s * 10, 0.5 * w, -s * 27, 10.5 * w), (-s * 30, 10, -s * 31, 7, -s * 29, 5))
    inner, outer = eyes.brow
    c.drawPath(brow, linear((-s * 30, 0), (s * 34, 0), [(0, inner, .85), (0.4, outer, 1), (1, outer, .9)]))
    c.drawPath(brow, paint(outer, 0.35, blur=1.5))
    c.restore()
