"""Child processes that cannot outlive this one: each leads a group of its own, and the kernel kills it when we die."""

import atexit
import contextlib
import ctypes
import os
import signal
import subprocess

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_running = set()


def start(command, prepare=None, **options):
    """Starts a process; `prepare` runs in it before the program does."""

    def before():
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if prepare:
            prepare()

    child = subprocess.Popen(command, start_new_session=True, preexec_fn=before, **options)
    _running.add(child)
    return child


def give_way():
    """Makes this process, the leader of its session, the last to get a core. Where the kernel shares cores between sessions
    first, being nice counts only within one."""
    os.nice(19)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
        group.write("19")


def end(child):
    """Kills a child with its whole group, and waits for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    _running.discard(child)


@atexit.register
def end_all():
    for child in list(_running):
        end(child)
