"""Mira: chestnut waves, a teal jumper, the last sun in the window."""
import math

import skia

from ..canvas import cubic, linear, paint, radial, smooth
from ..character import Character, Eyes, Lips, Skin
from ..hair import draw_flyaways, draw_locks, fill, vary
from ..scene import H, W, draw_bokeh, draw_jumper, draw_rolled_collar

HAIR = [(0.0, "#8a4f3c", 1), (0.30, "#6b3a2e", 1), (0.62, "#5a2f28", 1), (1.0, "#935542", 1)]
TONES = (("#4c2623", .55), ("#8f543f", .50), ("#6b3a2e", .65), ("#b9785a", .38), ("#5a2f28", .60), ("#a3654a", .42))


def draw_room(c):
    """Warm gradient, window glow on the left, a shelf far out of focus."""
    c.drawRect(skia.Rect.MakeWH(W, H), linear((0, 0), (W, H), [
        (0.0, "#fbe3cf", 1), (0.45, "#f3c8b8", 1), (1.0, "#b79fc4", 1)]))
    c.drawCircle(230, 170, 420, radial((230, 170), 420, [
        (0.0, "#fff6e4", 0.95), (0.5, "#fff0dc", 0.45), (1.0, "#fff0dc", 0.0)]))
    arch = skia.Path()
    arch.addRoundRect(skia.Rect.MakeLTRB(70, 40, 330, 640), 130, 130)
    c.drawPath(arch, paint("#fffaf0", 0.55, blur=16))
    for x0 in (112, 206):
        pane = skia.Path()
        pane.addRoundRect(skia.Rect.MakeLTRB(x0, 80, x0 + 80, 600), 40, 40)
        c.drawPath(pane, paint("#fffdf6", 0.45, blur=12))
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
    draw_bokeh(c, "#fff4dc", ((470, 110, 26, .35), (890, 90, 38, .30), (985, 190, 22, .32), (1185, 140, 54, .24),
                              (420, 330, 18, .28), (1110, 590, 40, .18), (880, 250, 14, .35), (520, 40, 34, .22)))


def draw_back_hair(c, pose):
    """The mass behind neck and shoulders."""
    mass = smooth([(0, -206), (70, -198), (122, -164), (150, -96), (166, -10), (178, 66), (194, 128), (188, 178),
                   (208, 232), (196, 284), (206, 322), (150, 352), (84, 318), (0, 262), (-84, 318), (-152, 352),
                   (-206, 322), (-196, 282), (-210, 230), (-188, 178), (-196, 128), (-178, 66), (-166, -10),
                   (-150, -96), (-122, -164), (-70, -198)])
    fill(c, mass, (-120, -180), (150, 300), [(0.0, "#6b3a2e", 1), (0.45, "#4d2825", 1), (1.0, "#70402f", 1)], "#3a1f35")
    c.save()
    c.clipPath(mass, doAntiAlias=True)
    c.drawOval(skia.Rect.MakeLTRB(-118, 20, 118, 340), paint("#2c1418", 0.75, blur=22))
    for side in (-1, 1):
        spines = []
        for i in range(14):
            x = 84 + 9 * i
            sway = 12 * vary(i, 3)
            spines.append([(side * (60 + 6 * i), -110), (side * (x + 4), -20), (side * (x + 14 + sway), 70),
                           (side * (x - 2 + sway), 150), (side * (x + 16), 230), (side * (x - 10 + sway), 330)])
        draw_locks(c, spines, (("#3a1c1d", .5), ("#70402f", .5), ("#4d2825", .5), ("#96593f", .3)), 15, seed=side)
    c.restore()


def _side(c, side, outer, inner, spines, seed):
    path = smooth(outer + inner)
    c.save()
    fill(c, path, (side * 40, -200), (side * 160, 300), HAIR, "#4a1f20")
    c.clipPath(path, doAntiAlias=True)
    draw_locks(c, spines, TONES, 17, seed)
    c.restore()


def _wave(side, i, n, reach):
    """One lock from the parting over the temple and down in waves; i = 0 lies next to the face."""
    t = i / (n - 1)
    root_x, root_y = 36 + side * 4 * t, -196 - 6 * t + 10 * (1 - t)
    sway = 5 * vary(i, side)
    crown = (side * (reach[0] + 24 * t), -176 - 22 * t + 46 * (1 - t))
    temple = (side * (reach[1] + 36 * t + sway * .4), -78 + 6 * t)
    ear = (side * (122 + 34 * t + sway), 18)
    wave1 = (side * (136 + 42 * t + sway), 92)
    wave2 = (side * (126 + 44 * t - sway), 160)
    wave3 = (side * (150 + 46 * t + sway), 226)
    tip = (side * (128 + 52 * t + 2 * sway), 312 + 12 * vary(i, 9))
    return [(root_x, root_y), crown, temple, ear, wave1, wave2, wave3, tip]


def draw_front_hair(c, pose):
    """A side parting, two sweeps that fall in waves, and a pin that holds one of them."""
    # The scalp under the parting, so that no gap shows between the sweeps.
    c.drawPath(smooth([(-70, -196), (0, -214), (70, -206), (112, -168), (60, -176), (34, -180), (0, -176), (-60, -168)]),
               paint("#6b3a2e", 1))
    right_outer = [(33, -207), (68, -213), (112, -192), (147, -136), (160, -54), (162, 20), (182, 92), (178, 156),
                   (200, 226), (190, 288), (160, 338)]
    right_inner = [(144, 318), (136, 286), (146, 232), (124, 172), (132, 100), (113, 40), (115, -18), (107, -66), (95, -98), (70, -130), (46, -152), (36, -178)]
    left_outer = [(35, -207), (0, -218), (-62, -212), (-117, -186), (-151, -132), (-164, -50), (-166, 22), (-186, 94),
                  (-180, 158), (-204, 228), (-194, 290), (-162, 342)]
    left_inner = [(-146, 322), (-138, 288), (-148, 234), (-126, 174), (-134, 102), (-113, 42), (-116, -12), (-110, -50), (-92, -80),
                  (-52, -108), (-6, -134), (24, -154), (34, -180)]
    _side(c, 1, right_outer, right_inner, [_wave(1, i, 15, (84, 112)) for i in reversed(range(15))], 5)
    _side(c, -1, left_outer, left_inner, [_wave(-1, i, 17, (50, 103)) for i in reversed(range(17))], 8)
    # The band of light that follows the curve of the head.
    c.drawPath(cubic((-24, -192), (-78, -182, -118, -146, -138, -92), closed=False), paint("#f3c298", 0.36, blur=7, stroke=13))
    c.drawPath(cubic((76, -190), (112, -170, 138, -130, 146, -84), closed=False), paint("#e0a67c", 0.30, blur=7, stroke=10))
    for side in (-1, 1):
        c.drawPath(cubic((side * 160, 66), (side * 176, 96, side * 172, 120, side * 164, 148), closed=False),
                   paint("#e8b189", 0.34, blur=6, stroke=9))
        c.drawPath(cubic((side * 176, 206), (side * 188, 232, side * 182, 256, side * 168, 280), closed=False),
                   paint("#e8b189", 0.28, blur=6, stroke=9))
    draw_flyaways(c, (((-6, -130), (-46, -98, -92, -76, -110, -26), 1.4), ((40, -158), (70, -120, 100, -90, 110, -36), 1.4)), "#7a4635")
    _pin(c)


def _pin(c):
    """A golden clip with three pearls above her left temple."""
    c.save()
    c.translate(118, -84)
    c.rotate(62)
    bar = skia.Rect.MakeLTRB(-23, -5, 23, 5)
    c.drawRoundRect(skia.Rect.MakeLTRB(-23, -3, 23, 8), 5, 5, paint("#3a1a14", 0.5, blur=3))
    c.drawRoundRect(bar, 5, 5, linear((0, -5), (0, 5), [(0, "#fff2c4", 1), (0.45, "#efc566", 1), (1, "#b97f2c", 1)]))
    for x in (-13, 0, 13):
        c.drawCircle(x, 0, 5.2, radial((x - 1.8, -1.8), 7, [(0, "#ffffff", 1), (0.5, "#fbeee2", 1), (1, "#c9a795", 1)]))
    c.restore()


CHARACTER = Character(
    name="mira", title="Mira", seed=0, blinks=(31, 88, 95, 152), region=320, channels=(8, 16, 32, 64, 128),
    n_frames=200, rect_size=212, rect_y=118.0,
    outline=((0, -166), (60, -156), (100, -112), (116, -50), (117, 10), (111, 62), (97, 108), (69, 149), (34, 175), (0, 182)),
    ears=False,
    skin=Skin("#ffe3cb", "#f8d0b2", "#efbd9b", "#dd9c7c", "#c87a62", "#8c3f36", "#fff1e2", "#f08a7c", 0.5,
              ("#eab693", "#e0a684", "#d39474"),
              ((-58, 46), (-46, 54), (-66, 56), (52, 48), (62, 55), (46, 58), (70, 47))),
    lips=Lips(("#d4696a", "#c65659", "#b0464c"), ("#c9585c", "#e27a78", "#cf6463"), "#8c3440", 0.62),
    eyes=Eyes(("#c99a55", "#8a6a3a", "#4f4a2c", "#2f2a1e"), "#3b241c", "#2a1416", 1.0, ("#7d4a37", "#63372b"), 0.9, 2.5, (1.24, 1.29)),
    draw_room=draw_room, draw_back_hair=draw_back_hair, draw_front_hair=draw_front_hair,
    draw_outfit=lambda c, pose: draw_jumper(c, pose, ("#58aaa4", "#358c8c", "#246a74", "#9fdcd0", "#123c48", "#1c5661")),
    draw_collar=lambda c, pose: _collar(c, pose), smile=1.0,
)


def _collar(c, pose):
    up = draw_rolled_collar(c, pose, ("#6fc0b6", "#3f9896", "#2b7780", "#17515c", "#a5e0d4"))
    chain = cubic((-66, 520 + up), (-48, 556 + up, -20, 570 + up, 0, 572 + up),
                  (20, 570 + up, 48, 556 + up, 66, 520 + up), closed=False)
    c.drawPath(chain, paint("#f6d98a", 0.9, stroke=1.8))
    c.drawCircle(0, 576 + up, 5, radial((-1.5, 574 + up), 6, [(0, "#fff6d0", 1), (1, "#d9a441", 1)]))
