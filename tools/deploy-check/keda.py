#!/usr/bin/env python3
"""Asks a real Prometheus what KEDA would ask it: the queries of the ScaledObject, while a load test runs.

    python tools/deploy-check/keda.py --tools FOLDER_OF_PROMETHEUS [--seconds 30]

Needs pyyaml, prometheus, and the two release programs. Ends with 1 if a query gives no number, or sessions are not seen.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "deploy/kubernetes/lipsync-server.yaml"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def text_of(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def wait_for(what, look, limit_s=90):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            if look():
                return
        except OSError:
            pass
        time.sleep(0.3)
    raise SystemExit(f"error: {what} is not there after {limit_s} s")


def triggers():
    """Name, query and threshold of each trigger."""
    objects = yaml.safe_load_all(MANIFEST.read_text())
    scaled = next(o for o in objects if o and o["kind"] == "ScaledObject")
    return [(t["name"], t["metadata"]["query"], float(t["metadata"]["threshold"])) for t in scaled["spec"]["triggers"]]


def ask(prometheus, query):
    """The number that KEDA would get, or None."""
    url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    result = json.loads(text_of(url))["data"]["result"]
    return float(result[0]["value"][1]) if len(result) == 1 else None


def run(args, folder, children):
    """Start everything, ask, and print a table; whether all is well."""
    grpc, page, port = free_port(), free_port(), free_port()
    settings = {
        "LIPSYNC_SERVER__PORT": f"127.0.0.1:{grpc}",
        "LIPSYNC_OPERATIONS__PORT": f"127.0.0.1:{page}",
        "LIPSYNC_CAPACITY__BAKE": "off",
    }
    config = folder / "prometheus.yml"
    # The labels that the ServiceMonitor's targets have.
    labels = {"namespace": "lipsync", "service": "lipsync-server", "pod": "lipsync-server-0"}
    target = [{"targets": [f"127.0.0.1:{page}"], "labels": labels}]
    scrapes = [{"job_name": "lipsync-server", "static_configs": target}]
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "2s"}, "scrape_configs": scrapes}))
    program = shutil.which("prometheus", path=args.tools)
    prometheus = f"http://127.0.0.1:{port}"
    commands = [
        [args.server],
        [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"],
    ]
    with (folder / "log").open("wb") as log:
        for command in commands:
            children.append(subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log))
    wait_for("the server", lambda: "lipsync_sessions" in text_of(f"http://127.0.0.1:{page}/metrics"))
    wait_for("a scrape", lambda: ask(prometheus, "up") == 1)
    time.sleep(5)
    before = {name: ask(prometheus, query) for name, query, _ in triggers()}
    load = [args.load_test, "--addr", f"127.0.0.1:{grpc}", "--quiet", "--model", "mira", "--users", "4", "--stream"]
    load += ["--duration", f"{args.seconds}s"]
    children.append(subprocess.Popen(load, cwd=ROOT, stdout=subprocess.DEVNULL))
    most = dict(before)
    while children[-1].poll() is None:
        time.sleep(2)
        for name, query, _ in triggers():
            if (found := ask(prometheus, query)) is not None:
                most[name] = max(most[name] or 0, found)
    print("| trigger | at rest | most under load | threshold |\n|---|---|---|---|")
    for name, _, threshold in triggers():
        print(f"| {name} | {before[name]} | {most[name]} | {threshold:g} |")
    return all(value is not None for value in before.values()) and most["sessions"] > 0 and most["queue-wait"] > 0


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", help="folder of prometheus [default: look in PATH]")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--server", type=pathlib.Path, default=ROOT / "target/release/lipsync-server")
    parser.add_argument("--load-test", type=pathlib.Path, default=ROOT / "target/release/lipsync-load-test")
    args = parser.parse_args()
    children = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            is_good = run(args, pathlib.Path(folder), children)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait()
    print(f"verdict: {'passed' if is_good else 'FAILED'}")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
