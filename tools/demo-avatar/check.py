"""Step 8: held-out metrics and a contact sheet of the exported avatar.

Runs the exported files the way the server does (front-end, encoder, generator,
paste, JPEG) on sentences and voices that training never saw, and compares with
the drawn truth of the same frames.

    python check.py [contact-sheet.png] [--clips N]
"""
import argparse
from dataclasses import replace

import cv2
import numpy as np

from mira import probe, visemes
from mira.corpus import pad_silence, truth, voice
from mira.espeak import Espeak
from mira.frontend import FPS, SAMPLE_RATE, frame_count
from mira.illustrator import render
from mira.motion import poses, rectangle
from mira.paths import WORK
from mira.pipeline import Avatar, jpeg_round_trip, ping_pong
from mira.speech import HELD_OUT, SAMPLES
from mira.targets import composite
from mira.texts import HELD_OUT_SENTENCES, HELD_OUT_VARIANTS


def clips(speaker, extra):
    for k, v, rate, pitch in list(HELD_OUT.values()) + list(SAMPLES.values()):
        yield speaker_clip(speaker, HELD_OUT_SENTENCES[k], v, rate, pitch)
    for i in range(extra):
        v = voice("en-us", HELD_OUT_VARIANTS[i % len(HELD_OUT_VARIANTS)])
        yield speaker_clip(speaker, HELD_OUT_SENTENCES[(3 + i) % len(HELD_OUT_SENTENCES)], v, 160, 50)


def speaker_clip(speaker, text, v, rate, pitch):
    audio, ph = pad_silence(*speaker.speak(text, v, rate, pitch), 0.25, 0.3)
    return f"{v}: {text}", audio * (0.7 / np.abs(audio).max()), ph


def labels(ph, n_samples):
    """Viseme class at every frame time."""
    segs = visemes.segments(ph, n_samples / SAMPLE_RATE)
    t = np.arange(frame_count(n_samples)) / FPS
    return [next((c for a, b, c in segs if a <= x < b), "sil") for x in t]


def psnr(a, b):
    return 10 * np.log10(255 ** 2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("sheet", nargs="?", default=str(WORK / "contact_sheet.png"))
    ap.add_argument("--clips", type=int, default=2, help="extra clips beside the shipped ones")
    args = ap.parse_args()
    avatar, speaker, pose_list = Avatar(), Espeak(), poses()
    rows, every = [], {"net": [], "drawn": [], "truth": [], "label": [], "psnr": [], "idle": []}
    for name, audio, ph in clips(speaker, args.clips):
        p = truth(ph, len(audio))
        net, drawn, quality, idle, cells = [], [], [], [], []
        for i, (frame, rect) in enumerate(avatar.talk(audio.astype(np.float32))):
            x1, y1, x2, y2 = rect
            k = ping_pong(i, len(pose_list))
            pose = pose_list[k]
            plain = cv2.imread(str(avatar.files[k]))
            want = plain.copy()
            want[y1:y2, x1:x2] = composite(plain[y1:y2, x1:x2], render(pose, rectangle(pose)),
                                           render(replace(pose, mouth=visemes.mouth(p[i])), rectangle(pose)))
            net.append(probe.opening(jpeg_round_trip(frame), rect))
            drawn.append(probe.opening(jpeg_round_trip(want), rect))
            quality.append(psnr(frame[y1:y2, x1:x2], want[y1:y2, x1:x2]))
            idle.append(psnr(plain[y1:y2, x1:x2], want[y1:y2, x1:x2]))
            if i % max(1, len(p) // 10) == 3 and len(cells) < 10:
                cells.append(np.vstack([want[y1:y2, x1:x2], frame[y1:y2, x1:x2]]))
        rows.append(np.hstack(cells))
        c = lambda a, b: np.corrcoef(a, b)[0, 1]
        print(f"{name[:60]:60s} drawn {c(drawn, p[:, 0]):.3f}  network {c(net, p[:, 0]):.3f}  PSNR {np.mean(quality):.1f} dB (closed mouth {np.mean(idle):.1f})", flush=True)
        for key, v in zip(every, (net, drawn, p[:, 0], labels(ph, len(audio)), quality, idle)):
            every[key].extend(v)
    a = {k: np.array(v) for k, v in every.items()}
    print(f"all: correlation of opening, drawn {np.corrcoef(a['drawn'], a['truth'])[0, 1]:.3f}, "
          f"network {np.corrcoef(a['net'], a['truth'])[0, 1]:.3f}; PSNR of the face rectangle {a['psnr'].mean():.1f} dB "
          f"(leaving the mouth closed: {a['idle'].mean():.1f} dB)")
    for group, classes in (("m b p", ("mbp",)), ("silence", ("sil",)), ("open vowels", ("ah", "ae", "aw"))):
        sel = np.isin(a["label"], classes)
        print(f"{group}: mean probed opening, network {a['net'][sel].mean():.3f}, drawn {a['drawn'][sel].mean():.3f}, {sel.sum()} frames")
    width = max(r.shape[1] for r in rows)
    rows = [cv2.copyMakeBorder(r, 4, 4, 0, width - r.shape[1], cv2.BORDER_CONSTANT) for r in rows]
    cv2.imwrite(args.sheet, np.vstack(rows))
    print("upper row of each pair: drawn; lower: network.", args.sheet)


if __name__ == "__main__":
    main()
