"""The real server, from the outside: starts it, speaks to it, gives its frames."""
import contextlib
import importlib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import grpc
import numpy as np

from .frontend import SAMPLE_RATE
from .paths import REPO

CHUNK = SAMPLE_RATE // 5


def stubs():
    """The contract's modules, made from the proto file."""
    from grpc_tools import protoc
    out = tempfile.mkdtemp()
    if protoc.main(["protoc", f"-I{REPO / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}", "lipsync/v1/lipsync.proto"]):
        raise SystemExit("the proto file does not compile")
    sys.path.insert(0, out)
    return importlib.import_module("lipsync.v1.lipsync_pb2"), importlib.import_module("lipsync.v1.lipsync_pb2_grpc")


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A server of an avatar's folder, on a free port, until the block ends; built if no binary is named.

    `precision` and `cpu_isa` are those of the configuration's section `engine`. `numbers` is what the server says that
    the generator runs in, once it is loaded.
    """

    def __init__(self, folder, binary=None, precision="auto", cpu_isa="auto"):
        self.avatar, self.model, self.binary = folder, folder.name, binary
        self.precision, self.cpu_isa = precision, cpu_isa
        self.pb, self.rpc = stubs()

    def __enter__(self):
        if self.binary is None:
            subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "lipsync-server"], cwd=REPO, check=True)
            self.binary = REPO / "target" / "release" / "lipsync-server"
        port = free_port()
        self.folder = tempfile.TemporaryDirectory()
        config = Path(self.folder.name) / "config.yaml"
        config.write_text(f"server:\n  port: 127.0.0.1:{port}\noperations:\n  enabled: false\noutput:\n  jpeg_quality: 85\n"
                          f"engine:\n  precision: {self.precision}\n  cpu_isa: {self.cpu_isa}\n"
                          f"models_root: {self.avatar.parent}\nmodels:\n  {self.model}:\n    path: {self.model}\n    preload: true\n")
        self.process = subprocess.Popen([self.binary, "--config", config],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", 64 << 20)])
        grpc.channel_ready_future(channel).result(timeout=60)
        self.stub = self.rpc.LipSyncStub(channel)
        for _ in range(100):
            with contextlib.suppress(grpc.RpcError):
                next(self.talk(np.zeros(SAMPLE_RATE, np.float32)))
                models = self.rpc.ModelAdminStub(channel).ListModels(self.pb.ListModelsRequest()).models
                self.numbers = next(f"{m.precision} on {m.device}: {m.precision_reason}" for m in models if m.model_id == self.model)
                return self
            time.sleep(0.2)
        raise SystemExit("the server does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.folder.cleanup()

    def talk(self, audio):
        """float32 mono at 16 kHz -> (frame, BGR uint8; index of its background; (x1, y1, x2, y2); JPEG bytes)."""
        pb = self.pb
        samples = np.clip(np.round(audio * 32767), -32768, 32767).astype("<i2")

        def requests():
            yield pb.StreamCompositeRequest(open=pb.OpenSession(
                model_id=self.model, sample_rate_hz=SAMPLE_RATE, output=pb.OutputOptions(format=pb.OUTPUT_FORMAT_JPEG, quality=85)))
            for start in range(0, len(samples), CHUNK):
                yield pb.StreamCompositeRequest(audio=pb.AudioChunk(segment_id=1, pcm=samples[start:start + CHUNK].tobytes()))
            yield pb.StreamCompositeRequest(end_segment=pb.EndSegment(segment_id=1))

        for answer in self.stub.StreamComposite(requests(), timeout=300):
            if answer.WhichOneof("message") == "frame":
                f, r = answer.frame, answer.frame.region
                picture = cv2.imdecode(np.frombuffer(f.data, np.uint8), cv2.IMREAD_COLOR)
                yield picture, f.background_index, (r.x, r.y, r.x + r.width, r.y + r.height), f.data
