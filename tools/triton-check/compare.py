"""Asks two servers the same, field by field: ours and NVIDIA's tritonserver, with a stand-in for the avatar.

    python compare.py OURS:PORT MODEL TRITON:PORT

Prints what differs. Differences that are meant to be are listed below, each with its reason; any other is an error.
"""

import queue
import sys
import time

import grpc
import numpy
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

OUTPUTS = ["FRAMES", "FRAME_INDEX", "BACKGROUND_INDEX", "AUDIO_TIME_US", "REGION"]
N_FRAMES = 20

MEANT = {
    "server metadata: name": "another server",
    "server metadata: version": "another server",
    "no model": "a name that is missing is a mistake of the client: the error names the field",
    "infer, wrong: nameless": "likewise",
    "infer, outputs ['AUDIO_TIME_US', 'AUDIO_TIME_US']": "a mistake that is named",
    "infer, priority 4": "a level that does not exist is named; Triton takes the default",
    "infer, wrong: too many": "contents that belong to no input are refused; Triton ignores them",
    "infer, wrong: no input": "a mistake of the client; in Triton the stand-in itself fails",
    "stream, nothing to hear": "likewise",
    "infer, wrong: shared memory": "there is none, and the error says so; Triton has none of that name",
    "stream, an error, 0: final": "nothing more comes for a request that failed, and the response says so",
    "stream, a wrong shape, 0: final": "likewise",
    "stream, an error as a status": "the header ends the stream with a status, as Triton's manual has it",
    "stream, decoupled, a final response of its own": "the empty response comes where a client asks for it; in Triton it "
    "depends on the model, and the stand-in marks its last one",
    "statistics of 3 calls and a wrong one: fail": "wrong requests count as failures",
    "statistics of 3 calls and a wrong one: inference_count": "a frame is an inference",
    "statistics, unknown model": "the code that all other methods have for it",
    "statistics, version 9": "likewise",
    "load nobody": "the code that all other methods have for it",
    "unload nobody": "likewise",
}
"""Differences that are meant: how the names of the fields begin, and why."""


def reason(field: str) -> str | None:
    return next((why for start, why in MEANT.items() if field.startswith(start)), None)


class Server:
    """A server, and how it calls the avatar."""

    def __init__(self, address: str, name: str, decoupled: tuple[str, str]) -> None:
        options = [("grpc.max_receive_message_length", 64 << 20)]
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address, options))
        self.client = triton.InferenceServerClient(address)
        self.name = name
        self.decoupled = decoupled
        self.facts: dict[str, object] = {}

    def note(self, field: str, value: object) -> None:
        assert field not in self.facts, field
        self.facts[field] = value

    def attempt(self, what: str, call, *fields) -> None:
        """Note the status, and of a good answer these fields: names, or pairs of a name and a function."""
        try:
            answer = call()
        except grpc.RpcError as error:
            self.note(f"{what}: status", error.code().name)
            return
        except InferenceServerException as error:
            self.note(f"{what}: status", error.status().removeprefix("StatusCode."))
            return
        self.note(f"{what}: status", "OK")
        for field in fields:
            name, of = field if isinstance(field, tuple) else (field, lambda a, f=field: getattr(a, f))
            self.note(f"{what}: {name}", of(answer))

    def request(self, version: str = "", **changes) -> pb.ModelInferRequest:
        """Of N_FRAMES frames of sound, raw."""
        request = pb.ModelInferRequest(model_name=self.name, model_version=version, id="an id")
        tensor = request.inputs.add(name="PCM", datatype="INT16", shape=[640 * N_FRAMES])
        request.raw_input_contents.append(bytes(2 * 640 * N_FRAMES))
        for name, value in changes.items():
            setattr(tensor if hasattr(tensor, name) and name != "name" else request, name, value)
        return request


def plain(value) -> object:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str | bytes) else value


def tensors(described) -> list[tuple]:
    return [(t.name, t.datatype, list(t.shape)) for t in described]


def configured(described) -> list[tuple]:
    return [(t.name, t.data_type, list(t.dims)) for t in described]


def shown(answer: pb.ModelInferResponse) -> dict:
    """Of a response, what must be alike whatever the pictures are."""
    return {
        "id": answer.id,
        "outputs": sorted(tensors(answer.outputs)),
        "contents of outputs": [o.HasField("contents") for o in answer.outputs],
        "raw": len(answer.raw_output_contents),
        "final": answer.parameters["triton_final_response"].bool_param
        if "triton_final_response" in answer.parameters
        else None,
    }


def about(s: Server) -> None:
    stub = s.stub
    s.attempt("live", lambda: stub.ServerLive(pb.ServerLiveRequest()), "live")
    s.attempt("ready", lambda: stub.ServerReady(pb.ServerReadyRequest()), "ready")
    s.attempt("server metadata", lambda: stub.ServerMetadata(pb.ServerMetadataRequest()), "name", "version")
    for what, name, version in (
        ("model", s.name, ""),
        ("model, version 1", s.name, "1"),
        ("model, version 9", s.name, "9"),
        ("model, version x", s.name, "x"),
        ("unknown model", "nobody", ""),
        ("no model", "", ""),
    ):
        s.attempt(
            f"{what}: ready",
            lambda name=name, version=version: stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)),
            "ready",
        )
        s.attempt(
            f"{what}: metadata",
            lambda name=name, version=version: stub.ModelMetadata(pb.ModelMetadataRequest(name=name, version=version)),
            ("name", lambda a: a.name == s.name),
            ("inputs", lambda a: tensors(a.inputs)),
            ("outputs", lambda a: tensors(a.outputs)),
            ("first version", lambda a: a.versions[0]),
        )
        s.attempt(
            f"{what}: configuration",
            lambda name=name, version=version: stub.ModelConfig(pb.ModelConfigRequest(name=name, version=version)),
            ("name", lambda a: a.config.name == s.name),
            ("max_batch_size", lambda a: a.config.max_batch_size),
            ("input", lambda a: configured(a.config.input)),
            ("optional", lambda a: [t.optional for t in a.config.input]),
            ("output", lambda a: configured(a.config.output)),
            ("decoupled", lambda a: a.config.model_transaction_policy.decoupled),
        )
    name, version = s.decoupled
    s.attempt(
        "decoupled: configuration",
        lambda: stub.ModelConfig(pb.ModelConfigRequest(name=name, version=version)),
        ("decoupled", lambda a: a.config.model_transaction_policy.decoupled),
    )
    s.attempt("traces", lambda: stub.TraceSetting(pb.TraceSettingRequest()), ("settings", lambda a: trace_settings(a)))
    s.attempt("log", lambda: stub.LogSettings(pb.LogSettingsRequest()), ("settings", lambda a: log_settings(a)))


def trace_settings(answer) -> dict:
    return {name: list(setting.value) for name, setting in sorted(answer.settings.items())}


def log_settings(answer) -> dict:
    return {name: setting.WhichOneof("parameter_choice") for name, setting in sorted(answer.settings.items())}


RESPONSE = (
    "id",
    ("model_name", lambda a: bool(a.model_name)),
    "model_version",
    # In which order is for each backend to say.
    ("outputs", lambda a: sorted(tensors(a.outputs))),
    ("contents", lambda a: [o.HasField("contents") for o in a.outputs]),
    ("number of raw contents", lambda a: len(a.raw_output_contents)),
    ("raw times", lambda a: numpy.frombuffer(raw(a, "AUDIO_TIME_US"), "<u8").tolist()),
    ("BYTES are lengths and contents", lambda a: bytes_elements(raw(a, "FRAMES"))),
)


def raw(answer, name: str) -> bytes:
    names = [o.name for o in answer.outputs]
    return answer.raw_output_contents[names.index(name)] if name in names else b""


def bytes_elements(data: bytes) -> int:
    n = 0
    while data:
        size = int.from_bytes(data[:4], "little")
        data, n = data[4 + size :], n + 1
    return n


def infer(s: Server) -> None:
    def attempt(what: str, request: pb.ModelInferRequest, *fields, **options) -> None:
        s.attempt(f"infer, {what}", lambda: s.stub.ModelInfer(request, timeout=30, **options), *(fields or RESPONSE))

    attempt("raw", s.request())
    attempt("version 1", s.request("1"))
    listed = s.request()
    del listed.raw_input_contents[:]
    listed.inputs[0].shape[:] = [640]
    listed.inputs[0].contents.int_contents.extend([5] * 640)
    attempt("contents", listed)
    for outputs in (["REGION"], ["REGION", "FRAMES"], ["AUDIO_TIME_US", "AUDIO_TIME_US"]):
        request = s.request()
        for name in outputs:
            request.outputs.add(name=name)
        attempt(f"outputs {outputs}", request)
    for level in (0, 1, 3, 4):
        request = s.request()
        request.parameters["priority"].uint64_param = level
        attempt(f"priority {level}", request)
    request = s.request()
    request.parameters["timeout"].int64_param = 20_000_000
    attempt("timeout", request)
    request = s.request()
    request.parameters["priority"].string_param = "high"
    attempt("priority that is a word", request)
    for what, request in wrong(s):
        attempt(what, request)


def wrong(s: Server):
    def made(what: str, change, version: str = ""):
        request = s.request(version)
        change(request)
        return what, request

    def renamed(r):
        r.inputs[0].name = "NOISE"

    def both(r):
        r.inputs[0].contents.int_contents.extend([5] * 640 * N_FRAMES)

    def listed_as_floats(r):
        del r.raw_input_contents[:]
        r.inputs[0].contents.fp32_contents.extend([0.5] * 640 * N_FRAMES)

    def too_short(r):
        r.raw_input_contents[0] = bytes(100)

    def too_long(r):
        r.raw_input_contents[0] += bytes(2)

    def too_many(r):
        r.raw_input_contents.append(b"")

    def no_data(r):
        del r.raw_input_contents[:]

    def no_input(r):
        del r.inputs[:]
        del r.raw_input_contents[:]

    def twice(r):
        r.inputs.append(r.inputs[0])
        r.raw_input_contents.append(r.raw_input_contents[0])

    def no_such_output(r):
        r.outputs.add(name="MOUTH")

    def nobody(r):
        r.model_name = "nobody"

    def nameless(r):
        r.model_name = ""

    def datatype(r):
        r.inputs[0].datatype = "FP64"

    def no_datatype(r):
        r.inputs[0].datatype = ""

    def shape(r):
        r.inputs[0].shape[:] = [1, 2, 3]

    def negative(r):
        r.inputs[0].shape[:] = [-5]

    def shapeless(r):
        r.inputs[0].shape[:] = []

    def shared_memory(r):
        r.inputs[0].parameters["shared_memory_region"].string_param = "a region"
        r.inputs[0].parameters["shared_memory_byte_size"].int64_param = 1280 * N_FRAMES
        del r.raw_input_contents[:]

    changes = [
        renamed, both, listed_as_floats, too_short, too_long, too_many, no_data, no_input, twice, no_such_output,
        nobody, nameless, datatype, no_datatype, shape, negative, shapeless, shared_memory,
    ]  # fmt: skip
    for change in changes:
        yield made(f"wrong: {change.__name__.replace('_', ' ')}", change)
    yield made("wrong: version 9", lambda r: None, "9")
    yield made("wrong: version x", lambda r: None, "x")


def streamed(s: Server, requests: list, metadata: tuple = ()) -> list:
    """The answers, until the server ends the stream; a status at its end is the last of them."""
    sent: queue.Queue = queue.Queue()
    for request in requests:
        sent.put(request)
    sent.put(None)
    answers: list = []
    try:
        for answer in s.stub.ModelStreamInfer(iter(sent.get, None), timeout=60, metadata=metadata):
            answers.append(answer)
    except grpc.RpcError as error:
        answers.append(error.code().name)
    return answers


def streams(s: Server) -> None:
    def note(what: str, answers: list) -> None:
        s.note(f"stream, {what}: number of responses", len(answers))
        for n, answer in enumerate(answers):
            if isinstance(answer, str):
                s.note(f"stream, {what}: status", answer)
                continue
            s.note(f"stream, {what}, {n}: has an error", bool(answer.error_message))
            for field, value in shown(answer.infer_response).items():
                s.note(f"stream, {what}, {n}: {field}", value)

    second = s.request()
    second.id = "another id"
    note("two requests", streamed(s, [s.request(), second]))
    empty_final = s.request()
    empty_final.parameters["triton_enable_empty_final_response"].bool_param = True
    note("a final response of its own", streamed(s, [empty_final]))
    wrong = s.request()
    wrong.model_name = "nobody"
    note("an error", streamed(s, [wrong, s.request()]))
    wrong_shape = s.request()
    wrong_shape.inputs[0].shape[:] = [3]
    note("a wrong shape", streamed(s, [wrong_shape, s.request()]))
    note("an error as a status", streamed(s, [wrong, s.request()], (("triton_grpc_error", "true"),)))

    name, version = s.decoupled
    parts = s.request(version)
    parts.model_name = name
    note("decoupled", streamed(s, [parts]))
    nothing = s.request()
    del nothing.inputs[:]
    del nothing.raw_input_contents[:]
    note("nothing to hear", streamed(s, [nothing]))
    parts.parameters["triton_enable_empty_final_response"].bool_param = True
    note("decoupled, a final response of its own", streamed(s, [parts]))
    s.attempt("infer, a decoupled model", lambda: s.stub.ModelInfer(parts, timeout=30))


def counted(s: Server) -> None:
    def now() -> dict:
        request = pb.ModelStatisticsRequest(name=s.name, version="1")
        stats = s.stub.ModelStatistics(request).model_stats[0]
        times = stats.inference_stats
        found = {
            name: getattr(times, name)
            for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        }
        return {
            **{f"{name}.count": value.count for name, value in found.items()},
            **{f"{name}.ns": value.ns for name, value in found.items()},
            "inference_count": stats.inference_count,
            "execution_count": stats.execution_count,
        }

    before = now()
    for _ in range(3):
        s.stub.ModelInfer(s.request(), timeout=30)
    wrong = s.request()
    wrong.inputs[0].shape[:] = [1, 2, 3]
    try:
        s.stub.ModelInfer(wrong, timeout=30)
    except grpc.RpcError:
        pass
    after = now()
    for name, value in after.items():
        rise = value - before[name]
        s.note(f"statistics of 3 calls and a wrong one: {name}", rise > 0 if name.endswith(".ns") else rise)
    request = pb.ModelStatisticsRequest(name=s.name, version="1")
    stats = s.stub.ModelStatistics(request).model_stats[0]
    s.note("statistics: last_inference is in milliseconds", 10**12 < stats.last_inference < 10**13)
    for what, name, version in (("unknown model", "nobody", ""), ("version 9", s.name, "9")):
        s.attempt(
            f"statistics, {what}",
            lambda name=name, version=version: s.stub.ModelStatistics(
                pb.ModelStatisticsRequest(name=name, version=version)
            ),
        )


def repository(s: Server) -> None:
    def state() -> tuple:
        index = s.stub.RepositoryIndex(pb.RepositoryIndexRequest())
        return next(
            ((m.version, m.state, m.reason) for m in index.models if m.name == s.name and m.version in ("", "1")), None
        )

    s.note("index", state())
    s.attempt("unload", lambda: s.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=s.name)))
    for _ in range(100):
        if state()[1] != "UNLOADING":
            break
        time.sleep(0.05)
    s.note("index, unloaded", state())
    ready = pb.RepositoryIndexRequest(ready=True)
    s.note("index of what is ready", s.name in [m.name for m in s.stub.RepositoryIndex(ready).models])
    s.attempt("load", lambda: s.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=s.name)))
    s.note("index, loaded", state())
    for what, call, request in (
        ("load nobody", s.stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="nobody")),
        ("unload nobody", s.stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="nobody")),
        (
            "load from another repository",
            s.stub.RepositoryModelLoad,
            pb.RepositoryModelLoadRequest(model_name=s.name, repository_name="another"),
        ),
    ):
        s.attempt(what, lambda call=call, request=request: call(request))


def main() -> None:
    ours_at, model, theirs_at = sys.argv[1:4]
    ours = Server(ours_at, model, (model, "2"))
    theirs = Server(theirs_at, "stand_in", ("stand_in_decoupled", ""))
    for server in (ours, theirs):
        server.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=server.name))
        for part in (about, infer, streams, counted, repository):
            part(server)
    n_alike, n_meant, faults = 0, 0, []
    for field in [*ours.facts, *(f for f in theirs.facts if f not in ours.facts)]:
        mine, other = ours.facts.get(field, "-"), theirs.facts.get(field, "-")
        if plain(mine) == plain(other):
            n_alike += 1
        elif why := reason(field):
            n_meant += 1
            # Of a call that only one of them answers, the status is enough.
            if "-" not in (mine, other):
                print(f"meant   {field}: {mine!r}, tritonserver {other!r} ({why})")
        else:
            faults.append(f"DIFFERS {field}: {mine!r}, tritonserver {other!r}")
    unused = [start for start in MEANT if not any(f.startswith(start) for f in ours.facts | theirs.facts)]
    faults += [f"there is no such field: {start}" for start in unused]
    print("\n".join(faults))
    print(f"compare: {n_alike} fields alike, {n_meant} meant to differ, {len(faults)} that should not")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
