"""The mouth: lips, cavity, teeth and tongue from five parameters.

Coordinates are local to the head; (0, 0) is the middle of the lip line at rest.
"""
import skia

from .canvas import linear, paint, radial, smooth

REST_HALF_WIDTH = 40.0
MAX_GAP = 46.0  # pixels between the lips at open = 1


def geometry(m, smile=0.0):
    """Half-width, gap, corner height and lip thicknesses for the parameters."""
    half = REST_HALF_WIDTH * (1 + 0.17 * m.width - 0.36 * m.round - 0.07 * m.open)
    gap = MAX_GAP * max(m.open, 0.0)
    return {
        "half": half,
        "top": 2.0 * smile - 0.24 * gap,                       # inner edge of the upper lip
        "bottom": 2.0 * smile + 0.76 * gap,                     # inner edge of the lower lip
        "corner": -3.0 - 4.5 * smile + 0.14 * gap + 3.5 * m.round - 1.5 * m.width,
        "upper": 9.5 + 3.0 * m.round - 1.2 * m.width - 0.8 * m.open,   # lip thickness
        "lower": 13.5 + 3.0 * m.round - 1.8 * m.width - 2.0 * m.open,
    }


def jaw_drop(m):
    """How far the chin goes down with the lower lip."""
    return 9.0 * m.open


def draw_mouth(c, m, smile, who):
    lips, skin = who.lips, who.skin
    g = geometry(m, smile)
    h, top, bot, cor = g["half"], g["top"], g["bottom"], g["corner"]
    up, lo = g["upper"] * lips.fullness, g["lower"] * lips.fullness
    r = m.round

    # Shade under the lower lip and soft dimples beside the corners.
    c.drawOval(skia.Rect.MakeLTRB(-h * .55, bot + lo + 1, h * .55, bot + lo + 10),
               paint(skin.shadow, 0.36, blur=4.5))
    for s in (-1, 1):
        c.drawCircle(s * (h + 5), cor, 4.0, paint(skin.shadow, 0.36, blur=3.5))

    # Inner opening: cavity, tongue, teeth.
    inner = smooth([(-h * .93, cor), (-h * .55, top * .80 + cor * .10), (-h * .17, top + .9),
                    (0, top + 1.8), (h * .17, top + .9), (h * .55, top * .80 + cor * .10),
                    (h * .93, cor), (h * .56, bot * .80 + cor * .12), (0, bot),
                    (-h * .56, bot * .80 + cor * .12)])
    gap = bot - top
    if gap > 0.4:
        c.save()
        c.clipPath(inner, doAntiAlias=True)
        c.drawPaint(linear((0, top), (0, bot), [(0, "#3a0f18", 1), (0.6, "#5a1a24", 1), (1, "#6d232b", 1)]))
        # Tongue: low and broad at rest, raised towards the teeth for l and th.
        ty = bot - 0.30 * gap - (0.34 * gap) * m.tongue
        tw = h * (0.62 - 0.08 * r)
        c.drawOval(skia.Rect.MakeLTRB(-tw, ty, tw, ty + gap * .9 + 8), linear(
            (0, ty), (0, bot), [(0, "#d9707a", 1), (1, "#b04b5c", 1)]))
        c.drawLine(0, ty + 4, 0, bot, paint("#8f3347", 0.45, blur=1.5, stroke=2.0))
        c.drawOval(skia.Rect.MakeLTRB(-tw * .6, ty + 1, -tw * .05, ty + 6), paint("#ffb3b3", 0.5, blur=2))
        # Upper teeth hang from the upper lip; "teeth" brings them further down.
        th = min(gap * (0.34 + 0.42 * m.teeth), 11.5 + 2.0 * m.teeth) * (1 - 0.45 * r)
        tx = h * (0.74 - 0.10 * r)
        teeth = smooth([(-tx, top - 6), (-tx, top + th * .45 + 1), (-tx * .62, top + th * .93 + 1.2),
                        (0, top + th + 1.8), (tx * .62, top + th * .93 + 1.2),
                        (tx, top + th * .45 + 1), (tx, top - 6), (0, top - 9)])
        c.drawPath(teeth, paint("#3a0f18", 0.5, blur=2.0))
        c.drawPath(teeth, linear((0, top - 1), (0, top + th + 2), [(0, "#d9cdc6", 1), (0.45, "#fbf6ef", 1), (1, "#fffdf8", 1)]))
        for x in (-.62, -.36, -.12, .12, .36, .62):
            c.drawLine(tx * x, top, tx * x * .98, top + th * .9, paint("#c9b9b0", 0.35, stroke=0.9))
        # Lower teeth: a hint, only when the lips are well apart or spread.
        lt = max(0.0, min(gap - 12, 26) / 26) * (1 - r) * 4.0 + 2.5 * m.teeth * min(gap / 8, 1)
        if lt > 0.3:
            low = smooth([(-h * .46, bot + 6), (-h * .44, bot - lt * .5), (0, bot - lt - .5),
                          (h * .44, bot - lt * .5), (h * .46, bot + 6)])
            c.drawPath(low, paint("#efe6dd", 0.92))
        c.drawPath(inner, paint("#2a0a12", 0.40 * min(gap / 12, 1), blur=2.6, stroke=4.5))  # depth at the rim
        c.restore()

    # Lips.
    top_y, bot_y = top - up, bot + lo
    upper = smooth([(-h, cor), (-h * .62, cor * .50 + top_y * .56 + 0.6), (-h * .24, top_y - .8),
                    (0, top_y + 2.9), (h * .24, top_y - .8), (h * .62, cor * .50 + top_y * .56 + 0.6),
                    (h, cor),
                    (h * .55, top * .80 + cor * .10 + .7), (h * .17, top + 1.2), (0, top + 2.4),
                    (-h * .17, top + 1.2), (-h * .55, top * .80 + cor * .10 + .7)])
    lower = smooth([(-h, cor), (-h * .56, bot * .80 + cor * .12), (0, bot), (h * .56, bot * .80 + cor * .12),
                    (h, cor), (h * .70, bot * .55 + cor * .32 + lo * .66), (h * .32, bot_y - .6),
                    (0, bot_y + .3), (-h * .32, bot_y - .6), (-h * .70, bot * .55 + cor * .32 + lo * .66)])
    c.drawPath(lower, linear((0, bot - 1), (0, bot_y + 1), [
        (at, colour, 1) for at, colour in zip((0, 0.42, 1), lips.lower)]))
    c.drawPath(upper, linear((0, top_y), (0, top + 3), [
        (at, colour, 1) for at, colour in zip((0, 0.6, 1), lips.upper)]))
    # Gloss, then the line between the lips (fades as they part).
    c.save()
    c.clipPath(lower, doAntiAlias=True)
    c.drawOval(skia.Rect.MakeLTRB(-h * .40, bot + lo * .28, h * .18, bot + lo * .62), paint("#ffd9d2", lips.gloss, blur=2.2))
    c.restore()
    c.drawOval(skia.Rect.MakeLTRB(-h * .26, top_y + 2.0, -h * .08, top_y + 4.8), paint("#ffd9d2", 0.56 * lips.gloss, blur=1.3))
    closed = max(0.0, 1 - gap / 4.0)
    if closed > 0:
        line = smooth([(-h, cor), (-h * .55, top * .8 + cor * .12 + .2), (-h * .17, top + .4), (0, top + 1.6), (h * .17, top + .4),
                       (h * .55, top * .8 + cor * .12 + .2), (h, cor)], closed=False)
        c.drawPath(line, paint(lips.line, 0.85 * closed, stroke=1.9))
    for s in (-1, 1):
        c.drawCircle(s * h * .985, cor, 1.7, paint(lips.line, 0.65, blur=0.9))
