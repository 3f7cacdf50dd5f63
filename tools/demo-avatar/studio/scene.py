"""What surrounds a face: the canvas, clothes and the neck."""
import skia

from .canvas import cubic, linear, paint, smooth

W, H = 1280, 720
CENTER = (640.0, 318.0)  # canvas position of the point between the eyes at rest


def draw_bokeh(c, colour, lights):
    for x, y, r, a in lights:
        c.drawCircle(x, y, r, paint(colour, a, blur=5))


def lift(pose):
    """How far a breath raises the shoulders, px (negative is up)."""
    return -5.0 * pose.breath


def draw_jumper(c, pose, colours):
    """Shoulders in knitwear; colours: lit, middle, far, gleam, shadow, seam."""
    lit, middle, far, gleam, shadow, seam_colour = colours
    up = lift(pose)
    c.save()
    c.translate(CENTER[0], 0)
    c.scale(1.0 + 0.006 * pose.breath, 1)
    body = smooth([(-420, 860), (-352, 690 + up), (-300, 612 + up), (-215, 566 + up),
                   (-120, 540 + up), (-70, 520 + up), (0, 552 + up), (70, 520 + up),
                   (120, 540 + up), (215, 566 + up), (300, 612 + up), (352, 690 + up),
                   (420, 860)], tension=0.9)
    c.drawPath(body, paint("#3a2238", 0.30, blur=18))
    c.drawPath(body, linear((-330, 540), (330, 760), [(0.0, lit, 1), (0.5, middle, 1), (1.0, far, 1)]))
    c.save()
    c.clipPath(body, doAntiAlias=True)
    c.drawOval(skia.Rect.MakeLTRB(-330, 520 + up, -120, 660 + up), paint(gleam, 0.30, blur=26))
    c.drawOval(skia.Rect.MakeLTRB(-150, 500 + up, 150, 600 + up), paint(shadow, 0.38, blur=18))
    for x in range(-380, 381, 13):  # the ribs of the knit
        rib = cubic((x * .86, 560 + up), (x * .95, 620 + up, x, 680 + up, x * 1.02, 760), closed=False)
        c.drawPath(rib, paint(shadow, 0.10, blur=1.4, stroke=3))
    for side in (-1, 1):
        seam = cubic((side * 236, 575 + up), (side * 214, 630 + up, side * 206, 680 + up, side * 214, 760), closed=False)
        c.drawPath(seam, paint(seam_colour, 0.55, blur=2, stroke=4))
    c.restore()
    c.restore()


def draw_neck(c, pose, skin, head_dx, head_dy):
    """The neck: its top follows the head, its base the body."""
    up = lift(pose)
    hx, hy = head_dx, head_dy
    neck = smooth([(-62 + hx, 420 + hy), (-58 + hx * .7, 470 + hy), (-62 + hx * .4, 512 + up),
                   (-92, 536 + up), (-60, 566 + up), (0, 588 + up), (60, 566 + up),
                   (92, 536 + up), (62 + hx * .4, 512 + up), (58 + hx * .7, 470 + hy),
                   (62 + hx, 420 + hy)])
    lit, middle, far = skin.neck
    c.drawPath(neck, linear((-70, 440), (80, 580), [(0.0, lit, 1), (0.55, middle, 1), (1.0, far, 1)]))
    c.save()
    c.clipPath(neck, doAntiAlias=True)
    c.drawOval(skia.Rect.MakeLTRB(-112 + hx, 396 + hy, 112 + hx, 526 + hy), paint(skin.shadow, 0.55, blur=13))
    for side in (-1, 1):  # collar bones
        bone = cubic((side * 14, 566 + up), (side * 34, 556 + up, side * 60, 550 + up, side * 84, 540 + up), closed=False)
        c.drawPath(bone, paint(skin.shadow, 0.45, blur=2.5, stroke=3.5))
    c.drawOval(skia.Rect.MakeLTRB(-60, 520 + up, -8, 572 + up), paint(skin.light, 0.35, blur=12))
    c.restore()


def draw_rolled_collar(c, pose, colours):
    """A rolled neckline; colours: lit, middle, far, shadow, gleam. Returns the lift of the breath."""
    lit, middle, far, shadow, gleam = colours
    up = lift(pose)
    collar = cubic((-97, 532 + up), (-74, 580 + up, -36, 598 + up, 0, 598 + up),
                   (36, 598 + up, 74, 580 + up, 97, 532 + up), closed=False)
    c.drawPath(collar, paint(shadow, 0.55, blur=5, stroke=22))
    p = linear((-100, 520), (100, 600), [(0.0, lit, 1), (0.5, middle, 1), (1.0, far, 1)])
    p.setStyle(skia.Paint.kStroke_Style)
    p.setStrokeWidth(17)
    p.setStrokeCap(skia.Paint.kRound_Cap)
    c.drawPath(collar, p)
    edge = cubic((-100, 534 + up), (-76, 577 + up, -36, 593 + up, 0, 593 + up),
                 (36, 593 + up, 74, 577 + up, 96, 535 + up), closed=False)
    c.drawPath(edge, paint(gleam, 0.35, blur=2.0, stroke=3))
    return up
