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


def go_first():
    """Gives this process a core before everything that is not urgent, where it may; says whether it does. A client whose
    server is elsewhere shares no core with it. Here the kernel had its runnable threads wait for up to 385 ms while the
    server's took turns (`perf sched timehist`, beside `session-segments`), which no answer can make up for."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (OSError, AttributeError):
        return False
    return True


def may_go_first():
    """Whether `go_first` would work."""
    if not go_first():
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


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
