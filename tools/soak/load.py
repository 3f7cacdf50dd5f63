"""The load: clients of every kind, each of which checks every answer against a known one."""

import asyncio
import collections
import contextlib
import hashlib
import itertools
import json
import random
import subprocess
import sys
import time

import grpc
from lipsync_client import CallError, Client, Frame, LipsyncError, Pacing, Retry
from rest import Gate
from server import COPIES, ROOT

RATE_HZ = 16_000
PATIENCE_S = 240.0
"""For the first answers, on any machine."""
LATEST_S = 60.0
"""Until a client has read why its call failed."""
TEMPORARY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNAUTHENTICATED,
}
"""What a client may meet in a fault, or with a key that has just gone; it counts, and is no wrong answer."""


def digest(frames):
    """What the pictures of some frames are."""
    sha = hashlib.sha256()
    for frame in frames:
        sha.update(frame.data)
    return sha.hexdigest()


class Load:
    """All clients, and what they have seen."""

    def __init__(self, server, grpc_address, page, speech, intensity):
        self.intensity = intensity
        self.server, self.address, self.page = server, grpc_address, page
        self.ca = server.folder / "ca.pem"
        self.speech = speech
        self.sentence = speech[: 2 * RATE_HZ]
        self.answers = collections.Counter()
        self.refusals = collections.Counter()
        self.wrong = []
        self.probes = []
        self.begun = time.monotonic()
        self.victim_is_whole = True
        # When workers were made to panic that no call is known to have met.
        self.panics = []
        self.known = {}
        self.dice = random.Random(1)
        self.gate = Gate()

    def now(self):
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    def client(self, tenant="load"):
        """A new connection with the newest key."""
        key = self.server.keys[tenant][-1]
        return Client(f"https://{self.address}", ca=self.ca, api_key=key, answer_timeout=60)

    def check(self, kind, name, found):
        """Compare an answer with the known one; the first is learned."""
        expected = self.known.setdefault(name, found)
        self.answers[kind] += 1
        if found != expected:
            self._wrong(f"{kind} {name}")

    def refuse(self, kind, error):
        """Book a call that failed: in time a fault explains it, or it is wrong."""
        code = getattr(error, "code", None)
        self.refusals[f"{kind} {getattr(code, 'name', type(error).__name__)}"] += 1
        if isinstance(error, CallError) and code in TEMPORARY:
            return
        if code == grpc.StatusCode.INTERNAL and self._meets_panic():
            return
        self._wrong(f"{kind}: {error}")

    def _meets_panic(self):
        """Whether a panic was asked for that explains an error: each explains one, and whoever reads late hears of it late."""
        self.panics = [at for at in self.panics if at > self.now() - LATEST_S]
        if not self.panics:
            return False
        self.panics.pop()
        return True

    def _wrong(self, what):
        """At once, so that whoever watches knows what went on then."""
        self.wrong.append(f"{what} after {self.now():.0f} s")
        print(f"wrong: {self.wrong[-1]}", flush=True)

    async def learn(self):
        """Ask for every known answer once, before anything goes wrong."""
        async with self.client() as client:
            whole = await client.infer("mira", self.sentence, timeout=PATIENCE_S)
            self.check("unary", "mira 0", digest(whole.frames))
            other = await client.infer("tomo", self.sentence, timeout=PATIENCE_S)
            self.check("unary", "tomo 0", digest(other.frames))
            short = await client.infer("mira", self.sentence[:12_800], timeout=PATIENCE_S)
            self.check("probe", "probe", digest(short.frames))

    async def repeat(self, kind, work, pause_s):
        """Do one kind of work for ever; what a fault does to it is no end."""
        while True:
            try:
                async with self.gate.work():
                    await work()
            except (LipsyncError, OSError, TimeoutError) as error:
                self.refuse(kind, error)
                await asyncio.sleep(0.5)
            await asyncio.sleep(pause_s * self.dice.uniform(0.5, 1.5) / self.intensity)

    async def probe(self):
        """A small request several times a second, whose time is the figure that must not grow."""
        async with self.client() as client:
            for _ in range(800):
                if not self.gate.is_open:
                    return
                began = time.monotonic()
                answer = await client.infer("mira", self.sentence[:12_800], timeout=20)
                self.probes.append((self.now(), time.monotonic() - began))
                self.check("probe", "probe", digest(answer.frames))
                # Often: the p99 of a window shall not be its few worst.
                await asyncio.sleep(0.1)

    async def unary(self):
        """One of the models that do not all fit: they are evicted and loaded all the time."""
        model = self.dice.choice(["mira", "tomo", *(f"copy-{n}" for n in range(1, COPIES + 1))])
        network = "tomo" if model == "tomo" else "mira"
        async with self.client() as client:
            answer = await client.infer(model, self.sentence, timeout=40)
            self.check("unary", f"{network} 0", digest(answer.frames))

    async def victim(self):
        """The model whose files come and go: it fails while they are gone, and is right otherwise."""
        async with self.client() as client:
            was_whole = self.victim_is_whole
            try:
                answer = await client.infer("victim", self.sentence, timeout=40)
            except CallError as error:
                if was_whole and self.victim_is_whole:
                    # It may still be known as broken: the next load tries again.
                    self.refusals[f"victim {error.code.name}"] += 1
                return
            if was_whole and self.victim_is_whole:
                self.check("victim", "mira 0", digest(answer.frames))

    async def session(self):
        """A sentence as fast as it goes: the pictures of a unary call."""
        async with self.client() as client, client.session("mira") as session:
            await session.push_audio(self.sentence)
            await session.finish()
            frames = [event async for event in session if isinstance(event, Frame)]
            self.check("session", "mira 0", digest(frames))

    async def conversation(self):
        """A face in real time, that is interrupted and resumes if it is cut."""
        retry = Retry(first_s=0.2, longest_s=2.0, resume_within_s=10)
        async with self.client() as client, client.lasting_session(
            "mira", pacing=Pacing.REALTIME, idle_frames=True, audio_echo=True, retry=retry
        ) as session:
            seen = 0
            await session.push_audio(self.sentence)
            async with asyncio.timeout(60):
                async for event in session:
                    seen += isinstance(event, Frame)
                    if seen == 15:
                        await session.clear()
                        await session.push_audio(self.sentence[:19_200])
                        await session.end_segment()
                    if seen >= 80:
                        break
            self.answers["conversation"] += 1

    async def slow_reader(self):
        """A session that does not read for a while."""
        async with self.client() as client, client.session("mira") as session:
            await session.push_audio(self.sentence)
            await asyncio.sleep(self.dice.uniform(3, 8))
            await session.finish()
            frames = [event async for event in session if isinstance(event, Frame)]
            self.check("slow reader", "mira 0", digest(frames))

    async def crash(self):
        """A client that dies."""
        key = self.server.keys["load"][-1]
        command = [sys.executable, str(ROOT / "tools/soak/crash.py"), self.address, str(self.ca), key]
        child = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await child.wait()
        self.answers["crash"] += child.returncode == -9

    async def manage(self):
        """Load and unload by hand, beside everything else."""
        async with self.client("ops") as client:
            model = f"copy-{self.dice.randrange(1, COPIES + 1)}"
            await client.load_model(model)
            await client.server_stats()
            await client.unload_model(model)
            self.answers["load and unload"] += 1

    async def web(self, folder):
        """Sessions over the WebSocket, by the JavaScript client."""
        speech = folder / "sentence.pcm"
        speech.write_bytes(self.sentence)
        script = str(ROOT / "tools/soak/web.mjs")
        command = ["node", "--experimental-websocket", "--no-warnings", script, self.page, str(speech)]
        child = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            for _ in itertools.count():
                async with self.gate.work():
                    child.stdin.write(self.server.keys["load"][-1].encode() + b"\n")
                    told = json.loads(await child.stdout.readline())
                if "digest" in told:
                    self.check("WebSocket", "mira 0", told["digest"])
                else:
                    self.refusals[f"WebSocket {told['error'][:40]}"] += 1
                await asyncio.sleep(3 / self.intensity)
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    def tasks(self, folder):
        """Everything at once."""
        pauses = [
            ("probe", self.probe, 0.1),
            ("unary", self.unary, 3.0),
            ("unary", self.unary, 4.0),
            ("victim", self.victim, 5.0),
            ("session", self.session, 4.0),
            ("conversation", self.conversation, 2.0),
            ("slow reader", self.slow_reader, 5.0),
            ("crash", self.crash, 10.0),
            ("load and unload", self.manage, 15.0),
        ]
        works = [self.repeat(kind, work, pause) for kind, work, pause in pauses]
        return [asyncio.create_task(work) for work in (*works, self.web(folder))]
