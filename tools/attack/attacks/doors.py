"""The newer doors: TLS, the Open Inference Protocol, figures and reloads over HTTP, backgrounds over HTTP."""

import contextlib
import select
import socket
import ssl
import time

import http2
import wire
from registry import OTHER_PEER, SAME_PEER, attack

from .connections import keep

BOTH = (OTHER_PEER, SAME_PEER)
AWAY = (OTHER_PEER,)
# A frame of one window for mira: [32, 16, 16] floats.
WINDOW = bytes(32 * 16 * 16 * 4)


def client_hello():
    """The first message of a TLS client, as Python's own library makes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@attack("tls-silent", growth_mb=64, sources=BOTH, tls=True, honest=("infer", "stats"))
def tls_silent(target):
    """Opens 600 connections to a port with TLS and says nothing: each may hold a place and ten seconds."""
    keep(target, target.port, 600)


@attack("tls-half", growth_mb=96, sources=BOTH, tls=True, honest=("infer", "stats"))
def tls_half(target):
    """Says half of a ClientHello on 600 connections, then a byte every two seconds: a handshake that never ends."""
    hello = client_hello()
    keep(target, target.port, 600, hello[: len(hello) // 2], hello[-1:], every=2.0)


@attack(
    "tls-handshakes", growth_mb=96, processes=2, sources=AWAY, tls=True, honest=("infer", "stats")
)
def tls_handshakes(target):
    """Sends the same ClientHello over and over, each on a connection of its own, and goes when the server has signed its answer:
    a hundred copied bytes for a signature."""
    hello, n = client_hello(), 0
    while target.running():
        held = []
        with contextlib.suppress(OSError):
            for _ in range(20):
                s = socket.create_connection(
                    ("127.0.0.1", target.port), 0.5, source_address=(target.source, 0)
                )
                held.append(s)
                s.sendall(hello)
        for s in held:
            s.settimeout(0.05)
            with contextlib.suppress(OSError):
                n += bool(s.recv(1 << 14))
            # Without a word, so that no port of the loopback waits for it.
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()
    target.note(f"{n} handshakes were answered")


def infer_request(model="mira", version="1", frames=1, name="", shape=None, raw=None, more=b""):
    """A ModelInferRequest for windows of silence."""
    sizes = [frames, 32, 16, 16] if shape is None else shape
    packed = b"".join(wire.varint(n & (1 << 64) - 1) for n in sizes)
    tensor = wire.text(1, "WINDOWS") + wire.text(2, "FP32") + wire.text(3, packed)
    data = WINDOW * frames if raw is None else raw
    head = wire.text(1, model) + wire.text(2, version) + wire.text(3, name) + more
    return head + wire.text(5, tensor) + wire.text(7, data)


def streams(target, path, n, hello, data):
    """Opens `n` calls on one connection after the other, says `hello` in each, then `data` again and again as fast as it is
    taken, and reads what comes."""
    sent = 0
    while target.running():
        try:
            c = http2.Connection(target.port, target.source, window=(1 << 31) - 1)
        except OSError:
            continue
        c.send(http2.window_update(0, 1 << 30))
        for _ in range(n):
            c.call(path, hello, end=False)
        c.pump(0.1)
        while target.running() and not c.closed:
            live = [s for s in range(1, c.next, 2) if s not in c.ended]
            if not live:
                break
            for s in live:
                if min(c.window, c.windows.get(s, 0)) >= len(data):
                    c.window -= len(data)
                    c.windows[s] -= len(data)
                    c.send(http2.frame(http2.DATA, 0, s, data))
                    sent += 1
            c.pump()
        c.close()
    target.note(f"{sent} frames of data")


@attack("infer-stream-tiny", growth_mb=96, processes=2)
def stream_tiny(target):
    """Sends requests of a few bytes for a model that does not exist on streams that do not end: each is read, refused, and
    answered in the stream."""
    tiny = http2.message(wire.text(1, "nobody"))
    streams(target, wire.INFER_STREAM, 50, None, tiny * 8)


@attack("infer-stream-never-ends", growth_mb=96, sources=BOTH, honest=("infer", "stats", "session"))
def stream_never_ends(target):
    """Keeps 300 streams of requests open that bring nothing, half of them in the middle of a message: all places of calls
    that last."""
    connections = []
    half = http2.message(infer_request())[:-1000]
    while target.running():
        connections = [c for c in connections if not c.closed]
        while len(connections) < 4:
            connections.append(http2.Connection(target.port, target.source))
        for c in connections:
            c.pump()
            live = (c.next - 1) // 2 - len(c.ended)
            for k in range(min(20, 75 - live)):
                stream = c.call(wire.INFER_STREAM, end=False)
                if k % 2:
                    c.upload(stream, half, time.monotonic() + 0.2)
        time.sleep(0.05)


@attack(
    "infer-stream-unread",
    growth_mb=400,
    sources=AWAY,
    may_use_grace=True,
    honest=("infer", "session"),
    options={"server": {"max_unsent_mb": 256}},
)
def stream_unread(target):
    """Asks for 64 frames in many responses on 40 streams, and reads none of them."""
    body = http2.message(infer_request(version="2", frames=64))
    held = []
    while target.running():
        held = [c for c in held if not c.closed]
        if len(held) < 8:
            c = http2.Connection(target.port, target.source, window=0)
            for _ in range(5):
                c.upload(c.call(wire.INFER_STREAM, end=False), body, time.monotonic() + 2)
            held.append(c)
        for c in held:
            c.pump()
        time.sleep(0.01)


def ask_streams(target, bodies, most_bytes, seconds=3):
    """Sends each of `bodies` on ModelStreamInfer, and looks at what comes back."""
    while target.running():
        for body in bodies:
            c = http2.Connection(target.port, target.source, window=1 << 20)
            c.send(http2.window_update(0, 1 << 28))
            stream = c.call(wire.INFER_STREAM, end=False)
            until = min(target.until, time.monotonic() + seconds)
            c.upload(stream, http2.message(body), until, end=True)
            while time.monotonic() < until and stream not in c.ended and not c.closed:
                c.pump(0.1)
            if c.received > most_bytes:
                target.fault(f"an answer of {c.received} bytes to a request that is wrong")
            c.close()


@attack("infer-text", growth_mb=220)
def infer_text(target):
    """Sends ids, names and parameters of 40 MB, which come back with errors: in a stream, not in headers, where they have no
    limit."""
    wide = "\u200b" * (40_000_000 // 3)
    parameter = wire.text(4, wire.text(1, wide) + wire.text(2, wire.text(3, "x")))
    ask_streams(
        target,
        [
            infer_request(name=wide),
            infer_request(model=wide),
            infer_request(version=wide),
            infer_request(more=parameter),
        ],
        most_bytes=10_000,
    )


@attack("infer-shapes", growth_mb=160)
def infer_shapes(target):
    """Sends shapes whose product overflows, is negative or is not what came; contents twice; 8,000 parameters: a length that
    is believed is memory, or the end of a worker."""
    most = (1 << 63) - 1
    shapes = (
        [most, 32, 16, 16],
        [-1, 32, 16, 16],
        [1 << 40, 32, 16, 16],
        [0, 32, 16, 16],
        [2] * 2000,
    )
    many = b"".join(
        wire.text(4, wire.text(1, f"p{n}") + wire.text(2, wire.number(2, n))) for n in range(2000)
    )
    bodies = [infer_request(shape=list(shape)) for shape in shapes]
    bodies += [
        infer_request(raw=WINDOW[:-1]),
        infer_request(raw=b"\xff" * len(WINDOW)),
        infer_request() + wire.text(7, WINDOW),
        infer_request(more=many),
        infer_request(frames=1) + wire.text(6, wire.text(1, "FRAMES")) * 1000,
    ]
    ask_streams(target, bodies, most_bytes=100_000)


def ask_http(target, request, n=8):
    """Asks for the same on `n` connections as fast as answers come, and reads them."""
    held, answered = {}, 0
    while target.running():
        while len(held) < n and target.running():
            try:
                s = socket.create_connection(
                    ("127.0.0.1", target.ops), 0.5, source_address=(target.source, 0)
                )
                s.sendall(request)
                held[s] = b""
            except OSError:
                time.sleep(0.05)
        for s in select.select(list(held), [], [], 0.1)[0]:
            try:
                part = s.recv(1 << 18)
                held[s] += part
                if is_whole(held[s]):
                    answered, held[s] = answered + 1, b""
                    s.sendall(request)
            except OSError:
                part = b""
            if not part:
                s.close()
                del held[s]
    target.note(f"{answered} answers")


def is_whole(answer):
    """Whether an answer with a length has all of it."""
    top, empty, body = answer.partition(b"\r\n\r\n")
    length = next(
        (x for x in top.lower().split(b"\r\n") if x.startswith(b"content-length:")), b":0"
    )
    return bool(empty) and len(body) >= int(length.split(b":")[1])


def head(verb, path):
    return f"{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


@attack("metrics-hammer", growth_mb=96, processes=2, honest=("infer", "stats", "livez"))
def metrics_hammer(target):
    """Asks for /metrics on eight connections without end: each page is some hundred kilobytes that a thread has to write."""
    ask_http(target, head("GET", "/metrics"))


@attack("history-hammer", growth_mb=96, processes=2, honest=("infer", "stats", "livez"))
def history_hammer(target):
    """The same with the figures of the last week."""
    ask_http(target, head("GET", "/api/history?scale=5m"))


@attack("reload-hammer", growth_mb=96, processes=2, honest=("infer", "session", "livez"))
def reload_hammer(target):
    """Has the configuration read again and again by POST /reload, as whoever is on the machine may."""
    ask_http(target, head("POST", "/reload"), 4)


@attack("backgrounds-unread", growth_mb=200, sources=BOTH, honest=("back", "livez"))
def backgrounds_unread(target):
    """Asks for background frames over HTTP on 100 connections and reads none: their memory is that of unread answers."""
    keep(target, target.ops, 100, head("GET", "/api/models/mira/backgrounds/1"))


@attack(
    "session-tiny-messages", growth_mb=96, processes=2, sources=AWAY, honest=("infer", "session")
)
def tiny_messages(target):
    """Sends audio a sample at a time in sessions that are open: every message is read, decoded and put into its place. At
    192 kHz, so that many messages are little speech: whoever sends more speech than others has his share of the workers."""
    hello = http2.message(wire.text(1, wire.text(1, "mira") + wire.number(3, 192_000)))
    sample = http2.message(wire.text(2, wire.number(1, 1) + wire.text(2, bytes(2))))
    streams(target, wire.STREAM, 10, hello, sample * 20)
