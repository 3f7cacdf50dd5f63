"""Compares servers by the load test, in turns: two builds, or one build under several settings.

    python tools/bench/two_servers.py old=PATH/lipsync-server new=target/release/lipsync-server
    python tools/bench/two_servers.py off=SERVER,LIPSYNC_LOGGING__CALLS=off on=SERVER,LIPSYNC_LOGGING__CALLS=all

Each contestant is NAME=PROGRAM[,VARIABLE=VALUE...]; the variables set its configuration. The first is the base of the
ratios. A round starts each contestant anew, in shuffled order, warms it up and loads it with `lipsync-load-test`: Mira,
4 users with batches of 8, unless told otherwise behind `--`. The table gives each contestant's median (and quartiles) of
the figures asked for, and of the ratio of the first of them to the base's in the same round, with the interval in which
the median of such ratios lies in 95 of 100 runs. `NAME=PROGRAM,scrape` reads
`/metrics` every second meanwhile; `NAME=PROGRAM,config=FILE` takes another configuration (an old
build needs its own), `NAME=PROGRAM,cores=0` pins the server.

The figure `cpu_ms_per_frame` is the processor time of the server's process for each frame that its workers ran: of the
figures here it varies least on a machine that other work disturbs. With --together all servers start once and stay, and
a turn has no warm-up: turns may be short and many, so that a ratio compares moments that are close to each other. What a
server takes between its turns, when it has nothing to do but to look after itself, is printed above the table.
"""

import argparse
import json
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack

import bench

USUAL = "--model mira --users 4 --profile saturate --batch 8"


class Contestant:
    def __init__(self, text):
        self.name, _, rest = text.partition("=")
        program, *settings = rest.split(",")
        if not self.name or not program:
            sys.exit(f"'{text}' is not NAME=PROGRAM[,VARIABLE=VALUE...]")
        self.program = pathlib.Path(program).resolve()
        self.scrape = "scrape" in settings
        self.settings = dict(s.split("=", 1) for s in settings if s != "scrape")
        self.config = self.settings.pop("config", bench.ROOT / "config.yaml")
        self.cores = self.settings.pop("cores", None)
        self.reports, self.errors = [], 0

    def command(self):
        pinned = ["taskset", "-c", self.cores] if self.cores else []
        return [*pinned, self.program, "--config", self.config]

    def figures(self, path):
        """One figure of every round, for example `latency_ms.p99`."""
        found = []
        for report in self.reports:
            for name in path.split("."):
                report = report[name] if name in report else sys.exit(f"no figure {path}: {', '.join(report)}")
            found.append(report)
        return found


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until_ready(port, process, log):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"the server ended with code {process.returncode}: {log.read_text()}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the server was not ready within 60 s")


def scrape(port, stop):
    while not stop.wait(1):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            answer.read()


class Running:
    """A contestant's server, from its start until it is closed."""

    def __init__(self, stack, contestant, options):
        self.scrape, self.name = contestant.scrape, contestant.name
        # Milliseconds of processor time and seconds between turns; and when the last turn ended, with the time then.
        self.idle_ms, self.idle_s, self.rested = 0.0, 0.0, None
        self.port, self.operations = free_port(), free_port()
        environment = {
            **os.environ,
            "LIPSYNC_SERVER__PORT": f"127.0.0.1:{self.port}",
            "LIPSYNC_OPERATIONS__PORT": f"127.0.0.1:{self.operations}",
            "LIPSYNC_SERVER__WORKER_COUNT": "2",
            **contestant.settings,
        }
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.options, log = options, self.folder / "log"
        with log.open("w") as output:
            command = contestant.command()
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=bench.ROOT)
        stack.callback(self.process.wait)
        stack.callback(self.process.terminate)
        wait_until_ready(self.operations, self.process, log)

    def cpu_ms(self):
        """Processor time of the process so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def frames(self):
        """Frames that its workers have run, or 0 from a build that does not say so."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.operations}/api/stats", timeout=10) as answer:
                return sum(worker["frames"] for worker in json.load(answer)["server"]["workers"])
        except (OSError, KeyError):
            return 0

    def loaded(self, arguments, warm_up_s):
        """The load test's report of a turn, with the server's processor time for each frame."""
        options, report = self.options, self.folder / "report.json"
        report.unlink(missing_ok=True)
        load = ["taskset", "-c", options.load_cores] if options.load_cores else []
        load += [options.load_test, "--addr", f"127.0.0.1:{self.port}", "--quiet", "--json", report]
        load += ["--warm-up", f"{warm_up_s}s", "--duration", f"{options.duration}s", *arguments]
        stop, scraper = threading.Event(), None
        cpu_ms, frames = self.cpu_ms(), self.frames()
        if self.rested:
            self.idle_ms, self.idle_s = self.idle_ms + cpu_ms - self.rested[1], self.idle_s + time.monotonic() - self.rested[0]
        if self.scrape:
            scraper = threading.Thread(target=scrape, args=(self.operations, stop), daemon=True)
            scraper.start()
        try:
            done = subprocess.run(load, capture_output=True, text=True)
        finally:
            stop.set()
        if not report.exists():
            sys.exit(f"{self.name}: {done.stdout}{done.stderr}")
        found = json.loads(report.read_text())["run"]
        if n_frames := self.frames() - frames:
            found["cpu_ms_per_frame"] = (self.cpu_ms() - cpu_ms) / n_frames
        self.rested = (time.monotonic(), self.cpu_ms())
        return found


def turn(contestant, arguments, options):
    """Starts the server, loads it and stops it; returns the load test's report."""
    with ExitStack() as stack:
        return Running(stack, contestant, options).loaded(arguments, 2)


def turns(arguments, options):
    """Turns until all rounds are over: each contestant with its report."""
    with ExitStack() as stack:
        running = {}
        if options.together:
            running = {one.name: Running(stack, one, options) for one in options.contestants}
            for one in running.values():
                one.loaded(arguments, 0)
        for _ in range(options.rounds):
            for one in random.sample(options.contestants, len(options.contestants)):
                if options.together:
                    yield one, running[one.name].loaded(arguments, 0)
                else:
                    yield one, turn(one, arguments, options)
        for one in running.values():
            if one.idle_s:
                print(f"{one.name}: {one.idle_ms / one.idle_s:.2f} ms of processor time a second between its turns, over {one.idle_s:.0f} s")


def likely(ratios, n_resamples=2000):
    """Where the median lies in 95 of 100 draws from these ratios."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(n_resamples))
    return medians[n_resamples // 40], medians[-n_resamples // 40]


def quartiles(values, digits=1):
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main():
    own, _, behind = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("contestants", nargs="+", type=Contestant)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--duration", type=int, default=4, help="seconds of each turn (4)")
    parser.add_argument("--load-test", default=bench.TARGET / "release/lipsync-load-test")
    parser.add_argument(
        "--figures",
        type=lambda text: text.split(","),
        default=["frames_per_second", "latency_ms.p50", "latency_ms.p99"],
        help="of the load test's JSON report, comma-separated",
    )
    parser.add_argument("--together", action="store_true", help="start all servers once; load one at a time")
    parser.add_argument("--load-cores", help="cores of the load test, for taskset")
    bench.add_load_arguments(parser)
    options = parser.parse_args(own.split())
    load_before = bench.wait_for_quiet(options.wait, options.busy)
    arguments = (behind or USUAL).split()
    for one, report in turns(arguments, options):
        one.reports.append(report)
        [one.figures(figure) for figure in options.figures]  # A wrong name ends it now.
        one.errors += report["requests"] - report["ok"]
    base = options.contestants[0]
    bench.print_context(bench.context(load_before), {"load": " ".join(arguments)})
    print(f"| server | {' | '.join(options.figures)} | ratio to the base | its median, 95 % | failed |")
    print("|---" * (len(options.figures) + 4) + "|")
    for one in options.contestants:
        rates = zip(one.figures(options.figures[0]), base.figures(options.figures[0]))
        columns = [quartiles(one.figures(figure), 2) for figure in options.figures]
        ratios = [mine / theirs for mine, theirs in rates]
        low, high = likely(ratios)
        print(f"| {one.name} | {' | '.join(columns)} | {quartiles(ratios, 3)} | {low:.3f} to {high:.3f} | {one.errors} |")


main()
