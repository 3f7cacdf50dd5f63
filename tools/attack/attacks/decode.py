"""Messages that are cheap to send and dear to decode, before anything in them is checked."""

import time

import http2
import wire
from registry import attack

SIZE = 49 << 20


def again_and_again(target, path, body):
    """Sends one large request after the other."""
    whole = http2.message(wire.text(1, "mira") + body)
    while target.running():
        c = http2.Connection(target.port, target.source)
        stream = c.call(path)
        c.upload(stream, whole, min(target.until, time.monotonic() + 10), end=True)
        end = min(target.until, time.monotonic() + 10)
        while time.monotonic() < end and stream not in c.ended and not c.closed:
            c.pump(0.1)
        c.close()


def filled(piece, size=SIZE):
    return piece * (size // len(piece))


@attack("decode-packed", growth_mb=650, processes=3, honest=("infer", "stats"))
def packed(target):
    """49 MB of packed numbers of one byte each. They are decoded into four times the bytes, on a thread that answers others."""
    again_and_again(target, wire.BACKGROUND, wire.text(2, bytes(SIZE)))


@attack("decode-unpacked", growth_mb=650, processes=3)
def unpacked(target):
    """25 million single numbers, each with a tag of its own, in place of a packed list."""
    again_and_again(target, wire.BACKGROUND, filled(wire.number(2, 1)))


@attack("decode-unknown", growth_mb=650, processes=3)
def unknown(target):
    """25 million unknown fields: nothing is kept, everything is looked at."""
    again_and_again(target, wire.BACKGROUND, filled(wire.number(15, 0)))


@attack("decode-groups", growth_mb=650, processes=3)
def groups(target):
    """Unknown groups, nested ninety deep, over and over: each level is a call of the decoder."""
    start, end = wire.varint(15 << 3 | 3), wire.varint(15 << 3 | 4)
    again_and_again(target, wire.BACKGROUND, filled(start * 90 + end * 90))


@attack("decode-submessages", growth_mb=650, processes=3)
def submessages(target):
    """The same submessage millions of times: each is merged into the one before."""
    again_and_again(target, wire.INFER, filled(wire.text(6, b"")))


@attack("decode-oneof", growth_mb=650, processes=3)
def oneof(target):
    """The members of a `oneof` in turns: each drops what the one before had allocated."""
    again_and_again(
        target,
        wire.INFER,
        filled(wire.text(2, wire.text(1, b"abcd")) + wire.text(4, wire.text(1, b"ab"))),
    )
