"""Sessions that hold a place and do nothing. All come from another address: an honest peer's own share is its own."""

import time

import http2
import websocket
import wire
from registry import OTHER_PEER, attack

HONEST = ("session", "infer")
AWAY = (OTHER_PEER,)


def keep(target, body, n=100):
    """Keeps `n` StreamComposite calls open that said `body` once."""
    held = []
    while target.running():
        held = [c for c in held if not c.closed]
        while len(held) < 4:
            held.append(http2.Connection(target.port, target.source))
        for c in held:
            c.pump()
            for _ in range(n // 4 - ((c.next - 1) // 2 - len(c.ended))):
                c.call(wire.STREAM, body, end=False)
        time.sleep(0.05)


@attack("sessions-silent", growth_mb=96, sources=AWAY, honest=HONEST)
def silent(target):
    """Opens 100 streams and never says `open`: all sessions that there are."""
    keep(target, None)


@attack("sessions-open-silent", growth_mb=128, sources=AWAY, honest=HONEST)
def open_silent(target):
    """Says `open` on 100 streams and then nothing, for as long as a session may be idle."""
    keep(target, http2.message(wire.OPEN))


@attack("sessions-websocket-silent", growth_mb=128, sources=AWAY, honest=HONEST)
def websocket_silent(target):
    """The same over 100 WebSockets, the half of them without an `open`."""
    held = []
    while target.running():
        if len(held) < 100:
            try:
                held.append(websocket.connect(target.ops, target.source))
                if len(held) % 2:
                    held[-1].sendall(websocket.fragment(websocket.BINARY, wire.OPEN))
                continue
            except OSError:
                pass
        time.sleep(0.1)


@attack("sessions-unread", growth_mb=256, may_use_grace=True, sources=AWAY, honest=HONEST)
def unread(target):
    """Opens 8 sessions, sends audio for 20 s of frames in each, and reads none of them. (50 would be more work than the server can do
    in time, which honest clients may ask for too.)"""
    audio = wire.text(2, wire.number(1, 1) + wire.text(2, bytes(2 * 16000 * 2)))
    body = http2.message(wire.OPEN) + http2.message(audio) * 10
    held = []
    while target.running():
        held = [c for c in held if not c.closed]
        if len(held) < 8:
            c = http2.Connection(target.port, target.source, window=0)
            c.upload(c.call(wire.STREAM), body, time.monotonic() + 1)
            held.append(c)
        for c in held:
            c.pump()
        time.sleep(0.01)
