"""Takes traces with the OpenTelemetry project's own Python types, and judges them; prints a line for each check.

    pip install -r tools/trace-check/requirements.txt ./clients/python
    cargo build --release --bin lipsync-server
    python tools/trace-check/trace_check.py [--server target/release/lipsync-server] [--otelcol /path/to/otelcol]

With --otelcol, the traces also go through a real collector, which writes them to a file: any that has the OTLP receiver and
the file exporter, such as otelcol-contrib.
Exit status 0: every check passed.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
from concurrent import futures
from contextlib import ExitStack

import grpc
from lipsync_client.v1 import lipsync_pb2 as pb
from lipsync_client.v1 import lipsync_pb2_grpc as rpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE_S = 60
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALL, SESSION = "lipsync.v1.LipSync/InferBatchComposite", "lipsync.v1.LipSync/StreamComposite"
STAGES = ["audio", "background", "queue", "infer", "composite", "write"]
results = []


def check(what, passed, found=""):
    results.append(passed)
    print(f"{'ok  ' if passed else 'FAIL'} {what}{'' if passed else f': {found}'}")


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what comes; while it is broken it refuses everything."""

    def __init__(self):
        self.spans, self.resources, self.metadata, self.is_broken = [], [], {}, False
        self.lock = threading.Lock()

    def Export(self, request, context):  # noqa: N802
        if self.is_broken:
            context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
        with self.lock:
            self.metadata = dict(context.invocation_metadata())
            for of_resource in request.resource_spans:
                self.resources.append(of_resource.resource)
                for of_scope in of_resource.scope_spans:
                    self.spans.extend(of_scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def until(self, name, n=1):
        begun = time.monotonic()
        while time.monotonic() < begun + PATIENCE_S:
            with self.lock:
                found = [span for span in self.spans if span.name == name]
            if len(found) >= n:
                return found
            time.sleep(0.05)
        raise SystemExit(f"no {n} spans {name}: {[span.name for span in self.spans]}")

    def children(self, root):
        with self.lock:
            return [span for span in self.spans if span.parent_span_id == root.span_id]


def serve(stack, servicer):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stack.callback(server.stop, None)
    return port


def start(stack, binary, folder, port, more=""):
    config = folder / "config.yaml"
    config.write_text(
        f"server: {{port: '127.0.0.1:0'}}\noperations: {{port: '127.0.0.1:0'}}\n"
        f"models_root: {ROOT}/assets/avatars\ncapacity: {{bake: off}}\n"
        f"models: {{mira: {{path: mira, preload: true}}}}\n"
        f"traces: {{endpoint: 'http://127.0.0.1:{port}', headers: 'x-tenant=7,authorization=Bearer abc'{more}}}\n"
    )
    log = (folder / "log").open("w")
    process = subprocess.Popen([binary, "--config", str(config)], stdout=subprocess.PIPE, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    for line in process.stdout:
        if b"gRPC" in line:
            address = next(word for word in line.decode().split() if "127.0.0.1:" in word)
            return process, "127.0.0.1:" + address.split("127.0.0.1:")[1].split("/")[0].strip(".,;()")
    raise SystemExit((folder / "log").read_text())


def attributes(span):
    value = lambda of: getattr(of, of.WhichOneof("value"))  # noqa: E731
    return {pair.key: value(pair.value) for pair in span.attributes}


def call(channel, metadata=()):
    pcm = pb.Pcm(samples=bytes(2 * 16000), sample_rate_hz=16000)
    request = pb.InferBatchCompositeRequest(model_id="mira", pcm=pcm)
    return rpc.LipSyncStub(channel).InferBatchComposite(request, metadata=metadata, timeout=PATIENCE_S)


def speak(channel):
    def messages():
        yield pb.StreamCompositeRequest(
            open=pb.OpenSession(
                model_id="mira",
                sample_rate_hz=16000,
                channels=1,
                audio_input=pb.AUDIO_INPUT_PCM,
                encoding=pb.PCM_ENCODING_S16LE,
            )
        )
        for segment in [1, 2]:
            audio = pb.AudioChunk(segment_id=segment, pcm=bytes(2 * 16000))
            yield pb.StreamCompositeRequest(audio=audio)
            yield pb.StreamCompositeRequest(end_segment=pb.EndSegment(segment_id=segment))

    return list(rpc.LipSyncStub(channel).StreamComposite(messages(), timeout=PATIENCE_S))


def judge_call(collector):
    (root,) = collector.until(CALL)
    told = attributes(root)
    check("the call is in its client's trace", root.trace_id.hex() == TRACE and root.parent_span_id.hex() == PARENT)
    check("the vendors' state is passed on", root.trace_state == "vendor=1", root.trace_state)
    check("it is a server's span", root.kind == 2, root.kind)
    wanted = {"rpc.system": "grpc", "rpc.method": "InferBatchComposite", "rpc.grpc.status_code": 0}
    wanted |= {"lipsync.model": "mira", "lipsync.request_id": "from-python", "lipsync.frames": 25}
    check("its attributes are right", wanted.items() <= told.items(), told)
    children = {span.name: span for span in collector.children(root)}
    check("each stage has a span", sorted(children) == sorted(STAGES), sorted(children))
    inside = all(
        root.start_time_unix_nano <= s.start_time_unix_nano <= s.end_time_unix_nano <= root.end_time_unix_nano
        for s in children.values()
    )
    check("all are in its time", inside, root)
    starts = [children[name].start_time_unix_nano for name in STAGES]
    check("they come in order", starts == sorted(starts), starts)
    took = root.end_time_unix_nano - root.start_time_unix_nano
    share = sum(s.end_time_unix_nano - s.start_time_unix_nano for s in children.values()) / took
    check("they are most of its time", 0.5 < share <= 1.01, f"{share:.2f}")


def judge_session(collector):
    (root,) = collector.until(SESSION)
    segments = [attributes(span) for span in collector.children(root) if span.name == "segment"]
    numbers = sorted(segment["lipsync.segment_id"] for segment in segments)
    check("a session has its segments", numbers == [1, 2], segments)
    check("they count their frames", all(s["lipsync.frames"] == 25 for s in segments), segments)


def own_types(stack, binary, folder):
    collector = Collector()
    process, address = start(stack, binary, folder, serve(stack, collector))
    channel = stack.enter_context(grpc.insecure_channel(address))
    metadata = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=1")]
    call(channel, [*metadata, ("x-request-id", "from-python")])
    judge_call(collector)
    speak(channel)
    judge_session(collector)
    names = {pair.key: pair.value.string_value for pair in collector.resources[0].attributes}
    check("the server says who it is", names.get("service.name") == "lipsync-server", names)
    check("headers are sent", collector.metadata.get("x-tenant") == "7", sorted(collector.metadata))
    n_before = len(collector.spans)
    call(channel, [("traceparent", f"00-{TRACE}-{PARENT}-00")])
    call(channel)
    collector.until(CALL, 2)
    n_new = len(collector.spans) - n_before
    check("a call whose client says no is not traced", n_new == 1 + len(STAGES), n_new)
    collector.is_broken = True
    begun = time.monotonic()
    call(channel)
    check("a broken collector holds up no call", time.monotonic() - begun < PATIENCE_S / 2)
    time.sleep(2)
    collector.is_broken = False
    collector.until(CALL, 3)
    check("spans are sent again once it is back", True)
    call(channel)
    process.terminate()
    check("the server ends", process.wait(PATIENCE_S) == 0, process.returncode)
    check("the last spans were sent", len([s for s in collector.spans if s.name == CALL]) == 4)


def real_collector(stack, binary, folder, otelcol):
    port = free_port()
    out = folder / "traces.json"
    config = folder / "otelcol.yaml"
    config.write_text(
        f"receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{port}'}}}}}}}}\n"
        f"exporters: {{file: {{path: {out}}}}}\n"
        "service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], exporters: [file]}}}\n"
    )
    log = (folder / "otelcol.log").open("w")
    collector = subprocess.Popen([otelcol, "--config", str(config)], stdout=log, stderr=log)
    stack.callback(collector.wait)
    stack.callback(collector.terminate)
    _, address = start(stack, binary, folder, port)
    channel = stack.enter_context(grpc.insecure_channel(address))
    call(channel, [("traceparent", f"00-{TRACE}-{PARENT}-01")])
    speak(channel)
    begun, spans = time.monotonic(), {}
    while time.monotonic() < begun + PATIENCE_S and not {CALL, SESSION, "segment"} <= set(spans):
        time.sleep(0.2)
        lines = out.read_text().splitlines() if out.exists() else []
        resources = [of for line in lines for of in json.loads(line)["resourceSpans"]]
        spans = {s["name"]: s for of in resources for scope in of["scopeSpans"] for s in scope["spans"]}
    check("a real collector takes the traces", {CALL, SESSION, "segment", *STAGES} <= set(spans), sorted(spans))
    found = spans.get(CALL, {})
    check("it sees the client's trace", (found.get("traceId"), found.get("parentSpanId")) == (TRACE, PARENT), found)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="target/release/lipsync-server")
    parser.add_argument("--otelcol", default=os.environ.get("OTELCOL"))
    options = parser.parse_args()
    binary = str(pathlib.Path(options.server).resolve())
    with ExitStack() as stack:
        own_types(stack, binary, pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())))
    if options.otelcol:
        with ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            real_collector(stack, binary, folder, options.otelcol)
    else:
        print("skipped: a real collector (--otelcol)")
    n_failed = results.count(False)
    print(f"{len(results) - n_failed} of {len(results)} checks passed")
    raise SystemExit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
