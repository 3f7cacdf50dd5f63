"""Floods of WebSocket frames on the operations port's /session."""

import contextlib
import time

import websocket
import wire
from registry import OTHER_PEER, SAME_PEER, attack

HONEST = ("infer", "session", "livez")
GROWTH_MB = 96


def flood(target, data, hello=b"", read=False):
    """Sends `data` as fast as it is taken on one WebSocket after the other; what comes back is not read unless `read`."""
    sent = 0
    while target.running():
        try:
            s = websocket.connect(target.ops, target.source)
            s.sendall(hello)
            s.settimeout(1)
            while target.running():
                s.sendall(data)
                sent += len(data)
                if read:
                    s.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        s.recv(1 << 18)
                    s.settimeout(1)
        except OSError:
            time.sleep(0.05)
    target.note(f"{sent / 1e6:.0f} MB")


@attack("websocket-pings", growth_mb=GROWTH_MB, sources=(OTHER_PEER, SAME_PEER), honest=HONEST)
def pings(target):
    """Sends pings and reads no pong. A library that queues pongs without a bound holds 1 GB after 5 s, without an `open`."""
    flood(target, websocket.fragment(websocket.PING, b"x" * 100) * 600)


@attack("websocket-pings-open", growth_mb=GROWTH_MB, honest=HONEST)
def pings_open(target):
    """The same in a session that is open."""
    flood(
        target,
        websocket.fragment(websocket.PING, b"x" * 100) * 600,
        websocket.fragment(websocket.BINARY, wire.OPEN),
    )


@attack("websocket-pings-read", growth_mb=GROWTH_MB, processes=2, honest=HONEST)
def pings_read(target):
    """Sends empty pings and reads the pongs: nothing piles up, the server only works."""
    flood(target, websocket.fragment(websocket.PING) * 600, read=True)


@attack("websocket-pongs", growth_mb=GROWTH_MB, processes=2, honest=HONEST)
def pongs(target):
    """Sends pongs that nobody asked for."""
    flood(
        target,
        websocket.fragment(websocket.PONG, b"x" * 100) * 600,
        websocket.fragment(websocket.BINARY, wire.OPEN),
    )


@attack("websocket-empty-fragments", growth_mb=GROWTH_MB, processes=2, honest=HONEST)
def empty_fragments(target):
    """Begins a message and goes on with empty fragments for ever: no limit of bytes is reached."""
    begin = websocket.fragment(websocket.BINARY, wire.OPEN) + websocket.fragment(
        websocket.BINARY, b"\x12", final=False
    )
    flood(target, websocket.fragment(websocket.CONTINUE, final=False) * 1000, begin)


@attack("websocket-tiny-fragments", growth_mb=GROWTH_MB, processes=2, honest=HONEST)
def tiny_fragments(target):
    """Goes on with fragments of one byte, each of which is a frame with a head of six."""
    begin = websocket.fragment(websocket.BINARY, wire.OPEN) + websocket.fragment(
        websocket.BINARY, b"\x12", final=False
    )
    flood(target, websocket.fragment(websocket.CONTINUE, b"\0", final=False) * 1000, begin)


@attack("websocket-empty-messages", growth_mb=GROWTH_MB, processes=2, honest=HONEST)
def empty_messages(target):
    """Sends empty messages to a session that has not said `open`, over and over."""
    flood(target, websocket.fragment(websocket.BINARY) * 1000, read=True)
