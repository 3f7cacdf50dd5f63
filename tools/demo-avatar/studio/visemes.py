"""Phonemes -> mouth parameters over time (the ground truth of everything).

Each phoneme pulls the five mouth parameters to a target with a strength per
parameter; the pulls decay away from the phoneme and are averaged (dominance
functions after Cohen and Massaro), so a vowel between two labials closes and a
rounded vowel rounds the consonants around it. Lips that must meet (m b p) and
teeth on lip (f v) pull hard but briefly.
"""
import numpy as np

from .pose import Mouth

PARAMS = ("open", "width", "round", "teeth", "tongue")
RATE = 100  # Hz at which the curves are evaluated before sampling

# class: (open, width, round, teeth, tongue), strength, reach in seconds
CLASSES = {
    "sil": ((0.00, 0.0, 0.0, 0.0, 0.0), 1.6, 0.085),
    "mbp": ((0.00, 0.0, 0.0, 0.0, 0.0), 9.0, 0.034),
    "fv": ((0.10, 0.1, 0.0, 0.9, 0.0), 5.0, 0.038),
    "w": ((0.12, -0.5, 1.0, 0.0, 0.0), 3.0, 0.055),
    "sz": ((0.13, 0.45, 0.0, 1.0, 0.0), 2.2, 0.045),
    "sh": ((0.18, -0.4, 0.65, 0.8, 0.0), 2.6, 0.055),
    "th": ((0.20, 0.1, 0.0, 0.6, 1.0), 2.4, 0.042),
    "l": ((0.28, 0.1, 0.0, 0.2, 0.9), 1.6, 0.042),
    "tdn": ((0.17, 0.2, 0.0, 0.5, 0.5), 1.5, 0.042),
    "r": ((0.22, -0.2, 0.45, 0.2, 0.1), 1.6, 0.05),
    "kg": ((0.24, 0.1, 0.0, 0.2, 0.0), 1.0, 0.05),
    "h": ((0.30, 0.0, 0.0, 0.0, 0.0), 0.6, 0.05),
    "ee": ((0.27, 1.0, 0.0, 0.5, 0.1), 1.8, 0.075),
    "ih": ((0.36, 0.5, 0.0, 0.3, 0.0), 1.6, 0.07),
    "eh": ((0.55, 0.45, 0.0, 0.15, 0.0), 1.8, 0.075),
    "ae": ((0.78, 0.5, 0.0, 0.1, 0.0), 2.0, 0.08),
    "ah": ((0.95, 0.0, 0.0, 0.0, 0.0), 2.1, 0.085),
    "uh": ((0.58, 0.0, 0.0, 0.0, 0.0), 1.7, 0.07),
    "schwa": ((0.40, 0.0, 0.1, 0.1, 0.0), 1.2, 0.065),
    "aw": ((0.72, -0.3, 0.7, 0.0, 0.0), 2.0, 0.08),
    "oh": ((0.50, -0.4, 0.9, 0.0, 0.0), 2.0, 0.08),
    "oo": ((0.22, -0.6, 1.0, 0.0, 0.0), 2.2, 0.08),
}

# First matching prefix of the IPA decides; longer ones first.
IPA = [
    ("tʃ", "sh"), ("dʒ", "sh"), ("ts", "sz"), ("dz", "sz"), ("pf", "fv"),
    ("m", "mbp"), ("b", "mbp"), ("p", "mbp"), ("f", "fv"), ("v", "fv"), ("ʋ", "fv"),
    ("ɸ", "fv"), ("β", "fv"), ("w", "w"), ("ʍ", "w"), ("ɥ", "w"),
    ("s", "sz"), ("z", "sz"), ("ʃ", "sh"), ("ʒ", "sh"), ("ɕ", "sh"), ("ʑ", "sh"), ("ʂ", "sh"), ("ʐ", "sh"),
    ("ç", "ih"), ("θ", "th"), ("ð", "th"), ("l", "l"), ("ɫ", "l"), ("ʎ", "l"), ("ɭ", "l"),
    ("t", "tdn"), ("d", "tdn"), ("n", "tdn"), ("ɾ", "tdn"), ("ɲ", "ih"), ("ɖ", "tdn"), ("ʈ", "tdn"), ("ɳ", "tdn"),
    ("ɹ", "r"), ("r", "r"), ("ɻ", "r"), ("ʁ", "kg"), ("ʀ", "kg"), ("ɽ", "r"),
    ("k", "kg"), ("g", "kg"), ("ɡ", "kg"), ("ŋ", "kg"), ("x", "kg"), ("ɣ", "kg"), ("q", "kg"), ("ʔ", "kg"),
    ("h", "h"), ("ħ", "h"), ("ɦ", "h"), ("j", "ee"),
    ("i", "ee"), ("ɪ", "ih"), ("y", "oo"), ("ʏ", "oo"), ("ɨ", "ih"),
    ("e", "eh"), ("ɛ", "eh"), ("ø", "oh"), ("œ", "oh"), ("æ", "ae"),
    ("a", "ah"), ("ɑ", "ah"), ("ɐ", "uh"), ("ʌ", "uh"), ("ɜ", "uh"), ("ɚ", "schwa"), ("ə", "schwa"), ("ᵻ", "ih"),
    ("ɒ", "aw"), ("ɔ", "aw"), ("o", "oh"), ("ɤ", "uh"), ("u", "oo"), ("ʊ", "oo"), ("ɯ", "ih"),
]
_GLIDE = {"ɪ": "ih", "ʊ": "oo", "ə": "schwa", "ɹ": "r", "i": "ee", "u": "oo", "ɐ": "uh", "ɜ": "uh", "o": "oh"}
_TABLE = np.array([CLASSES[c][0] for c in CLASSES])
_INDEX = {c: k for k, c in enumerate(CLASSES)}


def classify(ipa):
    """IPA of one phoneme -> list of (viseme class, share of its duration)."""
    ipa = ipa.replace("ˈ", "").replace("ˌ", "").strip("_:| ")
    if not ipa:
        return [("sil", 1.0)]
    for prefix, cls in IPA:
        if ipa.startswith(prefix):
            rest = ipa[len(prefix):].replace("ː", "").replace("\u0303", "").replace("ʲ", "")
            if rest and rest[-1] in _GLIDE and cls in ("ah", "eh", "ae", "aw", "oh", "uh", "schwa", "ih", "ee", "oo"):
                return [(cls, 0.55), (_GLIDE[rest[-1]], 0.45)]
            return [(cls, 1.0)]
    return [("schwa", 1.0)]


def segments(phonemes, duration):
    """[(start seconds, ipa)] -> [(start, end, viseme class)] covering the clip."""
    out, t0 = [], phonemes[0][0] if phonemes else duration
    if t0 > 0:
        out.append((0.0, t0, "sil"))
    for k, (start, ipa) in enumerate(phonemes):
        end = phonemes[k + 1][0] if k + 1 < len(phonemes) else duration
        for cls, share in classify(ipa):
            stop = start + (end - start) * share if share < 1 else end
            if cls != "sil" or stop - start > 0.03:
                out.append((start, stop, cls))
            start = stop
    return [s for s in out if s[1] > s[0]]


def curves(segs, duration):
    """Mouth parameters [T, 5] at RATE Hz by dominance-weighted averaging."""
    n = int(np.ceil(duration * RATE)) + 1
    t = np.arange(n) / RATE
    num = np.zeros((n, 5))
    den = np.full(n, 1e-4)
    for start, end, cls in segs:
        target, strength, reach = CLASSES[cls]
        d = np.maximum(np.maximum(start - t, t - end), 0.0)
        inside = (t >= start) & (t <= end)
        # Short phonemes pull less (undershoot in fast speech), except closures.
        amount = strength * (1.0 if cls in ("mbp", "sil") else min(1.0, (end - start) / 0.07) ** 0.5)
        w = amount * np.where(inside, 1.0, np.exp(-(d / (0.6 * reach)) ** 1.3))
        num += w[:, None] * np.array(target)
        den += w
    return num / den[:, None]


def at_frames(curve, frames, fps=25):
    """Sample the curves at video frames i / fps."""
    x = np.arange(frames) / fps * RATE
    grid = np.arange(len(curve))
    return np.stack([np.interp(x, grid, curve[:, k]) for k in range(5)], 1).astype(np.float32)


def mouth(p):
    return Mouth(**{k: float(v) for k, v in zip(PARAMS, p)})
