#!/usr/bin/env python3
"""Three replicas behind Envoy lose one to SIGKILL, and are then restarted one after the other with SIGTERM.

    clients/python/.venv/bin/python deploy/envoy/drill.py

Conversations in real time, and unary calls, go on meanwhile. Every frame of a conversation must follow the one before it: a
jump of the walk or of the clock is an error, and so is a call that fails, or a conversation that does not go on by itself.
Open sessions keep their models in memory, so each replica has room for all models of conversations (docs/deploy.md); the
calls are for twice as many models, which do not all fit. Prints what clients met in each phase, the share of models whose
home moved, and hit rates. Ends with 1 if clients met an error, or if a hit rate afterwards is not within 5 % of that before.
Needs what zipf.py needs, and the ports 8081 to 8083.
"""

import argparse
import asyncio
import collections
import dataclasses
import logging
import os
import pathlib
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time

from zipf import ENVOY, REPLICAS, ROOT, percentile, policy, serving

from lipsync_client import CallError, Client, Frame, Lost, Pacing, Restored, Resumed, Retry, SegmentEnd, read_wav


@dataclasses.dataclass
class Seen:
    """What clients met, by phase."""

    phase: str = "warm-up"
    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    times: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
    gaps_s: list = dataclasses.field(default_factory=list)

    def count(self, what, n=1):
        self.counts[self.phase, what] += n

    def error(self, text):
        self.count("errors")
        print(f"  {self.phase}: {text}", file=sys.stderr)


class Replica:
    """A server that can be ended and started again."""

    def __init__(self, options, config, port, log):
        self.command = [str(options.server), "--config", str(config)]
        self.port, self.log, self.process = port, log, None

    def start(self):
        page = f"127.0.0.1:{8080 + self.port - REPLICAS[0] + 1}"
        own = {"LIPSYNC_SERVER__PORT": f"127.0.0.1:{self.port}", "LIPSYNC_OPERATIONS__PORT": page}
        self.process = subprocess.Popen(self.command, env={**os.environ, **own}, stdout=self.log, stderr=self.log)

    async def end(self, number):
        """Send a signal and wait for the end; return the code."""
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait)

    async def used(self):
        """Uses and loads of each model."""
        async with Client(f"127.0.0.1:{self.port}") as client:
            return {m.model_id: (m.usage_count, m.loads) for m in await client.list_models()}


async def converse(number, model, options, speech, seen):
    """Say a sentence now and then, for ever, and look at every frame."""
    dice = random.Random(number)
    retry = Retry(first_s=0.1, longest_s=2.0, resume_within_s=20)
    async with Client(ENVOY) as client, client.lasting_session(model, pacing=Pacing.REALTIME, retry=retry) as session:
        await asyncio.sleep(dice.uniform(0, options.pause))

        async def speak():
            while True:
                await session.push_audio(speech)
                await session.end_segment()
                seen.count("sentences")
                await asyncio.sleep(options.pause * dice.uniform(0.75, 1.25))

        speaker = asyncio.create_task(speak())
        before, n_frames = None, 0
        try:
            async for event in session:
                match event:
                    case Frame():
                        if before is not None and event.index != before.index + 1:
                            seen.error(f"session {number}: the walk jumps from {before.index} to {event.index}")
                        if before is not None and event.pts_us <= before.pts_us:
                            seen.error(f"session {number}: the clock jumps from {before.pts_us} to {event.pts_us}")
                        before, n_frames = event, n_frames + 1
                        seen.count("frames")
                        seen.count("frames without the network", not event.generated)
                    case SegmentEnd():
                        if n_frames != event.n_frames:
                            seen.error(f"session {number}: {n_frames} of {event.n_frames} frames of a sentence came")
                        n_frames = 0
                    case Resumed():
                        seen.count("sessions that went on")
                        seen.count("of them in a sentence", n_frames > 0)
                        seen.gaps_s.append(event.after_s)
                    case Lost():
                        seen.error(f"session {number} is lost: {event.error}")
                    case Restored():
                        seen.count("sessions begun anew")
                if speaker.done():
                    speaker.result()
        finally:
            speaker.cancel()


async def ask(number, ids, options, speech, seen):
    """Unary calls, one after the other, for ever."""
    dice = random.Random(1000 + number)
    async with Client(ENVOY) as client:
        while True:
            began = time.monotonic()
            try:
                await client.infer(dice.choice(ids), speech, timeout=30)
                seen.count("calls")
                seen.times[seen.phase].append(time.monotonic() - began)
            except CallError as error:
                seen.error(f"call: {error}")
            await asyncio.sleep(options.call_pause * dice.uniform(0.5, 1.5))


async def window(replicas, options, seen, name):
    """Measure for a while; return the home of each model, and the hit rate."""
    seen.phase = name
    before = [await replica.used() for replica in replicas]
    await asyncio.sleep(options.window)
    after = [await replica.used() for replica in replicas]
    homes, uses, loads = {}, 0, 0
    for model in before[0]:
        by = [a[model][0] - b[model][0] for a, b in zip(after, before, strict=True)]
        uses += sum(by)
        loads += sum(a[model][1] - b[model][1] for a, b in zip(after, before, strict=True))
        if sum(by):
            homes[model] = by.index(max(by))
    return homes, 1 - loads / max(uses, 1)


def moved(before, after):
    """Share of models that have another home, of those that were used both times."""
    both = before.keys() & after.keys()
    return sum(before[m] != after[m] for m in both) / max(len(both), 1)


def write(options, folder):
    """The replicas' configuration, and Envoy's."""
    ids = [f"face-{n:02}" for n in range(1, options.models + 1)]
    avatar = ROOT / "assets/avatars" / options.avatar
    models = "".join(f"  {i}: {{path: {avatar}}}\n" for i in ids)
    (folder / "resume.key").write_text(secrets.token_hex(32))
    (folder / "config.yaml").write_text(
        f"server: {{peer_share_percent: 100, worker_count: 1, pre_drain_ms: 3000, shutdown_grace_s: {options.grace}}}\n"
        f"session: {{resume_key_file: {folder / 'resume.key'}}}\n"
        f"capacity: {{max_models: {options.budget}, bake: off}}\n"
        f"logging: {{level: info}}\nmodels:\n{models}"
    )
    (folder / "envoy.yaml").write_text(policy("hash"))
    return ids


async def drill(replicas, ids, options, seen):
    """The whole course of events; returns the windows."""
    speech = read_wav(ROOT / "assets/speech/welcome.wav").samples
    sentence, short = speech[: 2 * 16_000 * options.sentence], speech[: 2 * 6_400]
    tasks = [asyncio.create_task(converse(n, ids[n % options.spoken], options, sentence, seen)) for n in range(options.sessions)]
    tasks += [asyncio.create_task(ask(n, ids, options, short, seen)) for n in range(options.users)]
    await asyncio.sleep(options.warm_up)
    windows = [await window(replicas, options, seen, "before")]
    seen.phase = "SIGKILL of one"
    victim = replicas[1]
    await victim.end(signal.SIGKILL)
    await asyncio.sleep(5)
    windows.append(await window([replicas[0], replicas[2]], options, seen, "without it"))
    seen.phase = "it comes back"
    victim.start()
    await serving(f"127.0.0.1:{victim.port}")
    await asyncio.sleep(options.settle)
    windows.append(await window(replicas, options, seen, "after SIGKILL"))
    seen.phase = "rolling SIGTERM"
    for replica in replicas:
        code = await replica.end(signal.SIGTERM)
        if code != 0:
            seen.error(f"a replica ended with {code}")
        replica.start()
        await serving(f"127.0.0.1:{replica.port}")
        await asyncio.sleep(3)
    await asyncio.sleep(options.settle)
    windows.append(await window(replicas, options, seen, "after SIGTERM"))
    for task in tasks:
        if task.done():
            seen.error(f"a client has ended: {task.exception()}")
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return windows


def report(seen, windows):
    """Print the tables; true if clients met no error, and models are in memory as often as before."""
    phases = list(dict.fromkeys(phase for phase, _ in seen.counts))
    names = ["frames", "frames without the network", "sentences", "calls", "sessions that went on",
             "of them in a sentence", "sessions begun anew", "errors"]  # fmt: skip
    print(f"| phase | {' | '.join(names)} | call, p95 ms |\n|---|{'---|' * len(names)}---|")
    for phase in phases:
        p95 = 1e3 * percentile(times, 95) if (times := seen.times[phase]) else 0
        print(f"| {phase} | {' | '.join(str(seen.counts[phase, n]) for n in names)} | {p95:.0f} |")
    before, hits_before = windows[0]
    print("\n| window | model in memory | homes moved since before |\n|---|---|---|")
    for name, (homes, hits) in zip(("before", "without one", "after SIGKILL", "after SIGTERM"), windows, strict=True):
        if name == "without one":
            homes = {model: (0, 2)[place] for model, place in homes.items()}
        print(f"| {name} | {100 * hits:.1f} % | {100 * moved(before, homes):.0f} % |")
    if seen.gaps_s:
        print(f"\nwithout a session: {max(seen.gaps_s):.2f} s at most, {percentile(seen.gaps_s, 50):.2f} s (median)")
    is_warm = all(hits >= 0.95 * hits_before for _, hits in windows[2:])
    return is_warm and not any(n for (_, what), n in seen.counts.items() if what == "errors")


def main():
    """Run it, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--users", type=int, default=2, help="who make unary calls")
    parser.add_argument("--models", type=int, default=24)
    parser.add_argument("--spoken", type=int, default=12, help="of them have conversations")
    parser.add_argument("--budget", type=int, default=16, help="models that one replica may hold")
    parser.add_argument("--avatar", default="tomo")
    parser.add_argument("--sentence", type=int, default=2, help="seconds that a conversation says")
    parser.add_argument("--pause", type=float, default=60.0, help="seconds from sentence to sentence")
    parser.add_argument("--call-pause", type=float, default=0.25, help="seconds between calls of a user")
    parser.add_argument("--warm-up", type=float, default=20.0)
    parser.add_argument("--window", type=float, default=20.0)
    parser.add_argument("--settle", type=float, default=20.0)
    parser.add_argument("--grace", type=int, default=5, help="server.shutdown_grace_s")
    parser.add_argument("--server", type=pathlib.Path, default=ROOT / "target/release/lipsync-server")
    parser.add_argument("--envoy", default=os.environ.get("ENVOY", "envoy"))
    parser.add_argument("--keep", type=pathlib.Path, help="where to put the replicas' log")
    options = parser.parse_args()
    # grpcio tells of every call that was cut.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ids = write(options, folder)
        envoy = [options.envoy, "-c", folder / "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"]
        with (options.keep or folder / "log").open("wb") as log:
            replicas = [Replica(options, folder / "config.yaml", port, log) for port in REPLICAS]
            for replica in replicas:
                replica.start()
            proxy = subprocess.Popen(envoy, stdout=log, stderr=log)
            seen = Seen()

            async def whole():
                for port in REPLICAS:
                    await serving(f"127.0.0.1:{port}")
                await serving(ENVOY)
                await asyncio.sleep(3)
                return await drill(replicas, ids, options, seen)

            try:
                windows = asyncio.run(whole())
            finally:
                for process in (proxy, *(replica.process for replica in replicas)):
                    process.terminate()
                for process in (proxy, *(replica.process for replica in replicas)):
                    process.wait()
    print(f"{options.sessions} conversations of {options.spoken} models, {options.users} users of {options.models}, ", end="")
    print(f"room for {options.budget} in a replica\n")
    sys.exit(0 if report(seen, windows) else 1)


if __name__ == "__main__":
    main()
