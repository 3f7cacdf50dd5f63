"""Tomo: black curls, a mustard hoodie, a blue evening with lamps."""
import math

import skia

from ..canvas import cubic, linear, paint, radial, smooth
from ..character import Character, Eyes, Lips, Skin
from ..hair import fill, vary
from ..scene import H, W, draw_bokeh, draw_jumper, draw_rolled_collar, lift

HAIR = [(0.0, "#3c3038", 1), (0.45, "#241c24", 1), (1.0, "#16121a", 1)]


def draw_room(c):
    """Dusk in the window on the right, a warm lamp on the left, plants far out of focus."""
    c.drawRect(skia.Rect.MakeWH(W, H), linear((0, 0), (W, H), [
        (0.0, "#3f4a73", 1), (0.5, "#51608c", 1), (1.0, "#2f3658", 1)]))
    c.drawCircle(250, 250, 380, radial((250, 250), 380, [(0.0, "#ffd79a", 0.85), (0.45, "#f2a66b", 0.42), (1.0, "#f2a66b", 0.0)]))
    c.drawOval(skia.Rect.MakeLTRB(160, 150, 340, 330), paint("#fff1cf", 0.85, blur=26))
    window = skia.Path()
    window.addRoundRect(skia.Rect.MakeLTRB(900, 40, 1230, 520), 24, 24)
    c.drawPath(window, paint("#8fa6d9", 0.55, blur=14))
    c.drawRect(skia.Rect.MakeLTRB(920, 60, 1210, 500), linear((1060, 60), (1060, 500), [
        (0.0, "#27346a", 0.8), (0.55, "#6d6aa8", 0.7), (1.0, "#f0a68f", 0.75)], blur=10))
    for x, h in ((935, 150), (975, 210), (1020, 120), (1062, 185), (1110, 240), (1160, 160)):
        c.drawRect(skia.Rect.MakeLTRB(x, 500 - h, x + 38, 500), paint("#2c3158", 0.55, blur=6))
    c.drawLine(1065, 60, 1065, 500, paint("#41507f", 0.8, blur=5, stroke=12))
    for a, r in ((-165, 90), (-135, 130), (-108, 150), (-80, 140), (-52, 122), (-22, 92)):
        t = math.radians(a)
        x, y = 1010 + r * math.cos(t), 610 + r * math.sin(t)
        leaf = cubic((1010, 610), (1010 + (x - 1010) * .3 - 26, y + 34, x - 28, y + 12, x, y),
                     (x + 26, y + 20, 1010 + (x - 1010) * .4 + 28, y + 66, 1010, 610))
        c.drawPath(leaf, paint("#4f8f83", 0.6, blur=8))
    draw_bokeh(c, "#ffe0a8", ((955, 330, 9, .75), (992, 350, 7, .7), (1040, 410, 8, .7), (1085, 350, 9, .7), (1132, 300, 8, .7),
                              (1180, 390, 9, .65), (470, 120, 30, .22), (420, 420, 22, .20), (880, 180, 26, .16), (560, 60, 18, .2)))


def draw_back_hair(c, pose):
    """Close to the skull; only a rim shows behind the ears."""
    mass = smooth([(0, -200), (70, -194), (122, -160), (136, -96), (132, -40), (124, -6), (112, 14), (0, 30), (-112, 14),
                   (-124, -6), (-132, -40), (-136, -96), (-122, -160), (-70, -194)])
    fill(c, mass, (-100, -190), (120, 60), HAIR, "#0e1226")


def draw_front_hair(c, pose):
    """A crown of curls, from the back of the head to the fringe."""
    cap = smooth([(-118, -34), (-132, -84), (-134, -130), (-112, -172), (-74, -197), (-28, -209), (24, -212), (74, -201),
                  (112, -175), (134, -134), (134, -86), (118, -32), (112, -62), (104, -92), (78, -108), (40, -116), (0, -118),
                  (-40, -114), (-78, -106), (-104, -90), (-112, -60)])
    fill(c, cap, (-60, -220), (80, -40), HAIR, "#0b0a14")
    curls = []
    for k, (rx, ry, n, size) in enumerate(((125, 140, 19, 19), (109, 116, 17, 20), (88, 92, 14, 20), (62, 67, 10, 20), (32, 42, 6, 19))):
        for i in range(n):
            angle = math.pi * (1 + (i + 0.5 * (k % 2)) / (n - 1)) if n > 1 else 1.5 * math.pi
            x = rx * math.cos(angle) + 4 * vary(i, k)
            y = -74 + ry * math.sin(angle) + 4 * vary(i, k + 20)
            curls.append((x, y, size * (1 + 0.16 * vary(i, k + 40)), i + k))
    for i in range(12):  # the fringe
        x = -99 + 18 * i
        curls.append((x, -103 + 0.0005 * x * x + 6 * vary(i, 77), 17 + 2 * vary(i, 78), i))
    for x, y, size, i in curls:
        if y < -52 - 0.2 * abs(x):
            _curl(c, x, y, size, i)
    c.drawPath(cubic((-92, -162), (-60, -196, -10, -207, 40, -199), closed=False), paint("#d9b8a8", 0.16, blur=10, stroke=20))


def _curl(c, x, y, r, i):
    """A small coil: dark at its lower right, a glint on its upper left."""
    c.drawCircle(x, y, r, radial((x - .35 * r, y - .45 * r), 1.5 * r, [
        (0.0, "#54454d", 1), (0.42, "#33282f", 1), (0.8, "#1b1519", 1), (1.0, "#151014", 1)]))
    turn = 40 * vary(i, 11) + (180 if i % 2 else 0)
    c.save()
    c.translate(x, y)
    c.rotate(turn)
    coil = smooth([(-.62 * r, .25 * r), (-.5 * r, -.45 * r), (.1 * r, -.62 * r), (.55 * r, -.15 * r), (.25 * r, .4 * r), (-.15 * r, .2 * r)], closed=False)
    c.drawPath(coil, paint("#0f0b0e", 0.55, blur=0.9, stroke=2.6))
    c.translate(-1.2, -1.4)
    c.drawPath(coil, paint("#7d6770", 0.30, blur=0.9, stroke=1.6))
    c.restore()


def draw_outfit(c, pose):
    draw_jumper(c, pose, ("#f0bd55", "#d79a35", "#a96f24", "#ffe3a3", "#6b3f17", "#8a5a1f"))


def draw_collar(c, pose):
    """The hood lies around the neck; two cords hang from it."""
    up = lift(pose)
    for s in (-1, 1):
        hood = smooth([(s * 58, 508 + up), (s * 104, 506 + up), (s * 136, 540 + up), (s * 118, 590 + up), (s * 62, 622 + up),
                       (s * 14, 630 + up), (s * 40, 592 + up), (s * 70, 560 + up)])
        c.drawPath(hood, paint("#6b3f17", 0.40, blur=8))
        c.drawPath(hood, linear((s * 50, 510), (s * 110, 630), [(0, "#f2c465", 1), (0.6, "#d0932f", 1), (1, "#a96f24", 1)]))
        c.drawPath(cubic((s * 62, 520 + up), (s * 90, 548 + up, s * 66, 590 + up, s * 22, 622 + up), closed=False),
                   paint("#8a5a1f", 0.5, blur=2.5, stroke=4))
    draw_rolled_collar(c, pose, ("#faf4ea", "#e9dfd0", "#cbbba6", "#6b4a2a", "#ffffff"))
    for s in (-1, 1):
        c.drawPath(cubic((s * 44, 606 + up), (s * 48, 640 + up, s * 42, 670 + up, s * 46, 704 + up), closed=False),
                   paint("#fbf3e2", 0.95, stroke=4.5))
        c.drawRoundRect(skia.Rect.MakeXYWH(s * 46 - 3.5, 700 + up, 7, 18), 3, 3, paint("#c9b79c", 1))


CHARACTER = Character(
    name="tomo", title="Tomo", seed=40, blinks=(21, 52, 58), region=160, channels=(12, 24, 40, 72, 128),
    n_frames=80, rect_size=168, rect_y=122.0,
    outline=((0, -166), (62, -156), (104, -112), (119, -50), (120, 10), (116, 64), (106, 112), (80, 153), (42, 180), (0, 188)),
    ears=True,
    skin=Skin("#d9a27c", "#c58a64", "#b27552", "#8f573c", "#7c4530", "#4a241c", "#e6b48c", "#c8593f", 0.22,
              ("#b47a56", "#a46a49", "#8b563a")),
    lips=Lips(("#a05a4e", "#8f4d44", "#7a3e38"), ("#9a564b", "#b87365", "#9c5a4e"), "#5a2a26", 0.30, 0.92),
    eyes=Eyes(("#8a5a34", "#5d3a22", "#382116", "#21130e"), "#1d100c", "#1a0f10", 0.0, ("#2a1f22", "#1c1519"), 1.3, 6.0, (1.14, 1.13)),
    draw_room=draw_room, draw_back_hair=draw_back_hair, draw_front_hair=draw_front_hair,
    draw_outfit=draw_outfit, draw_collar=draw_collar, smile=1.0,
)
