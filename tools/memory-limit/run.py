#!/usr/bin/env python3
"""Serves a full-size network in a memory cgroup with `auto` budgets: it must start, answer, and never be killed.

    tools/bench/full_size_avatar.sh out/full
    clients/python/.venv/bin/python tools/memory-limit/run.py out/full [--mb 512] [--seconds 60]

Unary calls in every format and sessions ask as fast as they get answers; refusals for want of room (RESOURCE_EXHAUSTED)
are counted and allowed. Needs root and a memory controller, of version 1 or 2. Ends with 1 if the server was killed, ended
with an error, or answered nothing of a kind.
"""

import argparse
import asyncio
import collections
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import grpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients/python/src"))

from lipsync_client import CallError, Client, Frame, Output, OutputFormat, read_wav  # noqa: E402

MOUNT = pathlib.Path("/sys/fs/cgroup")
PORT = 50071


class Group:
    """A memory cgroup of our own, of either version."""

    def __init__(self, mb):
        self.is_new = (MOUNT / "cgroup.controllers").exists()
        self.path = (MOUNT if self.is_new else MOUNT / "memory") / f"lipsync-{os.getpid()}"
        try:
            self.path.mkdir()
            self.write("memory.max" if self.is_new else "memory.limit_in_bytes", mb << 20)
            with contextlib.suppress(OSError):
                # Without swap, or nothing would be shown.
                self.write("memory.swap.max" if self.is_new else "memory.memsw.limit_in_bytes", 0 if self.is_new else mb << 20)
        except OSError as error:
            raise SystemExit(f"error: no memory cgroup can be made here: {error}") from error

    def write(self, name, value):
        (self.path / name).write_text(f"{value}")

    def read(self, name):
        return (self.path / name).read_text()

    def peak_mb(self):
        """The most that was used, with the files' pages that it had in the cache."""
        return int(self.read("memory.peak" if self.is_new else "memory.max_usage_in_bytes")) >> 20

    def kills(self):
        """Processes that the kernel has killed for want of memory."""
        text = self.read("memory.events" if self.is_new else "memory.oom_control")
        return int(re.search(r"oom_kill (\d+)", text)[1])


async def unary(client, formats, speech, seen):
    """Calls of a second, in one format after the other."""
    for n in range(10**9):
        try:
            answer = await client.infer("full", speech[: 2 * 16_000], output=Output(formats[n % len(formats)]), timeout=60)
            seen["calls"] += 1
            seen["frames"] += len(answer.frames)
        except CallError as error:
            if error.code != grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            seen["refused calls"] += 1
            await asyncio.sleep(error.retry_after or 0.5)


async def session(client, speech, seen):
    """Sessions of two seconds, as fast as they go."""
    while True:
        try:
            async with client.session("full") as live:
                await live.push_audio(speech[: 4 * 16_000])
                await live.finish()
                n = sum([isinstance(event, Frame) async for event in live])
            seen["sessions"] += 1
            seen["frames"] += n
        except CallError as error:
            if error.code != grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            seen["refused sessions"] += 1
            await asyncio.sleep(error.retry_after or 0.5)


async def load(options, process, seen):
    """All clients for a while; returns early if the server ends."""
    speech = read_wav(ROOT / "assets/speech/welcome.wav").samples
    async with Client(f"127.0.0.1:{PORT}", answer_timeout=60) as client:
        await client.wait_until_serving(120)
        formats = [OutputFormat.JPEG, OutputFormat.PNG, OutputFormat.RGB]
        works = [unary(client, formats, speech, seen) for _ in range(options.users)]
        works += [session(client, speech, seen) for _ in range(options.sessions)]
        tasks = [asyncio.create_task(work) for work in works]
        end = time.monotonic() + options.seconds
        while time.monotonic() < end and process.poll() is None and not any(task.done() for task in tasks):
            await asyncio.sleep(0.5)
        for task in tasks:
            if task.done() and task.exception():
                seen["errors"] += 1
                print(f"  {task.exception()}", file=sys.stderr)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def main():
    """Run it, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=pathlib.Path, help="folder of the avatar with the full-size network")
    parser.add_argument("--mb", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--users", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--server", type=pathlib.Path, default=ROOT / "target/release/lipsync-server")
    options = parser.parse_args()
    group = Group(options.mb)
    seen = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "config.yaml").write_text(
            f"server: {{port: '127.0.0.1:{PORT}', peer_share_percent: 100}}\noperations: {{enabled: false}}\n"
            f"cache_dir: {folder / 'packs'}\nmodels:\n  full: {{path: {options.avatar.resolve()}, preload: true}}\n"
        )
        enter = f'echo $$ > "{group.path}/cgroup.procs"; exec "$@"'
        command = ["sh", "-c", enter, "sh", str(options.server), "--config", str(folder / "config.yaml")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                asyncio.run(load(options, process, seen))
                alive = process.poll() is None
                peak, kills = group.peak_mb(), group.kills()
            finally:
                process.terminate()
                code = process.wait()
        text = (folder / "log").read_text(errors="replace")
        warnings = [line for line in text.splitlines() if "memory" in line.lower() or "max_" in line]
        print("\n".join(warnings[:12]))
    group.path.rmdir()
    print(f"\n{options.mb} MB: {dict(seen)}; at most {peak} MB used, {kills} killed, ended with {code}")
    is_good = alive and kills == 0 and code == 0 and not seen["errors"] and seen["calls"] and seen["sessions"]
    print(f"verdict: {'ok' if is_good else 'FAILED'}")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
