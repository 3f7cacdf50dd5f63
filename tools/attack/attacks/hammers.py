"""Whole requests that cost their sender little, as fast as they are answered: calls, pages, conversations, messages in them."""

import contextlib
import select
import socket
import time

import http2
import wire
from registry import OTHER_PEER, attack

from .doors import ask_http, head, streams

AWAY = (OTHER_PEER,)
OPERATIONS = ("infer", "stats", "livez")


def again(target, calls, n=50, end=True):
    """Keeps `n` calls open on a connection, of (path, body) in turns, each begun anew when it is answered."""
    body_of = [(path, None if body is None else http2.message(body)) for path, body in calls]
    done = 0
    while target.running():
        try:
            c = http2.Connection(target.port, target.source, window=(1 << 31) - 1)
        except OSError:
            time.sleep(0.01)
            continue
        c.send(http2.window_update(0, 1 << 30))
        k = 0
        while target.running() and not c.closed and c.next < 1 << 30:
            live = (c.next - 1) // 2 - len(c.ended)
            for _ in range(n - live):
                c.call(*body_of[k % len(body_of)], end=end)
                k += 1
            # The window of the connection comes back as fast as it is used.
            if c.received > 1 << 28:
                c.send(http2.window_update(0, c.received))
                c.received = 0
            c.pump(0.1)
        done += len(c.ended)
        c.close()
    target.note(f"{done} calls were answered")


@attack("calls-hammer", growth_mb=96, processes=2, sources=AWAY)
def calls_hammer(target):
    """Asks for figures and lists without end, 50 at a time: each takes locks that others need."""
    again(
        target,
        [
            ("/lipsync.v1.ServerAdmin/GetServerStats", b""),
            ("/lipsync.v1.ModelAdmin/ListModels", b""),
            ("/grpc.health.v1.Health/Check", b""),
            ("/lipsync.v1.ServerAdmin/ExplainTenants", b""),
            ("/inference.GRPCInferenceService/ModelStatistics", b""),
            ("/lipsync.MultiTenantLipSync/GetModelStats", b""),
        ],
    )


@attack("calls-hammer-refused", growth_mb=96, processes=2, sources=AWAY)
def calls_hammer_refused(target):
    """Asks without end for frames of a model that does not exist, for a method that does not exist, and with messages that
    cannot be decoded: what is refused is no work, has no place, and is not waited for."""
    nobody = wire.text(1, "nobody")
    again(
        target,
        [
            (wire.INFER, nobody),
            (wire.BACKGROUND, nobody),
            ("/lipsync.v1.LipSync/None", b""),
            (wire.INFER, b"\xff" * 20),
            ("/lipsync.MultiTenantLipSync/InferBatchComposite", nobody),
            ("/inference.GRPCInferenceService/ModelInfer", nobody),
        ],
    )


@attack(
    "calls-hammer-sessions", growth_mb=96, processes=2, sources=AWAY, honest=("infer", "session")
)
def calls_hammer_sessions(target):
    """Begins sessions and ends them at once: a session costs the server tasks, queues and a place, and its client 40 bytes."""
    again(target, [(wire.STREAM, wire.OPEN)], n=40)


@attack("http-hammer", growth_mb=96, processes=2, sources=AWAY, honest=OPERATIONS)
def http_hammer(target):
    """Asks the operations port for all that it has, one path after the other, on eight connections."""
    paths = ("/livez", "/readyz", "/api/models", "/api/alerts", "/api/advice", "/api/adaptations")
    request = b"".join(head("GET", path) for path in (*paths, "/openapi.json", "/none"))
    pipelined(target, request)


@attack("resources-hammer", growth_mb=96, processes=2, honest=OPERATIONS)
def resources_hammer(target):
    """Asks for the two pages that ask the system about the machine and its GPUs."""
    ask_http(target, head("GET", "/resource-status") + head("GET", "/gpu-status"))


@attack("page-hammer", growth_mb=96, processes=2, sources=AWAY, honest=OPERATIONS)
def page_hammer(target):
    """Loads the page's largest file again and again, as fast as it is sent."""
    pipelined(target, head("GET", "/main.js") * 20)


def pipelined(target, request, n=8):
    """Sends requests one after the other without waiting for answers, and reads whatever comes."""
    held, received = {}, 0
    while target.running():
        while len(held) < n and target.running():
            try:
                s = socket.create_connection(
                    ("127.0.0.1", target.ops), 0.5, source_address=(target.source, 0)
                )
                s.setblocking(False)
                held[s] = b""
            except OSError:
                time.sleep(0.05)
        readable, writable, _ = select.select(list(held), list(held), [], 0.1)
        for s in {*readable, *writable}:
            try:
                if s in readable:
                    part = s.recv(1 << 18)
                    received += len(part)
                    if not part:
                        raise ConnectionResetError
                if s in writable:
                    rest = held[s] or request
                    with contextlib.suppress(BlockingIOError):
                        held[s] = rest[s.send(rest) :]
            except OSError:
                s.close()
                del held[s]
    target.note(f"{received / 1e6:.0f} MB of answers")


@attack("session-clears", growth_mb=128, processes=2, sources=AWAY, honest=("infer", "session"))
def session_clears(target):
    """Interrupts again and again in sessions that say nothing, seven bytes each, all of which are answered."""
    clear = http2.message(wire.text(4, b""))
    streams(target, wire.STREAM, 10, http2.message(wire.OPEN), clear * 2000)


@attack("session-clears-unread", growth_mb=128, sources=AWAY, honest=("infer", "session"))
def session_clears_unread(target):
    """The same, and reads none of the answers."""
    clear, held = http2.message(wire.text(4, b"")) * 2000, []
    while target.running():
        held = [c for c in held if not c.closed]
        if len(held) < 8:
            c = http2.Connection(target.port, target.source, window=0)
            c.upload(c.call(wire.STREAM), http2.message(wire.OPEN), time.monotonic() + 1)
            held.append(c)
        for c in held:
            c.upload(1, clear, time.monotonic() + 0.05)
            if 1 in c.ended:
                c.close()
                c.closed = True


@attack("session-segments", growth_mb=128, processes=2, sources=AWAY, honest=("infer", "session"))
def session_segments(target):
    """Begins and ends segments of a sample each, and of none: each has an end that must be told."""
    piece = b"".join(
        http2.message(wire.text(2, wire.number(1, k) + wire.text(2, bytes(2))))
        + http2.message(wire.text(3, wire.number(1, k)))
        for k in range(1, 600)
    )
    streams(target, wire.STREAM, 10, http2.message(wire.OPEN), piece)


@attack("session-nothing", growth_mb=96, processes=2, sources=AWAY, honest=("infer", "session"))
def session_nothing(target):
    """Sends messages of no bytes in sessions, three thousand in a frame."""
    streams(target, wire.STREAM, 10, http2.message(wire.OPEN), http2.message(b"") * 3000)


@attack("reflection-nothing", growth_mb=96, processes=2, sources=AWAY)
def reflection_nothing(target):
    """The same to reflection, which answers each."""
    streams(target, wire.REFLECTION, 50, http2.message(b""), http2.message(b"") * 3000)


@attack("reflection-hammer", growth_mb=96, processes=2, sources=AWAY)
def reflection_hammer(target):
    """Asks reflection for files of the contract, twelve bytes each, over and over in streams that last a minute."""
    ask = http2.message(wire.text(4, "lipsync.v1.LipSync"))
    streams(target, wire.REFLECTION, 50, ask, ask * 200)
