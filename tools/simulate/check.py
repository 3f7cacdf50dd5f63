#!/usr/bin/env python3
"""Compares the simulation with three real replicas behind Envoy on this machine.

    clients/python/.venv/bin/python tools/simulate/check.py

First it measures what a frame, a call and a load cost of the cores, with as many users as later. Then it runs deploy/envoy/zipf.py's load (60 models, 25
in each replica, Zipf) and the simulation with those costs, for the home replica by hash with bounded load and for any replica.
Ends with 1 if throughput or hit rate differ by more than 15 %. Needs what zipf.py needs, and target/debug/lipsync-simulate
or the one that --simulate names.
"""

import argparse
import asyncio
import itertools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy/envoy"))

import zipf  # noqa: E402

from lipsync_client import Client, read_wav  # noqa: E402

FRAMES = 10
# Of each user, to measure what they cost.
N_CALLS, N_LOADS = 60, 20
LIMIT = 0.15


def used_s():
    """What this program and the processes below it have used of the cores so far."""
    parents, used = {}, {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        used[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_ours(pid):
        while pid not in (0, os.getpid()):
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return sum(seconds for pid, seconds in used.items() if is_ours(pid))


async def call(client, model, speech):
    """Ask for FRAMES frames; return the share of the time that the network took."""
    answer = await client.infer(model, speech, timeout=60)
    return answer.timings.infer_us / max(answer.timings.total_us, 1)


async def measure(options, folder, log):
    """What a frame, a call and a load use of a core, in ms, while as many users as later keep the machine busy."""
    speech = read_wav(ROOT / "assets/speech/welcome.wav").samples[: 2 * 640 * FRAMES]
    shares = []
    users = range(1, options.users + 1)
    async with zipf.stage(options, "hash", folder, log):

        async def load(n, first, last):
            async with Client(f"127.0.0.1:{zipf.REPLICAS[n % len(zipf.REPLICAS)]}") as one:
                for model in zipf.names(options)[first:last]:
                    await call(one, model, speech)

        async def used_by_loads(first, last):
            start = used_s()
            await asyncio.gather(*(load(n, first, last) for n in users))
            return used_s() - start

        # Full ones: who loads a model then must forget another, too.
        await used_by_loads(0, options.budget)
        new = (options.budget, options.budget + N_LOADS)
        load_s = (await used_by_loads(*new) - await used_by_loads(*new)) / N_LOADS / options.users

        async def user(n):
            async with Client(zipf.ENVOY) as client:
                for _ in range(N_CALLS + 1):
                    shares.append(await call(client, f"face-{n:02}", speech))

        await asyncio.gather(*(user(n) for n in users))
        start = used_s()
        shares.clear()
        await asyncio.gather(*(user(n) for n in users))
        call_s = (used_s() - start) / len(shares)
    network_s = call_s * statistics.median(shares)
    return {"frame-ms": 1e3 * network_s / FRAMES, "call-ms": 1e3 * (call_s - network_s), "load-ms": 1e3 * load_s}


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
    parser.add_argument("--rounds", type=int, default=2, help="real runs of each choice")
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
            choices = {"hash": "bounded-hash", "random": "random"}
            runs = {policy: [] for policy in choices}
            for _, policy in itertools.product(range(options.rounds), choices):
                runs[policy].append(asyncio.run(zipf.run(options, policy, folder, log)))
            for policy, choice in choices.items():
                hits, rate = simulate(options, costs, choice)
                real_hits = statistics.fmean(run["hits"] for run in runs[policy])
                # The fastest: whatever else runs on the machine can only slow it.
                real_rate = max(len(run["times"]) / run["seconds"] for run in runs[policy])
                off = max(abs(hits / real_hits - 1), abs(rate / real_rate - 1))
                worst = max(worst, off)
                rows.append((policy, real_hits, hits, real_rate, rate, off))
    print("| choice | model in memory: real, simulated | calls/s: real, simulated | off by at most |\n|---|---|---|---|")
    for policy, real, hits, real_rate, rate, off in rows:
        print(f"| {policy} | {100 * real:.1f} %, {100 * hits:.1f} % | {real_rate:.2f}, {rate:.2f} | {100 * off:.0f} % |")
    print(f"verdict: {'ok' if worst <= LIMIT else 'FAILED'}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
