"""Kills run.py at some seconds of its run, with SIGTERM and with SIGKILL, and checks what it leaves.

Usage: python3 killed.py [--seconds 1,2,3,...] [--signals TERM,KILL] [ARGUMENT OF run.py ...]

Runs where `pack.sh`'s file was unpacked, as run.py does; without arguments it kills `run.py --dry`, which needs no GPU.
Whatever kills run.py, results.json must parse and table.txt must be whole, and tell every step that results.json has
(SIGKILL may come between the two, and cost the table the last one). After SIGTERM run.py has 20 seconds, and leaves
rest.tar.gz too and nothing else. Exit code: 0 all is right, 1 something is not.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
# What run.py may take to end its step, which has 15 s, and to pack.
GRACE_S = 25
# Set for all that run.py starts, so that what a SIGKILL orphans is found.
MARK = "GPU_CHECK_KILLED"
FILES = {"results.json", "table.txt", "rest.tar.gz"}


def main():
    parser = argparse.ArgumentParser(description="Kills run.py, and checks what it leaves.")
    parser.add_argument("--seconds", default="1,2,3,5,8,13,21,34,55", help="when, each in a run of its own")
    parser.add_argument("--signals", default="TERM,KILL")
    args, rest = parser.parse_known_args()
    n_wrong = 0
    for name in args.signals.split(","):
        for seconds in map(float, args.seconds.split(",")):
            n_steps, faults = killed(rest or ["--dry"], signal.Signals[f"SIG{name}"], seconds)
            print(f"SIG{name} after {seconds:g} s: {n_steps} steps, {'; '.join(faults) or 'right'}", flush=True)
            n_wrong += bool(faults)
    print(f"{n_wrong} wrong")
    return 1 if n_wrong else 0


def killed(arguments, how, seconds):
    """One run; how many steps it has told of, and what is wrong with what it left."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-killed-") as folder:
        out = pathlib.Path(folder) / "out"
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        command = [sys.executable, "run.py", *arguments, "--out", out]
        running = subprocess.Popen(
            command, cwd=HERE, env={**os.environ, MARK: mark, "TMPDIR": folder},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            running.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        ended = running.poll()
        running.send_signal(how)
        faults = []
        try:
            running.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            faults.append(f"still there after {GRACE_S} s")
            running.kill()
            running.wait()
        orphans = end_orphans(mark)
        if how == signal.SIGTERM and orphans:
            faults.append(f"{orphans} processes left")
        if ended is None and how == signal.SIGTERM and running.returncode != 1:
            faults.append(f"exit code {running.returncode}")
        n_steps, more = judged(out, how == signal.SIGTERM or ended is not None)
        return n_steps, faults + more


def judged(out, is_whole):
    """The same of a folder; `is_whole` where run.py came to its end."""
    faults = []
    try:
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
        table = (out / "table.txt").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        return 0, [f"{type(error).__name__}: {error}"]
    steps = [f"{step['step']}: {step['state']}" for step in results["steps"]]
    lines = table.splitlines()
    if not table.endswith("\n") or lines[:1] != [results["card"]] or not any(l.startswith("target ") for l in lines):
        faults.append("table.txt is not whole")
    told = steps if is_whole else steps[:-1]
    missing = [step for step in told if not any(line.startswith(step) for line in lines)]
    if missing:
        faults.append(f"table.txt lacks {missing}")
    names = {path.name for path in out.iterdir()}
    if is_whole and names != FILES:
        faults.append(f"the folder has {sorted(names)}")
    elif not is_whole and not names <= FILES | {"results.draft", "table.draft", "rest.tar.gz.draft"}:
        faults.append(f"the folder has {sorted(names)}")
    if is_whole:
        try:
            with tarfile.open(out / "rest.tar.gz") as archive:
                archive.getnames()
        except (OSError, tarfile.TarError) as error:
            faults.append(f"rest.tar.gz: {error}")
    return len(steps), faults


def end_orphans(mark):
    """Ends what a killed run.py has started; how many those were."""
    n_ended = 0
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (path / "environ").read_bytes().split(b"\0"):
                os.kill(int(path.name), signal.SIGKILL)
                n_ended += 1
        except OSError:
            pass  # Another's, or gone.
    return n_ended


if __name__ == "__main__":
    sys.exit(main())
