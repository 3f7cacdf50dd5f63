"""What the benchmarks of this folder share: the machine, its load, the commit, the build."""

import os
import pathlib
import platform
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# One-minute load average above which a machine is not quiet.
QUIET_LOAD = 0.5


def build(package, kind, name):
    """Builds a release program and returns its path."""
    command = ["cargo", "build", "--release", "--quiet", "-p", package, f"--{kind}", name]
    subprocess.run(command, cwd=ROOT, check=True)
    folder = TARGET / "release"
    return str((folder / "examples" if kind == "example" else folder) / name)


def wait_for_quiet(wait_s, anyway):
    """Returns the load average once it is low; otherwise warns if told to go on anyway, or exits."""
    end = time.monotonic() + wait_s
    while (load := os.getloadavg()[0]) > QUIET_LOAD and time.monotonic() < end:
        time.sleep(5)
    if load > QUIET_LOAD:
        said = f"the load average is {load:.2f}, over {QUIET_LOAD}: other work disturbs the figures"
        if not anyway:
            sys.exit(f"{said} (--busy measures all the same, --wait SECONDS waits longer)")
        print(f"WARNING: {said}", file=sys.stderr)
    return load


def add_load_arguments(parser):
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine too")
    parser.add_argument(
        "--wait", type=float, default=60, help="seconds to wait for a low load average (60)"
    )


def cpu_name():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def context(load_before):
    """Where and on what a run was made."""

    def git(*arguments):
        found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return found.stdout.strip()

    return {
        "machine": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "-s", "-uno") else ""),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "command": " ".join(["python", os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]]),
    }


def print_context(context, versions):
    print(f"{context['machine']}, {context['cpus']} CPUs, {context['date']}")
    print(f"load average {context['load_before']} before, {context['load_after']} after")
    print(f"commit {context['commit']}, {', '.join(f'{k} {v}' for k, v in versions.items())}")
    print(f"{context['command']}\n")
