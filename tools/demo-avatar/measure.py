"""How exactly an avatar speaks, measured through the real server.

    python measure.py mira [--kind wenet] [--sheet FILE.jpg] [--clip FILE.webp] [--clips N] [--server BINARY] [--precision auto] [--cpu-isa auto] [--librivox FOLDER] [--wav RECORDING.wav ...]

Held-out sentences in held-out voices go through the server (JPEG at quality 85);
the mouth's parameters are read back from the pictures (studio/reader.py) and
compared with the truth, per parameter and per class of phonemes. With --librivox
the same is done for real recorded speech (studio/recorded.py), whose truth is only
as good as its alignment. Other recordings have no truth: of them the contact sheet
is drawn, and the correlation of the opening with the loudness is printed. The clip
is of the sample that welcomes, without sound; `cargo run --example speak` makes films with it.
"""
import argparse
import functools
from dataclasses import replace

import cv2
import numpy as np
import torch

from studio import visemes
from studio.characters import by_name
from studio.corpus import pad_silence, truth, voice
from studio.espeak import Espeak
from studio.frontend import SAMPLE_RATE
from studio.illustrator import render
from studio.kinds import KINDS, add_argument
from studio.motion import carry, poses, rectangle
from studio.paths import SPEECH, avatar_folder, work_folder
from studio.reader import SPAN, Reader, as_input, cut
from studio.recorded import read, sentences
from studio.served import Server
from studio.speech import HELD_OUT
from studio.targets import composite
from studio.texts import HELD_OUT_SENTENCES, HELD_OUT_VARIANTS
from studio.visemes import PARAMS

CLOSED = 0.10  # share of full opening that counts as closed
MAX_LAG = 3    # frames


def held_out(speaker, extra):
    for k, name, rate, pitch in HELD_OUT.values():
        yield spoken(speaker, HELD_OUT_SENTENCES[k], name, rate, pitch)
    for i in range(extra):
        k = i + i // len(HELD_OUT_SENTENCES)  # another voice for each sentence in every round
        name = voice(("en-us", "en-gb-x-rp")[k % 2], HELD_OUT_VARIANTS[k % len(HELD_OUT_VARIANTS)])
        yield spoken(speaker, HELD_OUT_SENTENCES[(3 + i) % len(HELD_OUT_SENTENCES)], name, 145 + 10 * (k % 4), 50)


def spoken(speaker, text, name, rate, pitch):
    audio, ph = pad_silence(*speaker.speak(text, name, rate, pitch), 0.4, 0.4)
    return f"{name}: {text}", audio * (0.7 / np.abs(audio).max()), ph


class Eyes:
    """Looks at served frames: mouth parameters, and what the illustrator would have drawn."""

    def __init__(self, who, kind):
        self.who, self.kind, self.poses = who, kind, poses(who)
        self.reader = Reader().eval()
        self.reader.load_state_dict(torch.load(work_folder(who.name) / "reader.pt", weights_only=True))
        self.files = sorted((avatar_folder(who.name) / "frames").glob("*.jpg"))

    def read(self, faces):
        with torch.no_grad():
            return self.reader(as_input([cut(f) for f in faces])).numpy()

    def background(self, k):
        return cv2.imread(str(self.files[k]))

    @functools.cache
    def neutral(self, k):
        """Background k as the illustrator drew it: no JPEG in between."""
        return render(self.who, self.poses[k], rectangle(self.who, self.poses[k]))

    def drawn(self, k, rect, params):
        """The true face rectangle of background k."""
        x1, y1, x2, y2 = rect
        pose = self.poses[k]
        talking = render(self.who, replace(pose, mouth=visemes.mouth(params)), rectangle(self.who, pose))
        return composite(self.background(k)[y1:y2, x1:x2], self.neutral(k), talking)


def faces_of(server, audio):
    out = []
    for picture, k, (x1, y1, x2, y2), _ in server.talk(audio):
        out.append((picture[y1:y2, x1:x2], k, (x1, y1, x2, y2)))
    return out


def psnr(a, b):
    return 10 * np.log10(255 ** 2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


def correlation(a, b):
    """Not a number where one of them never changes."""
    with np.errstate(invalid="ignore"):
        return np.corrcoef(a, b)[0, 1]


def best_lag(got, want):
    """Frames by which `got` is late against `want`."""
    def at(lag):
        a, b = (got[lag:], want[:len(want) - lag]) if lag >= 0 else (got[:lag], want[-lag:])
        return correlation(a, b)
    return max(range(-MAX_LAG, MAX_LAG + 1), key=at)


def closures(ph, n_samples, fps, classes=("mbp",)):
    """Frames nearest to the middle of every closure, at least 40 ms long."""
    segs = visemes.segments(ph, n_samples / SAMPLE_RATE)
    return [(int(round(a * fps)), int(round(b * fps))) for a, b, c in segs if c in classes and b - a >= 0.04]


def steps(who, pose_list, pictures):
    """Levels by which each of [(index of its background, picture)] differs from the one before, moved to where the head is."""
    for (k, a), (m, b) in zip(pictures, pictures[1:]):
        moved = cv2.warpAffine(a, carry(who, pose_list[k], pose_list[m]), a.shape[1::-1], flags=cv2.INTER_CUBIC,
                               borderMode=cv2.BORDER_CONSTANT, borderValue=(np.nan,) * 3)
        yield np.nanmean(np.abs(b - moved))


def flicker(eyes, server):
    """Prints how unsteady silence is, over one walk through all backgrounds.

    The truth of silence is the background itself, so what is looked at is how the served frame differs from it, and
    how that difference changes between neighbours once they are aligned by the known movement of the head. The
    coding alone makes such steps, too: those of the backgrounds themselves in the same JPEG are printed beside.
    """
    parts = {"served frames": [], "of them the mouths": [], "JPEG alone": []}
    offset = []
    for face, k, (x1, y1, x2, y2) in faces_of(server, np.zeros(eyes.who.n_frames * SAMPLE_RATE // eyes.kind.fps, np.float32)):
        plain = eyes.background(k)
        coded = cv2.imdecode(cv2.imencode(".jpg", plain, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], cv2.IMREAD_COLOR)
        there = (slice(y1, y2), slice(x1, x2))
        added = face.astype(np.float32) - plain[there]
        parts["served frames"].append((k, added))
        parts["of them the mouths"].append((k, blank_but_mouth(added)))
        parts["JPEG alone"].append((k, coded[there].astype(np.float32) - plain[there]))
        offset.append(np.abs(added).mean())
    print(f"silence: {np.mean(offset):.2f} levels off the background; levels of change between aligned neighbours:")
    for name, pictures in parts.items():
        change = list(steps(eyes.who, eyes.poses, pictures))
        print(f"  {name:18s}  {np.mean(change):.2f} on average, {np.max(change):.2f} at most")
    print()


def blank_but_mouth(picture):
    """All but what the reader looks at becomes unknown."""
    h, w = picture.shape[:2]
    (xa, xb), (ya, yb) = SPAN
    there = (slice(int(ya * h), int(yb * h)), slice(int(xa * w), int(xb * w)))
    out = np.full_like(picture, np.nan)
    out[there] = picture[there]
    return out


def sheet_row(faces, truths=None, n=12):
    pick = np.linspace(3, len(faces) - 4, n).astype(int)
    rows = [np.hstack([faces[i] for i in pick])]
    if truths:
        rows.insert(0, np.hstack([truths[i] for i in pick]))
    return np.vstack(rows)


class Tally:
    """What was read and what was true, over some clips."""

    def __init__(self):
        self.got, self.want, self.label, self.psnr = [], [], [], []
        self.shut, self.lags, self.silence = [], [], []

    def add(self, eyes, server, name, audio, ph):
        """Speaks one clip and prints its line; gives its row of the contact sheet."""
        fps = eyes.kind.fps
        want = truth(ph, len(audio), eyes.kind)
        seen = faces_of(server, audio.astype(np.float32))
        faces = [face for face, _, _ in seen]
        got = eyes.read(faces)
        drawn = [eyes.drawn(k, rect, want[i]) for i, (_, k, rect) in enumerate(seen)]
        quality = [psnr(a, b) for a, b in zip(faces, drawn)]
        segs = visemes.segments(ph, len(audio) / SAMPLE_RATE)
        label = [next((c for a, b, c in segs if a <= i / fps < b), "sil") for i in range(len(want))]
        around = [slice(max(a - 1, 0), b + 2) for a, b in closures(ph, len(audio), fps)]
        # In quick speech the truth itself does not always close.
        self.shut += [got[s, 0].min() for s in around if want[s, 0].min() <= CLOSED]
        self.silence += [g for g, l, w in zip(got[:, 0], label, want[:, 0]) if l == "sil" and w < 0.02]
        self.lags.append(best_lag(got[:, 0], want[:, 0]))
        for kept, values in zip((self.got, self.want, self.label, self.psnr), (got, want, label, quality)):
            kept.append(np.array(values))
        print(f"{name[:58]:58s}", " ".join(f"{correlation(got[:, k], want[:, k]):.2f}" for k in range(5)),
              f"lag {self.lags[-1]:+d} PSNR {np.mean(quality):.1f}", flush=True)
        return sheet_row(faces, drawn)

    def report(self):
        got, want, label, quality = (np.concatenate(v) for v in (self.got, self.want, self.label, self.psnr))
        print("\nparameter   correlation  mean error")
        for k, name in enumerate(PARAMS):
            print(f"{name:10s}  {correlation(got[:, k], want[:, k]):10.3f}  {np.abs(got[:, k] - want[:, k]).mean():10.3f}")
        print("\nphonemes  frames  opening (truth)   width (truth)    rounding (truth)")
        for c in visemes.CLASSES:
            sel = label == c
            if sel.sum() >= 5:
                g, w = got[sel].mean(0), want[sel].mean(0)
                print(f"{c:8s}  {sel.sum():6d}  " + "   ".join(f"{g[k]:6.2f} ({w[k]:5.2f})" for k in range(3)))
        shut, silence = np.array(self.shut), np.array(self.silence)
        print(f"\nclosed on {np.sum(shut <= CLOSED)} ({np.mean(shut <= CLOSED):.0%}) of the {len(shut)} m/b/p closures of the truth (mean opening {shut.mean():.3f})")
        print(f"in silence: mean opening {silence.mean():.3f}, {np.mean(silence <= CLOSED):.1%} of {len(silence)} frames closed")
        print(f"lag of the best alignment: {np.mean(self.lags):+.2f} frames on average, by clip {self.lags}")
        print(f"PSNR of the face rectangle: mean {quality.mean():.1f} dB, worst frame {quality.min():.1f} dB")


def loudness_row(eyes, server, path):
    """Speech without a truth: how the opening goes with the loudness."""
    audio = read(path)
    faces = [face for face, _, _ in faces_of(server, audio)]
    got = eyes.read(faces)[:, 0]
    n = SAMPLE_RATE // eyes.kind.fps
    loud = np.array([np.sqrt(np.mean(audio[i * n:(i + 1) * n] ** 2) + 1e-9) for i in range(len(got))])
    print(f"{path}: {len(got)} frames, opening {got.min():.2f}..{got.max():.2f}, correlation with loudness "
          f"{correlation(got, np.log(loud)):.2f}, open in quiet {np.mean(got[loud < 0.02 * loud.max()] > CLOSED):.0%}")
    return sheet_row(faces)


def write_clip(server, kind, path):
    """An animation for READMEs: every second frame, at three eighths of the size."""
    clip = cv2.Animation()
    clip.frames = [cv2.resize(picture, (480, 270), interpolation=cv2.INTER_AREA)
                   for i, (picture, *_) in enumerate(server.talk(read(SPEECH / "welcome.wav"))) if i % 2 == 0]
    clip.durations = [2000 // kind.fps] * len(clip.frames)
    cv2.imwriteanimation(path, clip, [cv2.IMWRITE_WEBP_QUALITY, 70])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("avatar")
    ap.add_argument("--sheet")
    ap.add_argument("--clip")
    ap.add_argument("--clips", type=int, default=9, help="clips beside the shipped held-out ones")
    ap.add_argument("--server", help="binary of the server; without it, cargo builds it")
    ap.add_argument("--precision", default="auto", help="engine.precision of the server: auto, f32, bf16, int16 or int8")
    ap.add_argument("--cpu-isa", default="auto", help="engine.cpu_isa of the server")
    ap.add_argument("--librivox", help="folder of recorded sentences with phonemes")
    ap.add_argument("--wav", nargs="*", default=[])
    add_argument(ap)
    args = ap.parse_args()
    who, kind = by_name(args.avatar), KINDS[args.kind]
    eyes, rows = Eyes(who, kind), []
    with Server(avatar_folder(who.name, kind.suffix), args.server, args.precision, args.cpu_isa) as server:
        print(f"the generator runs in {server.numbers}")
        tally = Tally()
        rows += [tally.add(eyes, server, *clip) for clip in held_out(Espeak(), args.clips)]
        tally.report()
        flicker(eyes, server)
        if args.librivox:
            recorded = Tally()
            rows += [recorded.add(eyes, server, *clip) for clip in sentences(args.librivox)]
            recorded.report()
        rows += [loudness_row(eyes, server, path) for path in args.wav]
        if args.clip:
            write_clip(server, kind, args.clip)
    if args.sheet:
        width = max(r.shape[1] for r in rows)
        cv2.imwrite(args.sheet, np.vstack([cv2.copyMakeBorder(r, 4, 4, 0, width - r.shape[1], cv2.BORDER_CONSTANT) for r in rows]),
                    [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
