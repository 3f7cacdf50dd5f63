"""Runs inside Triton. A frame for each 640 samples, feature step pair or window; eight frames a response if decoupled."""

import json

import numpy
import triton_python_backend_utils as pb

PIECE_FRAMES = 8


class TritonPythonModel:
    def initialize(self, args):
        policy = json.loads(args["model_config"]).get("model_transaction_policy", {})
        self.is_decoupled = policy.get("decoupled", False)

    def execute(self, requests):
        if not self.is_decoupled:
            return [self.answer(request, 0, self.n_frames(request)) for request in requests]
        for request in requests:
            self.send(request)
        return None

    def n_frames(self, request):
        for name, per_frame in (("PCM", 640), ("STEPS", 2), ("WINDOWS", 1)):
            tensor = pb.get_input_tensor_by_name(request, name)
            if tensor is not None:
                return -(-tensor.as_numpy().shape[0] // per_frame)
        raise pb.TritonModelException("expected one of PCM, STEPS and WINDOWS")

    def send(self, request):
        sender = request.get_response_sender()
        n_frames = self.n_frames(request)
        for first in range(0, n_frames, PIECE_FRAMES):
            last = first + PIECE_FRAMES >= n_frames
            answer = self.answer(request, first, min(PIECE_FRAMES, n_frames - first))
            # The last one says so itself.
            sender.send(answer, flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0)

    def answer(self, request, first, n):
        index = numpy.arange(first, first + n)
        made = {
            "FRAMES": numpy.array([b"picture %d" % i for i in index], object),
            "FRAME_INDEX": index.astype(numpy.uint64),
            "BACKGROUND_INDEX": index.astype(numpy.uint32),
            "AUDIO_TIME_US": (40_000 * index).astype(numpy.uint64),
            "REGION": numpy.tile(numpy.array([0, 0, 1, 1], numpy.uint32), (n, 1)),
        }
        wanted = request.requested_output_names()
        return pb.InferenceResponse([pb.Tensor(name, made[name]) for name in made if name in wanted])
