"""The last act: a made-up device is lost, the process says so and ends, and the next one answers as the first did."""

import asyncio
import hashlib
import os
import re
import subprocess
import sys

import grpc
from lipsync_client import CallError, Client
from server import AVATARS

LOSSES = 3
DEVICE_LOST = 4
"""The exit code: start the process anew."""
PATIENCE_S = 240.0


class OnDevice:
    """A server whose networks run on a made-up CUDA device."""

    def __init__(self, binary, folder):
        self.faults = folder / "device-faults"
        self.faults.mkdir(exist_ok=True)
        config = folder / "device.yaml"
        config.write_text(
            "server: {port: '127.0.0.1:0', worker_count: 1, shutdown_grace_s: 5}\n"
            "operations: {enabled: false}\ncapacity: {bake: off}\n"
            "engine: {device: cuda, max_batch: 2, visual_cache_mb: 0}\n"
            f"models: {{mira: {{path: {AVATARS / 'mira'}}}}}\n"
        )
        self.command = [binary, "--config", config]
        self.log = folder / "device.log"

    def start(self):
        """Start it; return the process and its address."""
        own = {"FAULTS": str(self.faults), "FAULTS_DEVICE": "1"}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **own}
            )
        found = re.search(r"gRPC\s+(\S+:\d+)", process.stdout.readline())
        if found is None:
            process.kill()
            raise SystemExit(f"no server on a made-up device; its log: {self.log.read_text()[-1000:]}")
        return process, found.group(1)

    async def ask(self, address, speech):
        """The pictures of two frames."""
        async with Client(address, answer_timeout=PATIENCE_S) as client:
            await client.wait_until_serving()
            answer = await client.infer("mira", speech[: 2 * 1_280], timeout=PATIENCE_S)
        return hashlib.sha256(b"".join(frame.data for frame in answer.frames)).hexdigest()


async def lose(binary, folder, speech):
    """Lose the device a few times; whether each time was as it should be."""
    stage, known, is_good = OnDevice(binary, folder), None, True
    for n in range(LOSSES):
        process, address = await asyncio.to_thread(stage.start)
        found = await stage.ask(address, speech)
        known = known or found
        (stage.faults / "device").touch()
        while (stage.faults / "device").exists():
            await asyncio.sleep(0.05)
        code = None
        try:
            await stage.ask(address, speech)
        except CallError as error:
            code = error.code
        ended = await asyncio.to_thread(process.wait, PATIENCE_S)
        is_right = found == known and code == grpc.StatusCode.UNAVAILABLE and ended == DEVICE_LOST
        print(f"device lost, time {n + 1}: the call got {code}, the process ended with {ended}", file=sys.stderr)
        is_good &= is_right
    print(f"| device lost and started anew, {LOSSES} times | {'ok' if is_good else 'FAILED'} |")
    return is_good
