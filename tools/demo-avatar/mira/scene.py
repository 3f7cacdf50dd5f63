"""Everything that is not the face: room, body, back hair."""
import math

import skia

from .canvas import cubic, linear, paint, radial, smooth

W, H = 1280, 720
CENTER = (640.0, 318.0)  # canvas position of the point between the eyes at rest


def draw_room(c):
    """Soft evening room: warm gradient, window glow on the left, blurred lights."""
    c.drawRect(skia.Rect.MakeWH(W, H), linear((0, 0), (W, H), [
        (0.0, "#fbe3cf", 1), (0.45, "#f3c8b8", 1), (1.0, "#b79fc4", 1)]))
    c.drawCircle(230, 170, 420, radial((230, 170), 420, [
        (0.0, "#fff6e4", 0.95), (0.5, "#fff0dc", 0.45), (1.0, "#fff0dc", 0.0)]))
    # A tall arched window, far out of focus.
    arch = skia.Path()
    arch.addRoundRect(skia.Rect.MakeLTRB(70, 40, 330, 640), 130, 130)
    c.drawPath(arch, paint("#fffaf0", 0.55, blur=16))
    for x0 in (112, 206):
        pane = skia.Path()
        pane.addRoundRect(skia.Rect.MakeLTRB(x0, 80, x0 + 80, 600), 40, 40)
        c.drawPath(pane, paint("#fffdf6", 0.45, blur=12))
    # Shelf with a plant and books on the right, blurred.
    c.drawRoundRect(skia.Rect.MakeLTRB(965, 428, 1330, 446), 8, 8, paint("#a5798a", 0.55, blur=7))
    for x, y, w, h, col in ((1090, 330, 26, 98, "#d98f7c"), (1120, 312, 22, 116, "#f0c391"),
                            (1146, 338, 30, 90, "#7f8fb0"), (1180, 320, 24, 108, "#c77b8d")):
        c.drawRoundRect(skia.Rect.MakeXYWH(x, y, w, h), 4, 4, paint(col, 0.62, blur=7))
    c.drawRoundRect(skia.Rect.MakeXYWH(994, 372, 58, 56), 12, 12, paint("#f1ddd0", 0.85, blur=7))
    for a, r in ((-150, 92), (-122, 118), (-96, 128), (-70, 116), (-40, 96), (-175, 66), (-12, 70)):
        t = math.radians(a)
        x, y = 1023 + r * math.cos(t), 376 + r * math.sin(t)
        leaf = cubic((1023, 376), (1023 + (x - 1023) * .3 - 24, y + 30, x - 26, y + 10, x, y),
                     (x + 24, y + 18, 1023 + (x - 1023) * .4 + 26, y + 60, 1023, 376))
        c.drawPath(leaf, paint("#6f9a86", 0.62, blur=7))
    for x, y, r, a in ((470, 110, 26, .35), (890, 90, 38, .30), (985, 190, 22, .32),
                       (1185, 140, 54, .24), (420, 330, 18, .28), (1110, 590, 40, .18),
                       (880, 250, 14, .35), (520, 40, 34, .22)):
        c.drawCircle(x, y, r, paint("#fff4dc", a, blur=5))


def draw_back_hair(c, pose):
    """The mass of hair behind neck and shoulders, in head coordinates."""
    dx, dy = -0.5 * pose.yaw, -0.3 * pose.pitch
    c.save()
    c.translate(dx, dy)
    mass = smooth([(0, -198), (68, -190), (122, -152), (150, -84), (156, -10), (166, 66),
                   (190, 132), (204, 190), (192, 240), (196, 290), (160, 330), (90, 300), (0, 250),
                   (-90, 300), (-162, 330), (-197, 290), (-193, 238), (-204, 188), (-190, 130),
                   (-166, 66), (-156, -10), (-150, -84), (-122, -152), (-68, -190)])
    c.drawPath(mass, paint("#3a1f35", 0.25, blur=16))
    c.drawPath(mass, linear((-120, -180), (150, 290), [
        (0.0, "#6b3a2e", 1), (0.45, "#4d2825", 1), (1.0, "#6e3c30", 1)]))
    c.clipPath(mass, doAntiAlias=True)
    # Inner shadow around the neck, then long strands that catch the light.
    c.drawOval(skia.Rect.MakeLTRB(-118, 20, 118, 330), paint("#2c1418", 0.75, blur=22))
    for side in (-1, 1):
        for i in range(9):
            x = 112 + 9.5 * i
            bend = 14 * math.sin(i * 1.7)
            strand = cubic((side * (70 + 8 * i), -120),
                           (side * (x + 8), -40, side * (x - 6 + bend * .3), 60,
                            side * (x + 2 + bend * .4), 140),
                           (side * (x + 20 + bend), 205, side * (x + 6 + bend), 250,
                            side * (x - 24 + bend), 296), closed=False)
            light = i % 3 == 1
            c.drawPath(strand, paint("#a9694c" if light else "#331a1c", 0.32 if light else 0.30,
                                     blur=1.2, stroke=3.2 if light else 4.0))
    c.restore()


def draw_body(c, pose):
    """Shoulders in a knitted jumper; breathing lifts and widens them a little."""
    b = pose.breath
    cx = CENTER[0]
    c.save()
    c.translate(cx, 0)
    up = -5.0 * b
    sx = 1.0 + 0.006 * b
    c.scale(sx, 1)
    body = smooth([(-420, 860), (-352, 690 + up), (-300, 612 + up), (-215, 566 + up),
                   (-120, 540 + up), (-70, 520 + up), (0, 552 + up), (70, 520 + up),
                   (120, 540 + up), (215, 566 + up), (300, 612 + up), (352, 690 + up),
                   (420, 860)], tension=0.9)
    c.drawPath(body, paint("#4a2b45", 0.30, blur=18))
    c.drawPath(body, linear((-330, 540), (330, 760), [
        (0.0, "#58aaa4", 1), (0.5, "#358c8c", 1), (1.0, "#246a74", 1)]))
    c.save()
    c.clipPath(body, doAntiAlias=True)
    c.drawOval(skia.Rect.MakeLTRB(-330, 520 + up, -120, 660 + up), paint("#9fdcd0", 0.30, blur=26))
    c.drawOval(skia.Rect.MakeLTRB(-150, 500 + up, 150, 600 + up), paint("#123c48", 0.38, blur=18))
    for side in (-1, 1):  # sleeve seams
        seam = cubic((side * 236, 575 + up), (side * 214, 630 + up, side * 206, 680 + up,
                                              side * 214, 760), closed=False)
        c.drawPath(seam, paint("#1c5661", 0.55, blur=2, stroke=4))
    c.restore()
    c.restore()


def draw_neck(c, pose, head_dx, head_dy):
    """Neck and neckline: the top follows the head, the base follows the body."""
    up = -5.0 * pose.breath
    c.save()
    c.translate(CENTER[0], 0)
    hx, hy = head_dx, head_dy
    neck = smooth([(-62 + hx, 420 + hy), (-58 + hx * .7, 470 + hy), (-62 + hx * .4, 512 + up),
                   (-92, 536 + up), (-60, 566 + up), (0, 588 + up), (60, 566 + up),
                   (92, 536 + up), (62 + hx * .4, 512 + up), (58 + hx * .7, 470 + hy),
                   (62 + hx, 420 + hy)])
    c.drawPath(neck, linear((-70, 440), (80, 580), [
        (0.0, "#eab693", 1), (0.55, "#e0a684", 1), (1.0, "#d39474", 1)]))
    c.save()
    c.clipPath(neck, doAntiAlias=True)
    c.drawOval(skia.Rect.MakeLTRB(-112 + hx, 396 + hy, 112 + hx, 526 + hy), paint("#a9604f", 0.62, blur=13))
    for side in (-1, 1):  # collar bones
        bone = cubic((side * 14, 566 + up), (side * 34, 556 + up, side * 60, 550 + up,
                                             side * 84, 540 + up), closed=False)
        c.drawPath(bone, paint("#b9745c", 0.45, blur=2.5, stroke=3.5))
    c.drawOval(skia.Rect.MakeLTRB(-60, 520 + up, -8, 572 + up), paint("#ffdcc0", 0.35, blur=12))
    c.restore()
    # Rolled collar along the neckline.
    collar = cubic((-97, 532 + up), (-74, 580 + up, -36, 598 + up, 0, 598 + up),
                   (36, 598 + up, 74, 580 + up, 97, 532 + up), closed=False)
    c.drawPath(collar, paint("#17515c", 0.55, blur=5, stroke=22))
    c.drawPath(collar, linear_stroke(17))
    hl = cubic((-100, 534 + up), (-76, 577 + up, -36, 593 + up, 0, 593 + up),
               (36, 593 + up, 74, 577 + up, 96, 535 + up), closed=False)
    c.drawPath(hl, paint("#a5e0d4", 0.35, blur=2.0, stroke=3))
    # A fine chain with a small pendant.
    chain = cubic((-66, 520 + up), (-48, 556 + up, -20, 570 + up, 0, 572 + up),
                  (20, 570 + up, 48, 556 + up, 66, 520 + up), closed=False)
    c.drawPath(chain, paint("#f6d98a", 0.9, stroke=1.8))
    c.drawCircle(0, 576 + up, 5, radial((-1.5, 574 + up), 6, [(0, "#fff6d0", 1), (1, "#d9a441", 1)]))
    c.restore()


def linear_stroke(width):
    p = linear((-100, 520), (100, 600), [(0.0, "#6fc0b6", 1), (0.5, "#3f9896", 1), (1.0, "#2b7780", 1)])
    p.setStyle(skia.Paint.kStroke_Style)
    p.setStrokeWidth(width)
    p.setStrokeCap(skia.Paint.kRound_Cap)
    return p
