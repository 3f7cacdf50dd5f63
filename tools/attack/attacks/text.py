"""Text of the attacker that comes back: in statuses, headers, lists and log lines."""

import time

import http2
import websocket
import wire
from registry import attack

# Takes three bytes on the wire, and up to nine when it is escaped in a header, more in a log.
WIDE = "\u200b"
# Header bytes that one answer may have.
MOST_HEADER_BYTES = 4096


def repeat(target, calls, seconds=3):
    """Sends each of `calls` (path, body, headers) on a connection of its own, reads the answer, and looks at its size."""
    while target.running():
        for path, body, extra in calls:
            c = http2.Connection(target.port, target.source, window=1 << 20)
            c.send(http2.window_update(0, 1 << 28))
            stream = c.call(path, extra=extra)
            c.upload(
                stream, http2.message(body), min(target.until, time.monotonic() + seconds), end=True
            )
            end = time.monotonic() + seconds
            while time.monotonic() < end and stream not in c.ended and not c.closed:
                c.pump(0.1)
            size = c.blocks.get(stream, 0)
            if size > MOST_HEADER_BYTES:
                target.fault(f"{path.rsplit('/', 1)[1]}: an answer with {size} bytes of headers")
            c.close()


@attack("text-model-id", growth_mb=220)
def model_id(target):
    """Sends a model id of 40 MB that differs from `x-model-id`. Where it is quoted before its length is checked, one request
    becomes hundreds of megabytes of escaped text in the answer's headers."""
    body = wire.text(1, WIDE * (40_000_000 // 3))
    repeat(
        target,
        [(wire.INFER, body, [("x-model-id", "a")]), (wire.BACKGROUND, body, [("x-model-id", "a")])],
    )


@attack("text-model-id-websocket", growth_mb=220, honest=("infer", "session"))
def model_id_websocket(target):
    """Sends the same in an `open` over a WebSocket, first as large as a session's message may be, then 40 MB."""
    while target.running():
        for size in (3_900_000, 40_000_000):
            try:
                s = websocket.connect(target.ops, target.source)
                s.settimeout(2)
                s.sendall(
                    websocket.fragment(
                        websocket.BINARY, wire.text(1, wire.text(1, WIDE * (size // 3)))
                    )
                )
                n = 0
                while part := s.recv(1 << 16):
                    n += len(part)
                if n > MOST_HEADER_BYTES:
                    target.fault(f"/session: an answer of {n} bytes to a model id of {size}")
            except OSError:
                time.sleep(0.1)


@attack("text-names", growth_mb=128)
def names(target):
    """Sends names of 3 MB to every method that looks one up: models, health services, symbols and files of reflection."""
    name = WIDE * 1_000_000
    admin = [
        (f"/lipsync.v1.ModelAdmin/{m}", wire.text(1, name), [])
        for m in ("LoadModel", "UnloadModel", "GetModelStats")
    ]
    health = [(f"/grpc.health.v1.Health/{m}", wire.text(1, name), []) for m in ("Check", "Watch")]
    path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    reflection = [(path, wire.text(field, name), []) for field in (1, 3, 4, 6)]
    repeat(target, [*admin, *health, *reflection], seconds=1)


@attack("text-headers", growth_mb=96)
def headers(target):
    """Sends 7 kB in every header that the server reads, and in the path, by the hundred a second. Each that is echoed or
    logged multiplies what was sent."""
    value = "x" * 7000
    readable = (
        "x-request-id",
        "x-model-id",
        "x-request-priority",
        "x-batch-preference",
        "x-max-wait-time",
        "grpc-timeout",
        "grpc-encoding",
    )
    body = wire.text(1, "mira")
    calls = [(wire.BACKGROUND, body, [(name, value)]) for name in readable]
    repeat(target, [*calls, (f"/lipsync.v1.LipSync/{value}", body, [])], seconds=1)
