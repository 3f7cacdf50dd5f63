"""A lip-sync server in Python, as well written as we can: grpcio, ONNX Runtime, OpenCV.

Usage: python_server.py AVATAR_FOLDER --port PORT [--cores N] [--setting WORKERSxTHREADSxBATCH]

It speaks as much of proto/lipsync/v1/lipsync.proto as a load test needs: InferBatchComposite with feature
windows, ListModels, LoadModel, GetServerStats. One model, `ave` windows, JPEG.

What it does to be fast:
- the decoded background frames and the resized crops are all in memory, made at start;
- the visual tensor is packed per frame by NumPy from the crop and from a precomputed masked copy of it;
- ONNX Runtime has all graph optimisations; at start it is tried in every sensible setting (callers in
  parallel x threads inside a call x frames of a call), and the fastest one is kept;
- ONNX Runtime, OpenCV's resize and imencode and NumPy's large copies release the GIL, so a pool of threads
  uses all cores: one request is in the network while another is pasted and encoded; OpenCV's own threads
  are off, since they would fight with these;
- frames of a request are encoded in parallel, JPEG with OpenCV's libjpeg-turbo;
- it has no audio encoder, no sessions, no deadlines, no admission: it does less than we do.
"""

import argparse
import concurrent.futures
import json
import pathlib
import sys
import tempfile
import threading
import time

import cv2
import grpc
import numpy as np
import onnxruntime

import wire

# The 328 family's squares, px.
REGION, CROP, RING = 320, 328, 4
MASK_X, MASK_Y = slice(5, 315), slice(5, 310)
WINDOW = (32, 16, 16)
QUALITY = 85
TUNING_SECONDS = 1.5


class Frame:
    """A background frame and its crop, made once."""

    def __init__(self, path, rectangle):
        self.picture = cv2.imread(str(path))
        x0, y0, x1, y1 = rectangle
        self.x, self.y, self.width, self.height = x0, y0, x1 - x0, y1 - y0
        face = self.picture[y0:y1, x0:x1]
        self.crop = cv2.resize(face, (CROP, CROP), interpolation=cv2.INTER_CUBIC)
        region = self.crop[RING:-RING, RING:-RING]
        masked = region.copy()
        masked[MASK_Y, MASK_X] = 0
        both = np.concatenate([region, masked], axis=2)
        # [6, H, W] u8: what the network sees, up to the division by 255.
        self.visual = np.ascontiguousarray(both.transpose(2, 0, 1))


class Avatar:
    def __init__(self, folder):
        folder = pathlib.Path(folder)
        rectangles = json.loads((folder / "crop_rectangles.json").read_text())
        paths = sorted((folder / "frames").iterdir())
        self.frames = [Frame(*pair) for pair in zip(paths, rectangles, strict=True)]
        self.network = str(folder / "generator.onnx")
        self.height, self.width = self.frames[0].picture.shape[:2]

    def index(self, place):
        """The background frame at a place of the walk 1, 2, ..., N-1, N-2, ..., 1, 0, 1, ..."""
        last = len(self.frames) - 1
        if last == 0:
            return 0
        place = (place + 1) % (2 * last)
        return place if place <= last else 2 * last - place


class Network:
    """ONNX Runtime with `threads` threads inside a call, called `workers` times in parallel."""

    def __init__(self, path, workers, threads, batch):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.visual, self.audio = self._inputs()
        self.output = self.session.get_outputs()[0].name
        self.places = threading.BoundedSemaphore(workers)
        self.workers, self.batch = workers, batch

    def _inputs(self):
        by_channels = {t.shape[1]: t.name for t in self.session.get_inputs()}
        return by_channels[6], by_channels[WINDOW[0]]

    def run(self, visual, audio):
        """[n, 6, S, S] u8 and [n, C, H, W] f32 to [n, S, S, 3] u8, BGR."""
        faces = np.empty((len(visual), REGION, REGION, 3), np.uint8)
        for start in range(0, len(visual), self.batch):
            part = slice(start, start + self.batch)
            # Converted here, so that few tensors of f32 are alive.
            x = visual[part].astype(np.float32)
            x *= np.float32(1 / 255)
            with self.places:
                feeds = {self.visual: x, self.audio: audio[part]}
                y = self.session.run([self.output], feeds)[0]
            y *= 255
            faces[part] = y.transpose(0, 2, 3, 1)
        return faces


def tuned(path, cores):
    """The fastest setting on this machine, of those that keep all cores busy."""
    settings = [
        (workers, threads, batch)
        for workers, threads in {(cores, 1), (1, cores), (2, cores)}
        for batch in (1, 2, 4, 8)
    ]
    found = []
    visual = np.full((8, 6, REGION, REGION), 128, np.uint8)
    audio = np.zeros((8, *WINDOW), np.float32)
    for setting in sorted(settings):
        network = Network(path, *setting)
        network.run(visual[:1], audio[:1])
        n_callers = max(2, network.workers)
        n_frames = [0] * n_callers
        end = time.monotonic() + TUNING_SECONDS

        def call(caller):
            while time.monotonic() < end:
                network.run(visual, audio)
                n_frames[caller] += len(visual)

        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(n_callers) as pool:
            list(pool.map(call, range(n_callers)))
        rate = sum(n_frames) / (time.monotonic() - start)
        found.append((rate, setting))
        print(f"tuning {'x'.join(map(str, setting))}: {rate:.1f} frames/s", file=sys.stderr)
    return max(found)[1]


class Service:
    def __init__(self, pb, avatar, network, cores):
        self.pb, self.avatar, self.network = pb, avatar, network
        self.encoders = concurrent.futures.ThreadPoolExecutor(cores)

    def infer_batch_composite(self, request, context):
        if request.WhichOneof("audio") != "windows":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "only feature windows")
        audio = np.frombuffer(request.windows.data, np.float32)
        if audio.size == 0 or audio.size % np.prod(WINDOW) or not np.isfinite(audio).all():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"windows of {WINDOW}, finite")
        audio = audio.reshape(-1, *WINDOW)
        places = range(request.start_frame_index, request.start_frame_index + len(audio))
        indices = [self.avatar.index(place) for place in places]
        frames = [self.avatar.frames[i] for i in indices]
        faces = self.network.run(np.stack([f.visual for f in frames]), audio)
        coded = self.encoders.map(composite, frames, faces)
        answer = self.pb.InferBatchCompositeResponse()
        for place, index, frame, data in zip(places, indices, frames, coded):
            answer.frames.add(
                frame_index=place,
                background_index=index,
                format=self.pb.OUTPUT_FORMAT_JPEG,
                width=self.avatar.width,
                height=self.avatar.height,
                region=self.pb.Rect(x=frame.x, y=frame.y, width=frame.width, height=frame.height),
                generated=True,
                data=data,
            )
        return answer

    def stats(self):
        return self.pb.ModelStats(
            model_id="full",
            state=self.pb.MODEL_STATE_READY,
            device="onnxruntime",
            fps=25,
            audio_kind="ave",
            n_background_frames=len(self.avatar.frames),
            width=self.avatar.width,
            height=self.avatar.height,
        )

    def handlers(self):
        pb = self.pb
        name = lambda service: f"lipsync.v1.{service}"
        unary = lambda method, request: grpc.unary_unary_rpc_method_handler(
            method, request.FromString, lambda answer: answer.SerializeToString()
        )
        list_models = lambda _r, _c: pb.ListModelsResponse(models=[self.stats()])
        load_model = lambda _r, _c: pb.LoadModelResponse(model=self.stats())
        server_stats = lambda _r, _c: pb.GetServerStatsResponse(
            version="python",
            device=f"onnxruntime {onnxruntime.__version__}",
            worker_count=self.network.workers,
        )
        services = {
            "LipSync": {
                "InferBatchComposite": unary(
                    self.infer_batch_composite, pb.InferBatchCompositeRequest
                )
            },
            "ModelAdmin": {
                "ListModels": unary(list_models, pb.ListModelsRequest),
                "LoadModel": unary(load_model, pb.LoadModelRequest),
            },
            "ServerAdmin": {"GetServerStats": unary(server_stats, pb.GetServerStatsRequest)},
        }
        return [
            grpc.method_handlers_generic_handler(name(service), methods)
            for service, methods in services.items()
        ]


def composite(frame, face):
    """The background with the face in it, as JPEG."""
    square = frame.crop.copy()
    square[RING:-RING, RING:-RING] = face
    size = (frame.width, frame.height)
    patch = cv2.resize(square, size, interpolation=cv2.INTER_CUBIC)
    picture = frame.picture.copy()
    picture[frame.y : frame.y + frame.height, frame.x : frame.x + frame.width] = patch
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise RuntimeError("the picture was not encoded")
    return data.tobytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--setting", help="WORKERSxTHREADSxBATCH instead of trying them")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    avatar = Avatar(arguments.folder)
    if arguments.setting:
        setting = tuple(int(n) for n in arguments.setting.split("x"))
    else:
        setting = tuned(avatar.network, arguments.cores)
    with tempfile.TemporaryDirectory() as folder:
        pb = wire.messages(folder)
    service = Service(pb, avatar, Network(avatar.network, *setting), arguments.cores)
    # More handlers than cores: those that wait for the network let others encode.
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(4 * arguments.cores),
        options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)],
    )
    server.add_generic_rpc_handlers(service.handlers())
    server.add_insecure_port(f"127.0.0.1:{arguments.port}")
    server.start()
    print("x".join(map(str, setting)), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
