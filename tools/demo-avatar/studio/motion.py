"""The idle motion of the background clip: N poses for a ping-pong walk.

The server walks 0..N-1..0, so every curve is a function of a "phase" that
eases in and out at both ends: velocity is zero where the walk turns round and
the reversal cannot be seen.
"""
import cv2
import numpy as np

from .illustrator import head_to_canvas
from .pose import Pose

# The face rectangle reaches from just under the eyes to below the chin (even with
# the jaw dropped), cheeks included; its centre follows the head at this depth.
RECT_DEPTH = 0.5


def _wave(phase, seed, octaves):
    """Sum of cosines of the eased phase: smooth, aperiodic enough to look alive."""
    rng = np.random.default_rng(seed)
    out = np.zeros_like(phase)
    for freq, amp in octaves:
        out += amp * np.cos(np.pi * freq * phase + rng.uniform(0, 2 * np.pi))
    return out


def poses(who):
    """The loop of a character. Blinks are irregular; none is near an end, where it would be played twice."""
    n = who.n_frames
    i = np.arange(n)
    u = i / (n - 1)
    # Identity in the middle, flat (zero slope) over about 15 frames at the ends.
    edge = 0.06
    speed = np.clip(np.minimum(u, 1 - u) / edge, 0, 1)
    speed = speed * speed * (3 - 2 * speed)
    phase = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2)])
    phase *= n / 200 / phase[-1]  # frequencies below count half-waves in 8 s

    yaw = _wave(phase, who.seed + 1, ((2.3, 4.0), (5.1, 1.8), (9.7, 0.6)))
    pitch = _wave(phase, who.seed + 2, ((3.1, 2.2), (6.7, 1.2), (11.3, 0.4)))
    roll = _wave(phase, who.seed + 3, ((1.9, 0.9), (4.7, 0.45)))
    tx = 0.9 * yaw + _wave(phase, who.seed + 4, ((2.9, 1.6), (7.1, 0.5)))
    ty = 0.6 * pitch + _wave(phase, who.seed + 5, ((3.7, 1.2),))
    breath = 0.5 - 0.5 * np.cos(5.0 * np.pi * phase)  # 3.2 s a breath
    brow = _wave(phase, who.seed + 6, ((3.3, 0.16), (8.1, 0.10)))
    smile = 0.5 + _wave(phase, who.seed + 7, ((2.1, 0.25),))
    # Gaze: mostly at the viewer, countering the head, with two soft glances.
    gx = -0.35 * yaw
    gy = -0.25 * pitch
    for c, w, a, b in ((0.29 * n, 12, 3.2, -0.6), (0.62 * n, 15, -3.0, 0.8)):
        bump = np.exp(-np.clip((i - c) / w, -4, 4) ** 4)
        gx, gy = gx + a * bump, gy + b * bump
    blink = np.zeros(n)
    for b in who.blinks:
        d = i - b  # two frames down, one shut, four up
        blink = np.maximum(blink, np.where(d < 0, np.clip(1 + d / 2.6, 0, 1), np.clip(1 - (d - 1) / 4.2, 0, 1)))
    return [Pose(tx=float(tx[k]), ty=float(ty[k]), roll=float(roll[k]), yaw=float(yaw[k]),
                 pitch=float(pitch[k]), breath=float(breath[k]), blink=float(blink[k]),
                 gaze_x=float(gx[k]), gaze_y=float(gy[k]), brow=float(brow[k]), smile=float(smile[k]))
            for k in range(n)]


def rectangle(who, pose):
    """Square face rectangle [x1, y1, x2, y2], integer truncation of the centre."""
    x, y = head_to_canvas(pose, 0.0, who.rect_y, RECT_DEPTH)
    x1, y1 = int(x - who.rect_size / 2), int(y - who.rect_size / 2)
    return [x1, y1, x1 + who.rect_size, y1 + who.rect_size]


def carry(who, pose, to):
    """Affine 2x3 matrix that takes a face rectangle's pixels from one pose to where the other has them."""
    def seen(p):
        corner = rectangle(who, p)[:2]
        return np.float32([np.subtract(head_to_canvas(p, x, y, RECT_DEPTH), corner) for x, y in ((-40, 0), (40, 0), (0, 80))])
    return cv2.getAffineTransform(seen(pose), seen(to))
