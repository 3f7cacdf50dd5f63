#!/usr/bin/env python3
"""Compares the simulation with three real replicas behind Envoy on this machine.

    clients/python/.venv/bin/python tools/simulate/check.py

First it measures, with one user, what a frame, a call and a load cost. Then it runs deploy/envoy/zipf.py's load (60 models, 25
in each replica, Zipf) and the simulation with those costs, for the home replica by hash with bounded load and for any replica.
Ends with 1 if throughput or hit rate differ by more than 15 %. Needs what zipf.py needs, and target/debug/lipsync-simulate
or the one that --simulate names.
"""

import argparse
import asyncio
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy/envoy"))

import zipf  # noqa: E402

from lipsync_client import Client, read_wav  # noqa: E402

FRAMES = 10
LIMIT = 0.15


async def timed(client, model, n_frames, speech):
    """Seconds that a call takes."""
    began = time.monotonic()
    await client.infer(model, speech[: 2 * 640 * n_frames], timeout=60)
    return time.monotonic() - began


async def measure(options, folder, log):
    """What a frame, a call and a load take, in ms, where one user has the machine alone."""
    speech = read_wav(ROOT / "assets/speech/welcome.wav").samples
    async with zipf.stage(options, "hash", folder, log), Client(zipf.ENVOY) as client:
        async with Client(f"127.0.0.1:{zipf.REPLICAS[0]}") as one:
            # The first load of a process reads files that the system does not know yet.
            await timed(one, "face-60", FRAMES, speech)
            cold = [await timed(one, f"face-{n:02}", FRAMES, speech) for n in range(1, 9)]
            warm = [await timed(one, f"face-{n:02}", FRAMES, speech) for n in range(1, 9)]
        await timed(client, "face-01", FRAMES, speech)
        few, many = 4, 24
        pairs = [[await timed(client, "face-01", n, speech) for n in (few, many)] for _ in range(12)]
    load = statistics.median(cold) - statistics.median(warm)
    short, long = (statistics.median(column) for column in zip(*pairs, strict=True))
    frame = (long - short) / (many - few)
    return {"frame-ms": 1e3 * frame, "call-ms": 1e3 * (short - few * frame), "load-ms": 1e3 * load}


def simulate(options, costs, choice):
    """Hit rate and calls a second, over some seeds."""
    hits, rates = [], []
    for seed in range(1, options.seeds + 1):
        command = [str(options.simulate), "--closed-users", str(options.users), "--requests", str(options.requests)]
        command += ["--warm-up", str(options.warm_up), "--replicas", "3", "--per-host", "3", "--workers", "1"]
        command += ["--cores", str(options.cores), "--models", str(options.models), "--max-models", str(options.budget)]
        command += ["--zipf", str(options.exponent), "--call-frames", str(FRAMES), "--paste-ms", "0"]
        command += ["--choice", choice, "--seed", str(seed)]
        for name, value in costs.items():
            command += [f"--{name}", f"{max(value, 0.01):.3f}"]
        table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        cells = [cell.strip() for cell in table.splitlines()[-1].split("|")]
        hits.append(float(cells[2].removesuffix(" %")) / 100)
        rates.append(float(cells[3]))
    return statistics.fmean(hits), statistics.fmean(rates)


def main():
    """Run all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=60)
    parser.add_argument("--budget", type=int, default=25, help="models that one replica may hold")
    parser.add_argument("--requests", type=int, default=300, help="of each run")
    parser.add_argument("--warm-up", type=int, default=100)
    parser.add_argument("--users", type=int, default=2)
    parser.add_argument("--exponent", type=float, default=1.0, help="of Zipf's law")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--seeds", type=int, default=20, help="runs of the simulation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", type=pathlib.Path, default=ROOT / "target/release/lipsync-server")
    parser.add_argument("--simulate", type=pathlib.Path, default=ROOT / "target/debug/lipsync-simulate")
    parser.add_argument("--envoy", default=os.environ.get("ENVOY", "envoy"))
    options = parser.parse_args()
    rows, worst = [], 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with (folder / "log").open("wb") as log:
            costs = asyncio.run(measure(options, folder, log))
            print(", ".join(f"{name} {value:.1f}" for name, value in costs.items()), flush=True)
            for policy, choice in (("hash", "bounded-hash"), ("random", "random")):
                real = asyncio.run(zipf.run(options, policy, folder, log))
                hits, rate = simulate(options, costs, choice)
                real_rate = len(real["times"]) / real["seconds"]
                off = max(abs(hits / real["hits"] - 1), abs(rate / real_rate - 1))
                worst = max(worst, off)
                rows.append((policy, real["hits"], hits, real_rate, rate, off))
    print("| choice | model in memory: real, simulated | calls/s: real, simulated | off by at most |\n|---|---|---|---|")
    for policy, real, hits, real_rate, rate, off in rows:
        print(f"| {policy} | {100 * real:.1f} %, {100 * hits:.1f} % | {real_rate:.2f}, {rate:.2f} | {100 * off:.0f} % |")
    print(f"verdict: {'ok' if worst <= LIMIT else 'FAILED'}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
