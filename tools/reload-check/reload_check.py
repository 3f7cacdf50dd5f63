"""Edits the configuration of a running server thirty times while eight sessions speak, then once more so that calls fail.

    pip install ./clients/python
    cargo build --release --bin lipsync-server
    python tools/reload-check/reload_check.py [--server target/release/lipsync-server]

Edits are good and bad, half-written, swapped by a link as Kubernetes does it; they take away a model in use, change a port
and the keys of tenants. The server reads each by itself. Each must be in force, or refused, within 2 s, and no session may
lose a frame or get another than without edits. In the end an edit under which calls fail is taken back by the server.
Prints a line for each edit and a verdict. Exit status 0: all as it should be.
"""

import argparse
import collections
import hashlib
import json
import math
import os
import pathlib
import queue
import random
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

import grpc
from lipsync_client.v1 import lipsync_pb2 as pb
from lipsync_client.v1 import lipsync_pb2_grpc as rpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
N_USERS, N_FRAMES, RATE = 8, 5, 16000
LIMIT_S, PATIENCE_S = 2.0, 60
ADMIN, OLD, NEW = "key-of-the-admin-1", "key-of-one-old-123", "key-of-one-new-123"
failures = []


def fail(what):
    failures.append(what)
    print(f"FAIL {what}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def voice():
    """The same made-up vowel for every segment."""
    n = N_FRAMES * RATE // 25
    chance = random.Random(1)
    tone = [math.sin(2 * math.pi * 140 * t / RATE) * math.sin(math.pi * t / n) + chance.gauss(0, 0.05) for t in range(n)]
    return b"".join(struct.pack("<h", round(12_000 * max(-1, min(1, x)))) for x in tone)


class Frames:
    """What each frame of a session is: the same for all sessions, because all say the same."""

    def __init__(self):
        self.lock, self.seen, self.n = threading.Lock(), {}, collections.Counter()

    def take(self, user, frame):
        digest = hashlib.sha256(frame.data).digest()
        with self.lock:
            if frame.frame_index != self.n[user]:
                fail(f"user {user}: frame {frame.frame_index} after {self.n[user]} frames")
            self.n[user] += 1
            if self.seen.setdefault(frame.frame_index, digest) != digest:
                fail(f"user {user}: frame {frame.frame_index} is another")


class Speaker(threading.Thread):
    """A session that says one segment after the other until it may stop."""

    def __init__(self, stub, user, frames, n_segments=None):
        super().__init__(daemon=True)
        self.stub, self.user, self.frames, self.n_segments = stub, user, frames, n_segments
        self.said, self.may_stop, self.error, self.orders = 0, False, None, queue.Queue()
        self.start()

    def say(self):
        self.said += 1
        self.orders.put(pb.StreamCompositeRequest(audio=pb.AudioChunk(segment_id=self.said, pcm=VOICE)))
        self.orders.put(pb.StreamCompositeRequest(end_segment=pb.EndSegment(segment_id=self.said)))

    def run(self):
        opening = pb.OpenSession(model_id="mira", sample_rate_hz=RATE, channels=1)
        opening.audio_input, opening.encoding = pb.AUDIO_INPUT_PCM, pb.PCM_ENCODING_S16LE
        self.orders.put(pb.StreamCompositeRequest(open=opening))
        self.say()
        try:
            n = 0
            for answer in self.stub.StreamComposite(iter(self.orders.get, None), metadata=bearer(OLD)):
                if answer.HasField("frame"):
                    self.frames.take(self.user, answer.frame)
                    n += 1
                elif answer.HasField("segment_end"):
                    if n != N_FRAMES:
                        fail(f"user {self.user}: {n} frames in segment {self.said}")
                    n = 0
                    if self.may_stop or self.said == self.n_segments:
                        self.orders.put(None)
                    else:
                        self.say()
        except grpc.RpcError as error:
            fail(f"user {self.user}: {error.code().name} {error.details()}")


def bearer(key):
    return [("authorization", f"Bearer {key}")]


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


class Server:
    """A server with a file that can be edited, laid out as a ConfigMap: a link into a folder that is a link."""

    def __init__(self, stack, binary):
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.file, self.n_turns = self.folder / "config.yaml", 0
        self.port, self.page = free_port(), free_port()
        (self.folder / "cache").mkdir()
        self.turn(self.text())
        self.file.symlink_to("..data/config.yaml")
        self.log = self.folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen([binary, "--config", self.file], stdout=log, stderr=log)
        stack.callback(self.process.wait)
        stack.callback(self.process.terminate)
        self.until("it serves", lambda: "mira" in self.get("/api/models"))

    def text(self, more="", models="mira: {path: mira, preload: true}, tomo: {path: tomo}", keys=(OLD,), server=""):
        """A configuration; `server` and `more` are what it has besides."""
        pairs = ", ".join(f"k{n}: {{sha256: {digest(key)}}}" for n, key in enumerate(keys))
        return (
            f"models_root: {ROOT}/assets/avatars\ncache_dir: cache\ncapacity: {{bake: off}}\nmodels: {{{models}}}\n"
            f"server: {{port: '127.0.0.1:{self.port}'{server}}}\noperations: {{port: '127.0.0.1:{self.page}'}}\n"
            f"tenants:\n  one: {{keys: {{{pairs}}}}}\n  ops: {{admin: true, keys: {{k: {{sha256: {digest(ADMIN)}}}}}}}\n{more}"
        )

    def turn(self, text):
        """Swaps the folder that the link leads to."""
        self.n_turns += 1
        data = self.folder / f"..data_{self.n_turns}"
        data.mkdir()
        (data / "config.yaml").write_text(text)
        draft = self.folder / "..data_tmp"
        draft.symlink_to(data.name)
        draft.rename(self.folder / "..data")

    def put(self, text):
        """Puts another file in the place of this one."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(text)
        draft.rename(self.file)

    def write(self, text):
        """Writes into the file, as an editor may."""
        self.file.unlink(missing_ok=True)
        self.file.write_text(text)

    def get(self, path):
        request = urllib.request.Request(f"http://127.0.0.1:{self.page}{path}", headers=dict(bearer(ADMIN)))
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def stats(self):
        return json.loads(self.get("/api/stats"))["server"]["reload"]

    def until(self, what, is_so):
        begun = time.monotonic()
        while not (found := is_so()):
            if time.monotonic() > begun + PATIENCE_S or self.process.poll() is not None:
                raise SystemExit(f"still waiting until {what}: {self.log.read_text()[-3000:]}")
            time.sleep(0.02)
        return found


def code(stub, model, key):
    """How a call of one frame ends."""
    pcm = pb.Pcm(samples=VOICE[: 2 * RATE // 25], sample_rate_hz=RATE)
    request = pb.InferBatchCompositeRequest(model_id=model, pcm=pcm)
    try:
        stub.InferBatchComposite(request, metadata=bearer(key), timeout=PATIENCE_S)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


def edits(server):
    """What is done, what must come of it, and what must be so then: (model, key, code) of a call, or keys that need a restart."""
    text, good, bad = server.text, "applied", "refused"
    both = "mira: {path: mira, preload: true}, tomo: {path: tomo}"
    half = text("output: {jpeg_quality: 70}\n")
    return [
        ("a hot key", server.put, text(server=", max_batch_frames: 63"), good, None),
        ("the same by a link that is swapped", "turn", text(server=", max_batch_frames: 62"), good, None),
        ("a value out of range", server.put, text("output: {jpeg_quality: 850}\n"), bad, None),
        ("an unknown key", server.put, text("sever: {}\n"), bad, None),
        ("half of a file", server.write, half[: len(half) - 25], bad, None),
        ("the whole of it", server.write, half, good, None),
        ("not YAML", server.put, text("\t- {"), bad, None),
        ("an empty file", server.put, " \n", bad, None),
        ("a model in use is gone", server.put, text(models="tomo: {path: tomo}"), good, ("mira", OLD, "NOT_FOUND")),
        ("it is back", server.put, text(), good, ("mira", OLD, "OK")),
        ("another port", server.put, text().replace(str(server.port), "1"), good, ["server.port"]),
        ("the old port", server.put, text() + "# again\n", good, []),
        ("a second key", server.put, text(keys=(OLD, NEW)), good, ("tomo", NEW, "OK")),
        ("the first is gone", server.put, text(keys=(NEW,)), good, ("tomo", OLD, "UNAUTHENTICATED")),
        ("a key that is none", server.put, text().replace(digest(OLD), "abc"), bad, ("tomo", NEW, "OK")),
        ("the first key alone", server.put, text(), good, ("tomo", NEW, "UNAUTHENTICATED")),
        ("a port that is no number", server.put, text().replace(str(server.port), "fifty"), bad, None),
        ("more workers", server.put, text(server=", worker_count: 9"), good, ["server.worker_count"]),
        ("PNG for those who do not say", server.put, text("output: {format: png}\n"), good, None),
        ("fewer sessions than are open", server.put, text("session: {max_sessions: 1}\n"), good, None),
        ("a duplicate key", server.put, text("capacity: {}\n"), bad, None),
        ("a model that is nowhere", server.put, text(models=f"{both}, x: {{path: nowhere}}"), good, ("x", OLD, "FAILED_PRECONDITION")),
        ("all avatars of the folder", server.put, text("scan_models_root: true\n"), good, None),
        ("a level that is none", server.put, text("logging: {level: verbose}\n"), bad, None),
        ("a quota", server.put, text().replace("one: {", "one: {frames_per_second: 100, "), good, None),
        ("a quota of a thousand million", server.put, text().replace("one: {", "one: {max_sessions: 1000000000, "), bad, None),
        ("no section that has an effect", server.put, text("# nothing\n"), good, None),
        ("a link again", "turn", text("output: {jpeg_quality: 71}\n"), good, None),
        ("the model has other settings", server.put, text(models="mira: {path: mira, fps: 30}, tomo: {path: tomo}"), good, None),
        ("all as it was", server.put, text("# the end\n"), good, ("mira", OLD, "OK")),
    ]


def edit(server, stub, what, act, text, outcome, then):
    """One edit; the seconds until the server had read it."""
    before = server.stats()
    if act == "turn":
        # The file may be a plain one by now. It is a link again, to what it says already.
        server.turn(server.file.read_text())
        draft = server.file.with_suffix(".draft")
        draft.symlink_to("..data/config.yaml")
        draft.rename(server.file)
        act = server.turn
    begun = time.monotonic()
    act(text)
    total = before["applied"] + before["refused"]
    # Where only keys have changed that wait for a restart, nothing is put in force and nothing is counted.
    waits = isinstance(then, list)

    def is_read(now):
        return now["needs_restart"] == then if waits else now["applied"] + now["refused"] > total

    after = server.until(what, lambda: is_read(now := server.stats()) and now)
    took = time.monotonic() - begun
    if not waits and after[outcome] != before[outcome] + 1:
        fail(f"{what}: expected {outcome}, found {before} to {after}")
    if took > LIMIT_S:
        fail(f"{what}: it took {took:.1f} s")
    if isinstance(then, tuple) and (found := code(stub, *then[:2])) != then[2]:
        fail(f"{what}: expected a call to end with {then[2]}, found {found}")
    print(f"{outcome:7} after {took:.2f} s: {what}")
    return took


def roll_back(server, stub):
    """An edit under which calls fail is taken back."""
    for _ in range(30):
        if (found := code(stub, "tomo", OLD)) != "OK":
            fail(f"before the regression: {found}")
    server.put(server.text(server=", request_timeout_ms: 1"))
    server.until("it is on trial", lambda: server.stats()["on_trial"])
    begun, n_failed = time.monotonic(), 0
    while server.stats()["rolled_back"] == 0 and time.monotonic() < begun + PATIENCE_S:
        n_failed += code(stub, "tomo", OLD) == "DEADLINE_EXCEEDED"
    took = time.monotonic() - begun
    if server.stats()["rolled_back"] != 1:
        return fail("the regression was not taken back")
    if (found := code(stub, "tomo", OLD)) != "OK":
        fail(f"after the roll-back: {found}")
    print(f"rolled back after {took:.1f} s and {n_failed} calls that failed")
    said = [line for line in server.log.read_text().splitlines() if "rolled back" in line.lower() or "rollback" in line]
    print("\n".join(said))
    if not said:
        fail("the log does not say that it was rolled back")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="target/release/lipsync-server")
    binary = str(pathlib.Path(parser.parse_args().server).resolve())
    with ExitStack() as stack:
        server = Server(stack, binary)
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.port}"))
        stub, frames = rpc.LipSyncStub(channel), Frames()
        # Its page answers before its models are loaded.
        server.until("it answers calls", lambda: code(stub, "mira", OLD) == "OK")
        users = [Speaker(stub, user, frames) for user in range(N_USERS)]
        server.until("all speak", lambda: all(frames.n[user] > 0 for user in range(N_USERS)))
        took = []
        for one in edits(server):
            said = dict(frames.n)
            took.append(edit(server, stub, *one))
            # Each says something more, so that the edit falls between its words.
            server.until("all go on", lambda: failures or all(frames.n[u] > said[u] for u in range(N_USERS)))
        for user in users:
            user.may_stop = True
        for user in users:
            user.join(PATIENCE_S)
        n, longest = sum(frames.n.values()), max(took)
        # One that nobody disturbs has the same frames.
        alone = Speaker(stub, N_USERS, frames, n_segments=min(40, min(user.said for user in users)))
        alone.join(PATIENCE_S)
        print(f"{len(took)} edits, {N_USERS} sessions, {n} frames, {frames.n[N_USERS]} compared with a session alone; longest {longest:.2f} s")
        roll_back(server, stub)
    print(f"{len(failures)} failed")
    raise SystemExit(1 if failures else 0)


VOICE = voice()
if __name__ == "__main__":
    main()
