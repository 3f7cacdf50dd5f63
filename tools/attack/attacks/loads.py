"""Loads of models that take long."""

import fcntl
import os
import pathlib
import shutil
import signal
import time

import http2
import wire
from registry import OTHER_PEER, SAME_PEER, attack

SLOW = {
    "mira": {"path": "mira", "preload": True},
    "slow": {"path": "slow"},
    "slow2": {"path": "slow2"},
}


def slow_folders(folder):
    for name in ("slow", "slow2"):
        shutil.rmtree(folder / "avatars" / name, ignore_errors=True)
        shutil.copytree(folder / "avatars/tomo", folder / "avatars" / name)


def lease(path):
    """Takes a write lease: whoever opens the file waits in the kernel for up to 45 s (fs.lease-break-time), as on a network disk
    that has stopped. Only a regular file and fcntl are needed. Returns None where that is not permitted."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        os.close(handle)
        return None
    return handle


@attack(
    "load-slow",
    growth_mb=96,
    sources=(OTHER_PEER, SAME_PEER),
    honest=("infer", "back", "stats"),
    models=SLOW,
    prepare=slow_folders,
    may_use_grace=True,
)
def slow(target):
    """Asks for two models, 270 calls at once, whose generator's file cannot be opened for 45 s (a write lease on it, as a network disk
    that hangs). Where such requests wait inside the gate of all, everybody is refused for one slow disk."""
    folder = pathlib.Path(target.folder) / "avatars"
    leases = [lease(folder / name / "generator.onnx") for name in ("slow", "slow2")]
    if None in leases:
        target.fault("no lease could be taken on a file: nothing was slow")
        return
    try:
        ask(target)
    finally:
        for handle in leases:
            os.close(handle)


def ask(target):
    """Keeps 270 calls waiting for the two models, over three connections; every eighth is LoadModel."""
    held, n = [], 0
    while target.running():
        held = [c for c in held if not c.closed]
        while len(held) < 3:
            held.append(http2.Connection(target.port, target.source))
        for c in held:
            c.pump()
            for _ in range(90 - ((c.next - 1) // 2 - len(c.ended))):
                name, n = ("slow", "slow2")[n % 2], n + 1
                if n % 8 == 0:
                    c.call(wire.LOAD, http2.message(wire.text(1, name)))
                else:
                    body = wire.text(1, name) + wire.text(2, b"\0")
                    c.call(wire.BACKGROUND, http2.message(body))
        time.sleep(0.25)
