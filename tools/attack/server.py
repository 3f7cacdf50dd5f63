"""The server under test: its configuration, its process, and what /proc says of it."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time

import children

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of the tests: for `localhost` and `127.0.0.1`.
CERTIFICATES = ROOT / "tests/data/tls"
# `server.shutdown_grace_s` of every server under test.
GRACE_S = 10


def free_ports(n):
    """Ports of the loopback that nobody listens on, all different."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def copy_avatars(folder):
    """Copies the two demo avatars, so that no attack touches those of the checkout."""
    for name in ("mira", "tomo"):
        shutil.copytree(
            ROOT / "assets/avatars" / name,
            folder / "avatars" / name,
            ignore=shutil.ignore_patterns("*.pack*"),
        )


def sample(pid):
    """Memory in MB, threads and descriptors of a process; None when it is gone."""
    try:
        status = dict(
            line.split(":", 1)
            for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":" in line
        )
        return {
            "rss": int(status["VmRSS"].split()[0]) / 1024,
            "peak": int(status["VmHWM"].split()[0]) / 1024,
            "threads": int(status["Threads"]),
            "fds": len(os.listdir(f"/proc/{pid}/fd")),
        }
    except (OSError, KeyError):
        return None


def http_get(port, path, timeout=5, limit=1 << 26):
    """The answer to one HTTP/1.1 request, head and body."""
    with socket.create_connection(("127.0.0.1", port), timeout) as s:
        s.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
        )
        out = b""
        while len(out) < limit and (part := s.recv(1 << 16)):
            out += part
    return out


class Sampler(threading.Thread):
    """Samples a process until it is stopped, and keeps the largest values."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.stopped = pid, {}, threading.Event()
        self.start()

    def run(self):
        while not self.stopped.wait(0.05) and (now := sample(self.pid)):
            for key, value in now.items():
                self.most[key] = max(value, self.most.get(key, 0))

    def stop(self):
        self.stopped.set()
        self.join()
        return self.most


class Server:
    """A server with a configuration of its own, on free ports. Use it as a context: it never outlives it."""

    def __init__(
        self,
        binary,
        folder,
        options=None,
        models=None,
        limits=None,
        stdout=None,
        stderr=None,
        wait=True,
        tls=False,
    ):
        self.port, self.ops = free_ports(2)
        self.folder, self.log = folder, folder / f"server-{self.port}.log"
        path = folder / f"server-{self.port}.yaml"
        self.ca = str(CERTIFICATES / "ca.pem") if tls else None
        # JSON is YAML.
        path.write_text(json.dumps(self._config(options or {}, models)))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LIPSYNC_")}

        def prepare():
            for which, value in (limits or {}).items():
                resource.setrlimit(which, (value, value))

        with open(self.log, "w") as log:
            self.process = children.start(
                [str(binary), "--config", str(path)],
                prepare=prepare,
                env=environment,
                stdout=stdout if stdout is not None else subprocess.DEVNULL,
                stderr=stderr if stderr is not None else log,
            )
        self.pid = self.process.pid
        try:
            if wait:
                self._wait_until_ready()
        except BaseException:
            children.end(self.process)
            raise

    def _config(self, options, models):
        config = {
            "server": {"port": f"127.0.0.1:{self.port}", "shutdown_grace_s": GRACE_S},
            "operations": {"port": f"127.0.0.1:{self.ops}"},
            # Packs and caches would grow while the attack is measured.
            "capacity": {"bake": "off"},
            "engine": {"visual_cache_mb": 64},
            "models_root": str(self.folder / "avatars"),
            "models": models
            or {
                "mira": {"path": "mira", "preload": True},
                "tomo": {"path": "tomo", "preload": True},
            },
        }
        if self.ca:
            files = {"cert": "server.pem", "key": "server-key.pem"}
            config["server"]["tls"] = {k: str(CERTIFICATES / v) for k, v in files.items()}
        for section, keys in options.items():
            config.setdefault(section, {}).update(keys)
        return config

    def _wait_until_ready(self, timeout=60):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"the server exited with {self.process.returncode}: {self.tail()}"
                )
            try:
                if b" 200 " in http_get(self.ops, "/readyz")[:20]:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError("the server did not become ready")

    def alive(self):
        return self.process.poll() is None

    def sample(self):
        return sample(self.pid)

    def reset_peak(self):
        """Lets VmHWM count from now."""
        with contextlib.suppress(OSError):
            pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def tail(self, n=300):
        try:
            return self.log.read_text(errors="replace")[-n:].strip()
        except OSError:
            return ""

    def drain(self, timeout=GRACE_S + 15):
        """Sends SIGTERM; the exit code (None: still there after `timeout`) and the seconds that it took."""
        start = time.monotonic()
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        return code, time.monotonic() - start

    def __enter__(self):
        return self

    def __exit__(self, *_):
        children.end(self.process)
