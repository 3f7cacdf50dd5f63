#!/usr/bin/env python3
"""Runs the server for hours under mixed load and faults, and says whether it stayed as it was. See README.md."""

import argparse
import asyncio
import contextlib
import pathlib
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "clients/python/src"), str(ROOT / "tools/soak")]

import device
from figures import judge
from load import Load
from rest import rest
from server import Server

SAMPLE_S = 5


class Faults:
    """What goes wrong, in turns, and when."""

    def __init__(self, load, server, options):
        self.load, self.server, self.every_s = load, server, options.fault_every
        self.is_faulty = options.faulty
        self.rests = []
        self.spans = []
        self.count = {}

    @contextlib.contextmanager
    def span(self, name):
        """Book a fault with its times, which the probe leaves out."""
        began = self.load.now()
        print(f"{began:7.0f} s  {name}", flush=True)
        self.count[name] = self.count.get(name, 0) + 1
        try:
            yield
        finally:
            self.spans.append((began, self.load.now()))

    async def run(self):
        """One after the other, for ever."""
        turns = [self.stop, self.keys, self.files, self.reload, self.certificate, self.disk]
        if self.server.has_clock:
            turns.append(self.clock)
        if self.is_faulty:
            turns.append(self.panic)
        turns.append(self.rest)
        for n in range(10**9):
            await asyncio.sleep(self.every_s)
            await turns[n % len(turns)]()

    async def stop(self):
        """The process stands still for three seconds."""
        with self.span("SIGSTOP for 3 s"):
            self.server.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(3)
            self.server.process.send_signal(signal.SIGCONT)
            await asyncio.sleep(2)

    async def keys(self):
        """A new key; the old one goes a little later."""
        with self.span("a key is rotated"):
            for tenant in self.server.keys:
                self.server.keys[tenant].append(secrets.token_hex(16))
            self.server.write_config()
            self.server.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(5)
            for tenant in self.server.keys:
                del self.server.keys[tenant][:-1]
            self.server.reload()
            await asyncio.sleep(1)

    async def files(self):
        """The pictures of a model are gone for a while."""
        with self.span("a model's files are removed"):
            self.load.victim_is_whole = False
            with self.server.without_frames():
                await self._drop_victim()
                await asyncio.sleep(8)
            await self._drop_victim()
            await asyncio.sleep(2)
            self.load.victim_is_whole = True

    async def _drop_victim(self):
        with contextlib.suppress(Exception):
            async with self.load.client("ops") as client:
                await client.unload_model("victim")

    async def reload(self):
        """Several changes of the configuration in a row."""
        with self.span("the configuration changes five times"):
            for n in range(5):
                self.server.max_sessions = 60 + n
                self.server.reload()
                await asyncio.sleep(0.5)

    async def certificate(self):
        """Another certificate."""
        with self.span("the certificate changes"):
            self.server.use_certificate(3 - self.server.certificate)
            await asyncio.sleep(3)

    async def disk(self):
        """The disk of packs is full for a while."""
        if not self.server.has_disk:
            return
        filler = self.server.disk / "filler"
        with self.span("the disk of packs is full"):
            with contextlib.suppress(OSError), filler.open("wb") as file:
                while True:
                    file.write(bytes(1 << 16))
            for pack in list(self.server.disk.rglob("*.pack"))[:2]:
                pack.unlink()
            await asyncio.sleep(10)
            filler.unlink()

    async def clock(self):
        """The wall clock jumps forward by a day, and back to an hour before the truth."""
        with self.span("the clock is set"):
            for offset_s in (86_400, -3_600, 0):
                self.server.set_clock(offset_s)
                await asyncio.sleep(3)

    async def rest(self):
        """No fault: everybody is silent, and what the process has then is what it never gives back."""
        with self.span("rest"):
            sample = await rest(self.load, self.server)
            self.rests.append(sample)
            print(
                f"{sample.at_s:7.0f} s  at rest: {sample.rss_mb:.1f} MB, {sample.descriptors} descriptors, {sample.threads} threads",
                flush=True,
            )

    async def panic(self):
        """A network panics on its worker."""
        with self.span("a worker panics"):
            self.load.panics.append(self.load.now())
            (self.server.faults / "panic").touch()
            await asyncio.sleep(5)


async def leak(load):
    """The positive control: connections that are opened and never closed, and answer the server's pings."""
    context = ssl.create_default_context(cafile=str(load.ca))
    context.set_alpn_protocols(["h2"])
    host, port = load.address.rsplit(":", 1)
    kept = []
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            # A client's preface and its SETTINGS.
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS))
            kept.append((writer, asyncio.create_task(stay(reader, writer))))
        await asyncio.sleep(1)


SETTINGS, PING, ACK = 4, 6, 1
"""Of HTTP/2."""


def frame(kind, flags=0, payload=b""):
    """A frame of the connection itself."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags, 0, 0, 0, 0]) + payload


async def stay(reader, writer):
    """Acknowledge what must be acknowledged, or the server would rightly end the connection."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] in (SETTINGS, PING) and not head[4] & ACK:
                writer.write(frame(head[3], ACK, payload if head[3] == PING else b""))


async def run(options, server, speech):
    """Everything; returns whether it is good."""
    grpc_address, page = server.start()
    load = Load(server, grpc_address, page, speech, options.load)
    await load.learn()
    load.begun = time.monotonic()
    load.probes.clear()
    faults = Faults(load, server, options)
    tasks = load.tasks(server.folder)
    tasks.append(asyncio.create_task(faults.run()))
    if options.leak:
        tasks.append(asyncio.create_task(leak(load)))
    samples, end_s = [], options.minutes * 60
    told = 0.0
    while load.now() < end_s and server.process.poll() is None:
        samples.append(server.sample(load.now()))
        if load.now() - told >= 60:
            told = load.now()
            last = samples[-1]
            print(
                f"{told:7.0f} s  {last.rss_mb:.0f} MB, {last.descriptors} descriptors, {last.threads} threads, "
                f"{sum(load.answers.values())} answers, {sum(load.refusals.values())} refusals, {len(load.wrong)} wrong",
                flush=True,
            )
        for task in tasks:
            # A client that ends is a mistake of this program.
            if task.done():
                task.result()
                raise SystemExit("a client has ended")
        await asyncio.sleep(SAMPLE_S)
    died = server.process.poll()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return report(load, faults, samples, died)


def report(load, faults, samples, died):
    """Print the table and the verdict; true if all is well."""
    print("\n| what | count |\n|---|---|")
    for name, count in sorted((load.answers | load.refusals | faults.count).items()):
        print(f"| {name} | {count} |")
    for line in load.wrong[:20]:
        print(f"wrong: {line}")
    if died is not None:
        print(f"\nverdict: FAILED, the server ended with {died}")
        return False
    findings = judge(samples, faults.rests, load.probes, len(load.wrong), faults.spans)
    print("\n| figure | found | limit | |\n|---|---|---|---|")
    for finding in findings:
        print(f"| {finding.name} | {finding.found} | {finding.limit} | {'ok' if finding.is_good else 'FAILED'} |")
    is_good = all(finding.is_good for finding in findings)
    print(f"\nverdict: {'ok' if is_good else 'FAILED'}")
    return is_good


def main():
    """Read the options, run, and end with the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--server", default=ROOT / "target/release/lipsync-server", type=pathlib.Path)
    parser.add_argument("--fault-every", type=float, default=20, help="seconds between two faults")
    parser.add_argument("--load", type=float, default=1.0, help="how busy the clients are; 1 suits two cores")
    parser.add_argument("--faulty", action="store_true", help="the server is examples/faulty_server: workers panic, and devices are lost")
    parser.add_argument("--leak", action="store_true", help="the positive control: it must FAIL")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the server's log")
    options = parser.parse_args()
    if not options.server.exists():
        subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "lipsync-server"], cwd=ROOT, check=True)
    from lipsync_client import read_wav

    speech = read_wav(ROOT / "assets/speech/welcome.wav").samples
    folder = pathlib.Path(tempfile.mkdtemp(prefix="soak-"))
    server = Server(options.server, folder)
    is_good = False
    try:
        is_good = asyncio.run(run(options, server, speech))
        if options.faulty:
            is_good &= asyncio.run(device.lose(options.server, folder, speech))
    finally:
        code = server.stop()
        print(f"the server has drained and ended with {code}")
        if options.keep or not is_good:
            print(f"its log: {server.log}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if is_good and code == 0 else 1)


if __name__ == "__main__":
    main()
