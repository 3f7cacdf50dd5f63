"""The server under test: its folder, its configuration, which changes while it runs, and its process."""

import contextlib
import hashlib
import os
import pathlib
import re
import secrets
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

from figures import Sample

ROOT = pathlib.Path(__file__).resolve().parents[2]
AVATARS = ROOT / "assets/avatars"
TLS = ROOT / "tests/data/tls"
COPIES = 5
"""Models with one network under several ids, of which not all fit: the same answers, whoever was evicted."""
RESIDENT = 4
START_S = 120


class Server:
    """A process with TLS, two tenants, and a configuration of its own."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.keys = {"load": [secrets.token_hex(16)], "ops": [secrets.token_hex(16)]}
        self.max_sessions = 64
        self.certificate = 1
        self.process = None
        self.started = time.monotonic()
        self.log = folder / "server.log"
        # Files in here ask for faults.
        self.faults = folder / "faults"
        self.faults.mkdir()
        self.clock = folder / "clock"
        self.set_clock(0)
        self.has_clock = self._build_clock()
        for n in range(1, COPIES + 1):
            shutil.copytree(AVATARS / "mira", folder / f"copy-{n}")
        shutil.copytree(AVATARS / "mira", folder / "victim")
        # Packs go to a disk that is soon full.
        self.disk = folder / "small-disk"
        self.disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", self.disk], capture_output=True
        )
        self.has_disk = mounted.returncode == 0
        (folder / "ca.pem").write_bytes((TLS / "ca.pem").read_bytes() + (TLS / "ca-2.pem").read_bytes())
        self.use_certificate(1)

    def use_certificate(self, n):
        """Put another certificate in place; the server reads it by itself."""
        self.certificate = n
        suffix = "" if n == 1 else "-2"
        for name in ("server", "server-key"):
            source = TLS / (f"server{suffix}.pem" if name == "server" else f"server{suffix}-key.pem")
            fresh = self.folder / f"{name}.new"
            shutil.copy(source, fresh)
            fresh.replace(self.folder / f"{name}.pem")

    def _build_clock(self):
        """The library that moves the server's clock, where there is a C compiler."""
        source = ROOT / "tools/soak/clock.c"
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", self.folder / "clock.so", source, "-ldl"]
        try:
            return subprocess.run(command, check=False).returncode == 0
        except OSError:
            return False

    def set_clock(self, offset_s):
        """Move the server's wall clock; in place, as it is mapped."""
        mode = "r+b" if self.clock.exists() else "wb"
        with self.clock.open(mode) as file:
            file.write(struct.pack("=q", offset_s))

    def environment(self):
        """Of the process."""
        own = {"FAULTS": str(self.faults), "CLOCK_OFFSET": str(self.clock)}
        if self.has_clock:
            own["LD_PRELOAD"] = str(self.folder / "clock.so")
        # A backtrace keeps the debug information in memory for good, some 170 MB: that is for who asks for it.
        inherited = {name: value for name, value in os.environ.items() if name != "RUST_BACKTRACE"}
        return {**inherited, **own}

    def write_config(self):
        """Write what is in force from the next reload on."""

        def keys(tenant):
            lines = [
                f"      key-{n}: {{sha256: {hashlib.sha256(key.encode()).hexdigest()}}}"
                for n, key in enumerate(self.keys[tenant])
            ]
            return "\n".join(lines)

        models = [f"  mira: {{path: {AVATARS / 'mira'}, preload: true}}", f"  tomo: {{path: {AVATARS / 'tomo'}}}"]
        models += [f"  copy-{n}: {{path: copy-{n}}}" for n in range(1, COPIES + 1)]
        models += ["  victim: {path: victim}"]
        text = f"""
server:
  port: "127.0.0.1:0"
  peer_share_percent: 100
  tenant_share_percent: 100
  load_reports: true
  tls: {{cert: server.pem, key: server-key.pem}}
operations: {{port: "127.0.0.1:0"}}
capacity: {{max_models: {RESIDENT}}}
cache_dir: small-disk
session: {{max_sessions: {self.max_sessions}, idle_timeout_s: 60, send_timeout_s: 20}}
logging: {{calls: errors}}
tenants:
  load:
    keys:
{keys("load")}
  ops:
    admin: true
    keys:
{keys("ops")}
models:
{chr(10).join(models)}
"""
        fresh = self.folder / "config.new"
        fresh.write_text(text)
        fresh.replace(self.folder / "config.yaml")

    def reload(self):
        """Write the configuration, and say so."""
        self.write_config()
        self.process.send_signal(signal.SIGHUP)

    def start(self):
        """Start it; return the gRPC address and that of the page."""
        self.write_config()
        command = [self.binary, "--config", self.folder / "config.yaml"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment()
            )
        watchdog = threading.Timer(START_S, self.process.kill)
        watchdog.start()
        found = {}
        for line in self.process.stdout:
            sys.stderr.write(f"  {line}")
            for name, pattern in (("grpc", r"gRPC\s+(\S+:\d+)"), ("page", r"[Pp]age\s+(https?://\S+)")):
                if match := re.search(pattern, line):
                    found[name] = match.group(1)
            if len(found) == 2:
                break
        watchdog.cancel()
        if len(found) < 2:
            raise SystemExit(f"the server did not start; its log:\n{self.log.read_text()[-2000:]}")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        return found["grpc"], found["page"]

    def sample(self, at_s):
        """What the process has now."""
        proc = pathlib.Path(f"/proc/{self.process.pid}")
        status = (proc / "status").read_text()

        def field(name):
            return int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE).group(1))

        descriptors = len(os.listdir(proc / "fd"))
        return Sample(at_s, field("VmRSS") / 1024, descriptors, field("Threads"))

    def stop(self):
        """Drain; return the exit code."""
        code = None
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                code = self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                code = self.process.wait()
        if self.has_disk:
            subprocess.run(["umount", "-l", self.disk], check=False)
        return code

    @contextlib.contextmanager
    def without_frames(self):
        """Take the victim's pictures away, and give them back."""
        frames = self.folder / "victim/frames"
        away = self.folder / "frames-away"
        frames.rename(away)
        try:
            yield
        finally:
            away.rename(frames)
