"""Thin helpers over Skia: colours, paints and smooth closed curves.

Everything that is drawn goes through these few functions so that the drawing
files read as geometry and colour only.
"""
import skia


def rgba(hexa, alpha=1.0):
    """'#rrggbb' -> Skia colour with the given opacity."""
    v = int(hexa.lstrip("#"), 16)
    return skia.ColorSetARGB(int(255 * alpha + 0.5), v >> 16 & 255, v >> 8 & 255, v & 255)


def paint(color, alpha=1.0, blur=0.0, stroke=None):
    p = skia.Paint(AntiAlias=True, Color=rgba(color, alpha))
    if stroke is not None:
        p.setStyle(skia.Paint.kStroke_Style)
        p.setStrokeWidth(stroke)
        p.setStrokeCap(skia.Paint.kRound_Cap)
        p.setStrokeJoin(skia.Paint.kRound_Join)
    if blur > 0:
        p.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, blur))
    return p


def linear(p0, p1, stops, blur=0.0):
    """Linear gradient paint; stops = [(position, '#rrggbb', alpha), ...]."""
    return _gradient(skia.GradientShader.MakeLinear(
        points=[p0, p1], colors=[rgba(c, a) for _, c, a in stops],
        positions=[s for s, _, _ in stops]), blur)


def radial(center, radius, stops, blur=0.0):
    return _gradient(skia.GradientShader.MakeRadial(
        center=center, radius=radius, colors=[rgba(c, a) for _, c, a in stops],
        positions=[s for s, _, _ in stops]), blur)


def _gradient(shader, blur):
    p = skia.Paint(AntiAlias=True, Shader=shader)
    if blur > 0:
        p.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, blur))
    return p


def smooth(points, closed=True, tension=1.0):
    """Catmull-Rom curve through the points, as a Skia path of cubics."""
    path = skia.Path()
    n = len(points)
    path.moveTo(*points[0])
    k = tension / 6.0
    for i in range(n if closed else n - 1):
        def at(j):
            return points[j % n] if closed else points[min(max(j, 0), n - 1)]
        p0, p1, p2, p3 = at(i - 1), at(i), at(i + 1), at(i + 2)
        path.cubicTo(p1[0] + (p2[0] - p0[0]) * k, p1[1] + (p2[1] - p0[1]) * k,
                     p2[0] - (p3[0] - p1[0]) * k, p2[1] - (p3[1] - p1[1]) * k, *p2)
    if closed:
        path.close()
    return path


def cubic(start, *segments, closed=True):
    """Path from a start point and (c1x,c1y,c2x,c2y,x,y) segments."""
    path = skia.Path()
    path.moveTo(*start)
    for s in segments:
        path.cubicTo(*s)
    if closed:
        path.close()
    return path


def mirrored(points, pivot=0.0):
    """Points of the right half (top to bottom) -> closed symmetric outline."""
    left = [(2 * pivot - x, y) for x, y in reversed(points) if abs(x - pivot) > 1e-6]
    return list(points) + left
