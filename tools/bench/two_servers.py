"""Compares servers by the load test, in turns: two builds, or one build under several settings.

    python tools/bench/two_servers.py old=PATH/lipsync-server new=target/release/lipsync-server
    python tools/bench/two_servers.py off=SERVER,LIPSYNC_LOGGING__CALLS=off on=SERVER,LIPSYNC_LOGGING__CALLS=all

Each contestant is NAME=PROGRAM[,VARIABLE=VALUE...]; the variables set its configuration. The first is the base of the
ratios. A round starts each contestant anew, in shuffled order, warms it up and loads it with `lipsync-load-test`: Mira,
4 users with batches of 8, unless told otherwise behind `--`. The table gives each contestant's median (and quartiles) of
the figures asked for, and of the ratio of the first of them to the base's in the same round. `NAME=PROGRAM,scrape` reads
`/metrics` every second meanwhile; `NAME=PROGRAM,config=FILE` takes another configuration (an old
build needs its own), `NAME=PROGRAM,cores=0` pins the server.
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


def turn(contestant, arguments, options):
    """Starts the server, loads it and stops it; returns the load test's report."""
    port, operations = free_port(), free_port()
    environment = {
        **os.environ,
        "LIPSYNC_SERVER__PORT": f"127.0.0.1:{port}",
        "LIPSYNC_OPERATIONS__PORT": f"127.0.0.1:{operations}",
        "LIPSYNC_SERVER__WORKER_COUNT": "2",
        **contestant.settings,
    }
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log"
        with log.open("w") as output:
            server = subprocess.Popen(
                contestant.command(), env=environment, stdout=output, stderr=output, cwd=bench.ROOT
            )
        stop = threading.Event()
        try:
            wait_until_ready(operations, server, log)
            if contestant.scrape:
                threading.Thread(target=scrape, args=(operations, stop), daemon=True).start()
            report = pathlib.Path(folder) / "report.json"
            load = ["taskset", "-c", options.load_cores] if options.load_cores else []
            load += [options.load_test, "--addr", f"127.0.0.1:{port}", "--quiet", "--json", report]
            load += ["--warm-up", "2s", "--duration", f"{options.duration}s", *arguments]
            done = subprocess.run(load, capture_output=True, text=True)
            if not report.exists():
                sys.exit(f"{contestant.name}: {done.stdout}{done.stderr}")
            return json.loads(report.read_text())
        finally:
            stop.set()
            server.terminate()
            server.wait()


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
    parser.add_argument("--load-cores", help="cores of the load test, for taskset")
    bench.add_load_arguments(parser)
    options = parser.parse_args(own.split())
    load_before = bench.wait_for_quiet(options.wait, options.busy)
    arguments = (behind or USUAL).split()
    for _ in range(options.rounds):
        for one in random.sample(options.contestants, len(options.contestants)):
            report = turn(one, arguments, options)["run"]
            one.reports.append(report)
            [one.figures(figure) for figure in options.figures]  # A wrong name ends it now.
            one.errors += report["requests"] - report["ok"]
    base = options.contestants[0]
    bench.print_context(bench.context(load_before), {"load": " ".join(arguments)})
    print(f"| server | {' | '.join(options.figures)} | ratio to the base | failed |")
    print("|---" * (len(options.figures) + 3) + "|")
    for one in options.contestants:
        rates = zip(one.figures(options.figures[0]), base.figures(options.figures[0]))
        columns = [quartiles(one.figures(figure)) for figure in options.figures]
        ratio = quartiles([mine / theirs for mine, theirs in rates], 3)
        print(f"| {one.name} | {' | '.join(columns)} | {ratio} | {one.errors} |")


main()
