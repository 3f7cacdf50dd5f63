#!/usr/bin/env python3
"""Attacks a server of its own beside a normal client, and says for each attack whether the client noticed.

Usage: run.py [--server PATH] [--list] [--json FILE] [--seconds S] [NAME ...]

NAME is an attack, or the beginning of several (`upload`). Exit code 0: all are ok; 1: some failed; 2: wrong
arguments. See README.md.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import children
import server
import trial
from attacks import load
from registry import ATTACKS, Target


class Bench:
    """What trials share: the program, a folder for their files, and how long a normal client runs beside an attack."""

    def __init__(self, binary, folder, seconds):
        self.binary, self.folder, self.seconds = binary, folder, seconds

    def server(self, **how):
        return server.Server(self.binary, self.folder, **how)


def run_attacker(name, port, ops, source, seconds, folder):
    """The process of an attacker: attacks until its time is over or SIGTERM comes, then holds what it has until it is killed.
    One that the server threw out begins again."""
    target = Target(int(port), int(ops), source, time.monotonic() + float(seconds), folder)
    signal.signal(signal.SIGTERM, lambda *_: target.stop())
    while target.running():
        try:
            ATTACKS[name].run(target)
            break
        except OSError as error:
            target.note(f"thrown out: {type(error).__name__}")
            time.sleep(0.1)
    time.sleep(target.rest())


def figure(value, form="{:.0f}"):
    return "-" if value is None else form.format(value)


def line(result):
    """One line of the summary: name, verdict, figures, and the first fault."""
    f = result.figures
    latency = []
    for kind, now in (f.get("beside") or {}).items():
        before, noise = ((f[run].get(kind) or {}).get("p99") for run in ("alone", "again"))
        latency.append(f"{kind} {figure(before)}/{figure(noise)}/{figure(now['p99'])}")
    memory = (
        f"{f['rss_before']:.0f}/{f['rss_peak']:.0f}/{f['rss_after']:.0f}"
        if "rss_peak" in f
        else "-"
    )
    drain = figure(f.get("drain_s"), "{:.1f}")
    why = result.skipped or "; ".join(result.faults)[:160]
    return (
        f"{result.name:34} {result.verdict:8} {memory:16} {drain:>5}  {', '.join(latency):50} {why}"
    )


def try_one(attack, source, bench):
    """Runs one trial; a trial that cannot be run is skipped, one that breaks has failed."""
    try:
        if not attack.is_check:
            return trial.beside(attack, source, bench)
        result = trial.Result(attack.name)
        attack.run(bench, result)
        return result
    except trial.Skip as reason:
        return trial.Result(attack.name, skipped=str(reason))
    except Exception as error:
        return trial.Result(
            attack.name, faults=[f"the trial broke off: {type(error).__name__}: {str(error)[:300]}"]
        )


def chosen(names):
    wanted = [a for a in ATTACKS.values() if not names or any(a.name.startswith(n) for n in names)]
    if not wanted:
        print(f"no attack begins with {' or '.join(names)}: see --list", file=sys.stderr)
        sys.exit(2)
    return wanted


def arguments():
    root = server.ROOT
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", type=pathlib.Path, default=root / "target/release/lipsync-server"
    )
    parser.add_argument("--list", action="store_true", help="say what there is, run nothing")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures there")
    parser.add_argument(
        "--seconds",
        type=float,
        default=8,
        help="how long the normal client runs beside an attack (8)",
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    return parser.parse_args()


def main():
    load()
    if sys.argv[1:2] == ["--attacker"]:
        run_attacker(*sys.argv[2:])
        return 0
    args = arguments()
    if args.list:
        for attack in chosen(args.names):
            print(f"{attack.name:26} {attack.about}")
        return 0
    if not args.server.exists():
        print(
            f"there is no {args.server}: build it with `cargo build --release`, or name it with --server",
            file=sys.stderr,
        )
        return 2
    if not children.may_go_first():
        print("no permission for SCHED_RR: the client waits for cores as everybody does", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results = []
    try:
        run_trials(args, results)
    finally:
        summary(results, args.json)
    return 1 if any(r.verdict == "FAILED" for r in results) else 0


def run_trials(args, results):
    """Runs what was asked for, one trial after the other, and prints each result as it comes."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="attack-"))
    try:
        server.copy_avatars(folder)
        bench = Bench(args.server.resolve(), folder, args.seconds)
        for attack in chosen(args.names):
            for source in attack.sources:
                results.append(try_one(attack, source, bench))
                print(line(results[-1]), flush=True)
                for text in [*results[-1].faults, *results[-1].notes]:
                    print(f"    {text}", flush=True)
    finally:
        children.end_all()
        shutil.rmtree(folder, ignore_errors=True)


def summary(results, path):
    print(
        f"\nload average {os.getloadavg()[0]:.1f}; memory before/peak/after in MB; drain in s; p99 alone/again/beside in ms\n"
    )
    for result in results:
        print(line(result))
    count = {
        verdict: sum(r.verdict == verdict for r in results)
        for verdict in ("ok", "FAILED", "skipped")
    }
    print("\n" + ", ".join(f"{n} {verdict}" for verdict, n in count.items()))
    if path:
        path.write_text(json.dumps([vars(r) | {"verdict": r.verdict} for r in results], indent=1))


if __name__ == "__main__":
    sys.exit(main())
