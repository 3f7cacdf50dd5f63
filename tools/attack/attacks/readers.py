"""Answers that are not read, or slowly, and streams of answers that cost the server more than the asker."""

import select
import socket
import time

import http2
import wire
from registry import OTHER_PEER, SAME_PEER, attack

BOTH = (OTHER_PEER, SAME_PEER)
JPEG, PNG, RGB = 1, 2, 3


def backgrounds(n, form, region=False):
    output = wire.text(3, wire.number(1, form) + (wire.number(3, 1) if region else b""))
    indices = b"".join(wire.varint(i % 90) for i in range(n))
    return http2.message(wire.text(1, "mira") + wire.text(2, indices) + output)


UNSENT = {"server": {"max_unsent_mb": 256}, "session": {"send_timeout_s": 5}}


@attack(
    "reader-trickle",
    growth_mb=400,
    sources=BOTH,
    honest=("infer", "back"),
    options=UNSENT,
    may_use_grace=True,
)
def trickle(target):
    """Asks for 47 MB answers and reads just enough of each to count as a reader; fills what is left with small answers that
    are not read. The memory for unread answers is one pool, and others are refused while it is full."""
    c = http2.Connection(target.port, target.source, window=0)
    c.send(http2.window_update(0, 1 << 30))
    large = []
    for n, k in ((17, 5), (1, 8), (1, 4)):
        large += [c.call(wire.BACKGROUND, backgrounds(n, RGB)) for _ in range(k)]
        c.pump(0.3)
    read_again = 0.0
    while target.running() and not c.closed:
        if time.monotonic() >= read_again:
            read_again = time.monotonic() + 6
            for stream in large:
                c.send(http2.window_update(stream, 1_200_000))
            for n, region in ((60, False), (30, True)):
                for _ in range(n):
                    c.call(wire.BACKGROUND, backgrounds(1, JPEG, region))
        c.pump(0.1)


@attack(
    "reader-never",
    growth_mb=400,
    sources=BOTH,
    honest=("infer", "back"),
    options=UNSENT,
    may_use_grace=True,
)
def never(target):
    """Asks for large answers on many connections and reads nothing at all."""
    held = []
    while target.running():
        if len(held) < 12:
            held.append(http2.Connection(target.port, target.source, receive_buffer=4096, window=0))
            for _ in range(8):
                held[-1].call(wire.BACKGROUND, backgrounds(8, RGB))
        held = [c for c in held if not c.closed]
        for c in held:
            c.pump()
        time.sleep(0.05)


def streams(target, path, body, n_connections, n_streams, window=0):
    """Keeps server streams open; `window` says how much of each is taken."""
    held = []
    while target.running():
        held = [c for c in held if not c.closed]
        while len(held) < n_connections:
            held.append(http2.Connection(target.port, target.source, window=window))
            held[-1].send(http2.window_update(0, 1 << 30))
        for c in held:
            for _ in range(min(50, n_streams - ((c.next - 1) // 2 - len(c.ended)))):
                c.call(path, http2.message(body))
            c.pump()
        time.sleep(0.02)


@attack("watch-stats", growth_mb=96)
def watch_stats(target):
    """Watches the statistics at the highest rate from 8 connections with 100 streams each, and reads all of it. A snapshot
    takes locks that requests need."""
    streams(target, wire.WATCH_STATS, wire.number(1, 100), 8, 100, window=(1 << 31) - 1)


@attack("watch-stats-unread", growth_mb=96)
def watch_stats_unread(target):
    """The same, and reads nothing: every message that waits is memory."""
    streams(target, wire.WATCH_STATS, wire.number(1, 100), 8, 100, window=0)


@attack("watch-health", growth_mb=128)
def watch_health(target):
    """Opens Health.Watch by the thousand, which costs no place and lives for ever."""
    streams(target, wire.HEALTH_WATCH, b"", 4, 1000, window=65535)


def page_readers(target, path, n):
    """Asks for a page's file, over and over in one connection, and reads one byte in a while."""
    held = {}
    while target.running():
        while len(held) < n:
            try:
                s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                s.settimeout(1)
                s.bind((target.source, 0))
                s.connect(("127.0.0.1", target.ops))
                s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 40)
                held[s] = True
            except OSError:
                time.sleep(0.05)
                break
        for s in select.select(list(held), [], [], 0)[0]:
            try:
                gone = not s.recv(1)
            except OSError:
                gone = True
            if gone:
                s.close()
                del held[s]
        time.sleep(0.2)


@attack("reader-page", growth_mb=64, sources=BOTH, honest=("infer", "livez", "readyz"))
def page(target):
    """Reads the page's largest file a byte at a time on 170 connections of the operations port, so that they count as busy."""
    page_readers(target, "/main.js", 170)
