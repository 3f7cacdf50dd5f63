"""A real server of a test's own."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
START_SECONDS = 120


def find_binary() -> Path:
    """LIPSYNC_SERVER_BIN, or what cargo builds."""
    if given := os.environ.get("LIPSYNC_SERVER_BIN"):
        return Path(given)
    subprocess.run(["cargo", "build", "--bin", "lipsync-server"], cwd=REPOSITORY, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    return target / "debug" / "lipsync-server"


@contextmanager
def running(binary: Path, **settings: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a server; yield its address when it has said where it listens."""
    environment = {
        **os.environ,
        "LIPSYNC_SERVER__PORT": "127.0.0.1:0",
        "LIPSYNC_OPERATIONS__ENABLED": "false",
        **{f"LIPSYNC_{key}": value for key, value in settings.items()},
    }
    command = [str(binary), "--config", str(REPOSITORY / "config.yaml")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    # A server that never says where it listens is stopped, which ends the loop below.
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        said = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"gRPC\s+(\S+:\d+)", line):
                break
        else:
            raise AssertionError("the server did not start:\n" + "".join(said))
        watchdog.cancel()
        yield found.group(1), process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
