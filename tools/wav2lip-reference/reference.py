"""What a Wav2Lip avatar shows, made with OpenCV, NumPy and ONNX Runtime alone. See README.md.

Usage:
  reference.py AVATAR SPEECH.wav --server HOST:PORT [--model ID] [--frames N]
  reference.py --golden tests/golden
"""

import argparse
import json
import pathlib
import re
import sys
import wave

import cv2
import numpy as np
import onnxruntime

RATE_HZ, FPS, HOP, WINDOW = 16_000, 25, 200, 800
# Of the golden avatar; tests/it/wav2lip.rs makes the same.
GOLDEN_SIZE, GOLDEN_RECT, GOLDEN_FRAMES = (96, 64), (20, 10, 61, 63), 5
GOLDEN_PLACES, GOLDEN_STEP = (0, 3, 12, 24), 5


def slaney_bank():
    """[80, 401]: triangles between 55 and 7600 Hz on Slaney's scale, each with the area that librosa gives it."""
    step, log_step = 200.0 / 3.0, np.log(6.4) / 27.0

    def to_mel(hz):
        return hz / step if hz < 1000.0 else 15.0 + np.log(hz / 1000.0) / log_step

    mels = np.linspace(to_mel(55.0), to_mel(7600.0), 82)
    hz = np.where(mels < 15.0, mels * step, 1000.0 * np.exp(log_step * (mels - 15.0)))
    bins = np.fft.rfftfreq(WINDOW, 1.0 / RATE_HZ)
    rising = (bins[None] - hz[:-2, None]) / np.diff(hz)[:-1, None]
    falling = (hz[2:, None] - bins[None]) / np.diff(hz)[1:, None]
    return np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (hz[2:] - hz[:-2]))[:, None]


def mel_rows(samples):
    """[T, 80] of s16 samples at 16 kHz."""
    x = samples.astype(np.float64) / 32768.0
    x = np.pad(x, (0, max(0, 3000 - len(x))))
    y = x - 0.97 * np.concatenate([[0.0], x[:-1]])
    y = np.pad(y, WINDOW // 2)
    starts = np.arange(1 + (len(y) - WINDOW) // HOP) * HOP
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)
    spectrum = np.abs(np.fft.rfft(y[starts[:, None] + np.arange(WINDOW)] * hann, axis=1))
    level_db = 20.0 * np.log10(np.maximum(1e-5, spectrum @ slaney_bank().T)) - 20.0
    return np.clip(8.0 * (level_db + 100.0) / 100.0 - 4.0, -4.0, 4.0)


def mel_window(rows, frame):
    """[1, 80, 16]: what a frame hears."""
    start = min(int(frame * 80.0 / FPS), len(rows) - 16)
    return rows[start:start + 16].T[None].astype(np.float32)


def walk(place, n_frames):
    """The background frame of a place of the output: there and back, beginning at 1."""
    if n_frames == 1:
        return 0
    place = (place + 1) % (2 * (n_frames - 1))
    return place if place < n_frames else 2 * (n_frames - 1) - place


class Network:
    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        inputs = self.session.get_inputs()
        self.face = next(i for i in inputs if i.shape[1] == 6)
        self.mel = next(i for i in inputs if i.name != self.face.name)
        self.side = self.face.shape[3]

    def patch(self, background, rect, window):
        """The generated face, BGR, of the rectangle's size."""
        x1, y1, x2, y2 = rect
        face = cv2.resize(background[y1:y2, x1:x2], (self.side, self.side))
        masked = face.copy()
        masked[self.side // 2:] = 0
        pictures = np.concatenate([masked, face], axis=2).transpose(2, 0, 1)[None] / 255.0
        feeds = {self.face.name: pictures.astype(np.float32), self.mel.name: window[None]}
        output = self.session.run(None, feeds)[0][0].transpose(1, 2, 0) * 255.0
        return cv2.resize(output.astype(np.uint8), (x2 - x1, y2 - y1))


def golden_background(index):
    width, height = GOLDEN_SIZE
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    # Blue, green, red.
    return np.stack([np.full_like(x, index), 3 * y % 256, 2 * x % 256], axis=2).astype(np.uint8)


def golden_samples():
    n = np.arange(RATE_HZ, dtype=np.int64)
    return ((n * n * 31 + n * 7) % 16_001 - 8_000).astype(np.int16)


def golden(folder):
    network = Network(folder / "zoo" / "wav2lip96.legacy-17.onnx")
    rows = mel_rows(golden_samples())
    kept = []
    for place in GOLDEN_PLACES:
        background = golden_background(walk(place, GOLDEN_FRAMES))
        patch = network.patch(background, GOLDEN_RECT, mel_window(rows, place))
        print(f"frame {place}: levels {patch.min()} to {patch.max()}, mean {patch.mean():.1f}")
        kept.append(patch[:, :, ::-1].ravel()[::GOLDEN_STEP])
    np.concatenate(kept).tofile(folder / "wav2lip" / "faces.rgb")


def avatar(folder):
    """The generator, the background frames in order, and their rectangles."""
    import yaml

    manifest = yaml.safe_load((folder / "avatar.yaml").read_text())
    frames = [p for p in (folder / manifest["frames"]).iterdir() if p.suffix in (".png", ".jpg", ".jpeg")]
    frames.sort(key=lambda path: int(re.findall(r"\d+", path.stem)[-1]))
    rects = json.loads((folder / manifest["crop_rectangles"]).read_text())
    return Network(folder / manifest["generator"]), frames, rects


def compare(args):
    network, frames, rects = avatar(args.avatar)
    with wave.open(str(args.speech)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE_HZ, 1, 2), "16 kHz mono s16"
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    samples = samples[:args.frames * RATE_HZ // FPS]
    rows, worst, n_off, n_all = mel_rows(samples), 0, 0, 0
    faces = shown_faces(args, samples)
    for place, shown in enumerate(faces):
        index = walk(place, len(frames))
        background = cv2.imread(str(frames[index]))
        expected = network.patch(background, rects[index], mel_window(rows, place))[:, :, ::-1]
        levels = np.abs(expected.astype(int) - shown.reshape(expected.shape))
        worst, n_off, n_all = max(worst, levels.max()), n_off + (levels > 0).sum(), n_all + levels.size
    print(f"{len(faces)} frames: at most {worst} levels apart, {100.0 * n_off / n_all:.2f} % of the bytes are")
    return 0 if worst <= 1 else 1


def shown_faces(args, samples):
    """The face rectangles that a server sends, RGB, before any encoding."""
    # The Python client of this repository.
    from lipsync_client import CallError, Output, OutputFormat, PcmS16, SyncClient

    model = args.model or args.avatar.name
    output = Output(format=OutputFormat.RGB, region_only=True)
    try:
        with SyncClient(args.server) as client:
            batch = client.infer(model, samples.tobytes(), PcmS16(RATE_HZ), output=output, timeout=300.0)
    except CallError as error:
        raise SystemExit(f"the server at {args.server}, model {model}: {error}") from None
    return [np.frombuffer(frame.data, np.uint8) for frame in batch.frames]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("avatar", type=pathlib.Path, nargs="?")
    parser.add_argument("speech", type=pathlib.Path, nargs="?")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--model", help="its id; the folder's name where nothing is said")
    parser.add_argument("--frames", type=int, default=64, help="at most; the server makes 64 in one call [default: 64]")
    parser.add_argument("--golden", type=pathlib.Path, metavar="FOLDER", help="writes what the tests compare with")
    args = parser.parse_args()
    if args.golden:
        return golden(args.golden)
    if args.speech is None:
        parser.error("an avatar and speech, or --golden")
    return compare(args)


if __name__ == "__main__":
    sys.exit(main())
