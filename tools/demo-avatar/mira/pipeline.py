"""What the server does, in NumPy and ONNX Runtime: the yardstick for check.py."""
import json

import cv2
import numpy as np
import onnxruntime as ort

from .frontend import frame_count, mel_rows, steps, windows
from .paths import AVATAR
from .train_generator import MASK


def ping_pong(i, n):
    k = i % (2 * n - 2)
    return k if k < n else 2 * n - 2 - k


class Avatar:
    def __init__(self, threads=1):
        opt = ort.SessionOptions()
        opt.intra_op_num_threads = threads
        load = lambda f: ort.InferenceSession(str(AVATAR / f), opt, providers=["CPUExecutionProvider"])
        self.encoder, self.generator = load("audio_encoder.onnx"), load("generator.onnx")
        self.rects = json.loads((AVATAR / "crop_rectangles.json").read_text())
        self.files = sorted((AVATAR / "frames").glob("*.jpg"))

    def features(self, samples):
        return self.encoder.run(None, {self.encoder.get_inputs()[0].name: steps(mel_rows(samples))})[0]

    def background(self, i):
        k = ping_pong(i, len(self.files))
        return cv2.imread(str(self.files[k])), self.rects[k]

    def talk(self, samples):
        """Yield (frame, rectangle) for every video frame of the clip."""
        n = frame_count(len(samples))
        w = windows(self.features(samples), n).astype(np.float32)
        pic, aud = (i.name for i in self.generator.get_inputs())
        for i in range(n):
            frame, (x1, y1, x2, y2) = self.background(i)
            big = cv2.resize(frame[y1:y2, x1:x2], (328, 328), interpolation=cv2.INTER_CUBIC)
            real = big[4:324, 4:324]
            masked = real.copy()
            masked[MASK] = 0
            x = np.concatenate([real, masked], 2).transpose(2, 0, 1)[None].astype(np.float32) / 255
            y = self.generator.run(None, {pic: x, aud: w[i].reshape(1, 32, 16, 16)})[0][0]
            big[4:324, 4:324] = (y.transpose(1, 2, 0) * 255).astype(np.uint8)
            frame[y1:y2, x1:x2] = cv2.resize(big, (x2 - x1, y2 - y1), interpolation=cv2.INTER_CUBIC)
            yield frame, [x1, y1, x2, y2]


def jpeg_round_trip(frame, quality=85):
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
