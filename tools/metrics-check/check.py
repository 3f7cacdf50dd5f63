#!/usr/bin/env python3
"""Checks /metrics with Prometheus itself, under the load test. See README.md."""

import argparse
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Queries of the dashboard that need what a machine may lack.
NEEDS_GPU = "lipsync_gpu_"
SCRAPE_S = 2
# Of fewer observations, the 99th percentile is the largest few.
ENOUGH_FOR_P99 = 500


class Checks:
    """What was checked, and what came of it."""

    def __init__(self):
        self.failed = []
        self.skipped = []

    def note(self, what, ok, detail=""):
        print(f"{'ok    ' if ok else 'FAILED'} {what}" + (f": {detail}" if detail else ""))
        if not ok:
            self.failed.append(what)

    def skip(self, what, why):
        print(f"skip   {what}: {why}")
        self.skipped.append(what)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url, accept="text/plain"):
    request = urllib.request.Request(url, headers={"accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def wait_for(what, look, limit=60):
    until = time.monotonic() + limit
    while time.monotonic() < until:
        try:
            if look():
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"{what} did not come within {limit} s")


def tool(name, folder):
    if folder:
        path = pathlib.Path(folder) / name
        return str(path) if path.exists() else None
    return shutil.which(name)


def samples(text):
    """{(name, sorted labels): value} of Prometheus text."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, value = line.rsplit(" ", 1)
        name, _, labels = name.partition("{")
        labels = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)))
        found[name, labels] = float(value)
    return found


def histogram(found, name, **wanted):
    """Bounds and cumulative counts, summed over the other labels; None without observations."""
    buckets = {}
    for (sample, labels), value in found.items():
        labels = dict(labels)
        if sample == f"{name}_bucket" and all(labels.get(k) == v for k, v in wanted.items()):
            bound = float(labels["le"].replace("+Inf", "inf"))
            buckets[bound] = buckets.get(bound, 0) + value
    buckets = sorted(buckets.items())
    return buckets if buckets and buckets[-1][1] else None


def bucket_of(buckets, quantile):
    """The place of the bucket in which a quantile lies."""
    rank = quantile * buckets[-1][1]
    return next(n for n, (_, count) in enumerate(buckets) if count >= rank)


def place_of(buckets, seconds):
    return next(n for n, (bound, _) in enumerate(buckets) if seconds <= bound)


def compare(checks, what, buckets, quantiles):
    """Quantiles of the load test, ms, against the server's histogram: at most a bucket apart."""
    if buckets is None or quantiles is None:
        checks.note(what, False, "no observations")
        return
    bounds = [bound for bound, _ in buckets]
    n = buckets[-1][1]
    for name, quantile in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]:
        if name == "p99" and n < ENOUGH_FOR_P99:
            continue
        theirs, ours = place_of(buckets, quantiles[name] / 1e3), bucket_of(buckets, quantile)
        low = bounds[ours - 1] * 1e3 if ours else 0
        detail = f"client {quantiles[name]:.1f} ms, server {low:g} to {bounds[ours] * 1e3:g} ms, of {n:g}"
        checks.note(f"{what} {name}", abs(theirs - ours) <= 1, detail)


def load(args, address, folder, more):
    """A run of the load test; its report."""
    report = folder / "report.json"
    command = [args.load_test, "--addr", address, "--quiet", "--json", report, *more]
    # What is not measured is not compared: everything is.
    command += ["--warm-up", "0s", "--duration", f"{args.seconds}s"]
    report.unlink(missing_ok=True)
    # A slow machine fails some calls, which are counted as well: only the report matters.
    subprocess.run(command, stdout=subprocess.DEVNULL)
    return json.loads(report.read_text())


def summary_of(report):
    return report["run"]


def check_unary(checks, args, address, folder, scrape):
    report = summary_of(load(args, address, folder, ["--users", "2", "--profile", "rate", "--rate", args.rate]))
    found = scrape()
    buckets = histogram(found, "lipsync_request_duration_seconds", outcome="ok")
    n = buckets[-1][1] if buckets else 0
    # The load test leaves out what ends after its time is over.
    checks.note("unary calls", 0 <= n - report["ok"] <= 4, f"client {report['ok']}, server {n:g}")
    compare(checks, "unary latency", buckets, report["service_ms"])


def check_sessions(checks, args, address, folder, scrape):
    more = ["--stream", "--pacing", "realtime", "--batch", "1", "--users", "2"]
    report = summary_of(load(args, address, folder, more))
    found = scrape()
    live = report["live"]
    first = histogram(found, "lipsync_first_frame_seconds")
    # The client counts from the first sample, the server from the chunk that brings it: one frame of 40 ms later.
    waits = {name: ms - 40 for name, ms in report["first_frame_ms"].items()}
    compare(checks, "first frame", first, waits)
    compare(checks, "frame interval", histogram(found, "lipsync_frame_interval_seconds"), live["interval_ms"])


def check_scrapes(checks, args, prometheus, scrape):
    """Prometheus came as often as it should have, and has what the server says."""

    def ask(query):
        answer = json.loads(get(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
        return answer["data"]["result"]

    def value(query):
        found = ask(query)
        return float(found[0]["value"][1]) if found else 0.0

    n, expected = value('count_over_time(up{job="lipsync"}[2h])'), 2 * args.seconds / SCRAPE_S
    good, slowest = value('min_over_time(up{job="lipsync"}[2h])'), value("max_over_time(scrape_duration_seconds[2h])")
    n_samples = value("scrape_samples_scraped")
    checks.note("every scrape was good", good == 1, f"{n:g} scrapes, the slowest {slowest * 1e3:.0f} ms, {n_samples:g} samples")
    checks.note("none was left out", n >= 0.95 * expected, f"{n:g} of {expected:g}")
    for name in ["lipsync_request_duration_seconds", "lipsync_first_frame_seconds", "lipsync_frame_interval_seconds"]:
        theirs = {float(of["metric"]["le"]): float(of["value"][1]) for of in ask(f"sum by (le) ({name}_bucket)")}
        ours = dict(histogram(scrape(), name) or [])
        checks.note(f"Prometheus has the server's {name}", theirs == ours and bool(ours), f"{max(ours.values(), default=0):g}")


def check_texts(checks, args, scrape_url):
    promtool = tool("promtool", args.tools)
    if promtool is None:
        checks.skip("promtool", "there is no promtool (Debian: apt-get install prometheus)")
    else:
        # Triton's names are not ours to mend: its counters have no `_total`.
        lines = get(scrape_url).splitlines(keepends=True)
        text = "".join(line for line in lines if not re.match(r"(# \w+ )?nv_", line))
        done = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True)
        detail = (done.stdout + done.stderr).strip()
        checks.note("promtool check metrics", done.returncode == 0 and not detail, detail)
        for command in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]]:
            where = ROOT / "deploy" / "prometheus"
            done = subprocess.run([promtool, *command], cwd=where, text=True, capture_output=True)
            checks.note(f"promtool {' '.join(command)}", done.returncode == 0, (done.stderr).strip())
    try:
        from prometheus_client.openmetrics import parser as open_metrics
        from prometheus_client import parser as plain
    except ImportError:
        checks.skip("OpenMetrics parser", "there is no prometheus_client (pip install prometheus_client)")
        return
    text = get(scrape_url, "application/openmetrics-text;version=1.0.0")
    families = list(open_metrics.text_string_to_metric_families(text))
    checks.note("OpenMetrics parser", len(families) > 40, f"{len(families)} families")
    families = list(plain.text_string_to_metric_families(get(scrape_url)))
    checks.note("text parser", len(families) > 40, f"{len(families)} families")


def check_dashboard(checks, prometheus):
    for file in sorted((ROOT / "deploy" / "grafana").glob("*.json")):
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                query = target["expr"]
                query = query.replace("$__rate_interval", "30s").replace("$instance", ".*")
                query = query.replace("$model", ".*").replace("$tenant", ".*").replace("$job", "lipsync")
                url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
                answer = json.loads(get(url))
                ok = answer["status"] == "success" and bool(answer["data"]["result"])
                what = f"query of {panel['title']!r}"
                if not ok and NEEDS_GPU in query:
                    checks.skip(what, "no GPU here")
                else:
                    checks.note(what, ok, "" if ok else query)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30, help="of each load [default: 30]")
    parser.add_argument("--rate", default="5", help="unary calls a second [default: 5]")
    parser.add_argument("--tools", help="folder of prometheus and promtool [default: look in PATH]")
    parser.add_argument("--server", default=ROOT / "target/release/lipsync-server")
    parser.add_argument("--load-test", default=ROOT / "target/release/lipsync-load-test")
    parser.add_argument("--model", default="mira")
    args = parser.parse_args()
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        run(checks, args, pathlib.Path(folder))
    print(f"{len(checks.failed)} failed, {len(checks.skipped)} left out")
    sys.exit(1 if checks.failed else 0)


def run(checks, args, folder):
    grpc, page, prom = free_port(), free_port(), free_port()
    # A copy of the project's own configuration, on ports of its own.
    command = [args.server, "serve", "--config", ROOT / "config.yaml"]
    environment = {
        "PATH": "/usr/bin:/bin",
        "LIPSYNC_SERVER__PORT": f"127.0.0.1:{grpc}",
        "LIPSYNC_OPERATIONS__PORT": f"127.0.0.1:{page}",
        "LIPSYNC_LOGGING__CALLS": "none",
    }
    server_log = open(folder / "server.log", "w")
    running = [subprocess.Popen(command, env=environment, stdout=server_log, stderr=server_log)]
    scrape_url = f"http://127.0.0.1:{page}/metrics"
    try:
        wait_for("the server", lambda: "lipsync_phase{phase=\"serving\"} 1" in get(scrape_url))
        prometheus = tool("prometheus", args.tools)
        if prometheus is None:
            checks.skip("scrapes by Prometheus", "there is no prometheus (Debian: apt-get install prometheus)")
        else:
            config = folder / "prometheus.yml"
            target = f"127.0.0.1:{page}"
            config.write_text(
                f"global: {{scrape_interval: {SCRAPE_S}s}}\nscrape_configs:\n"
                f"  - {{job_name: lipsync, static_configs: [{{targets: [\"{target}\"]}}]}}\n"
            )
            running.append(subprocess.Popen(
                [prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
                 f"--web.listen-address=127.0.0.1:{prom}"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ))
            wait_for("Prometheus", lambda: get(f"http://127.0.0.1:{prom}/-/ready"))
        address, scrape = f"127.0.0.1:{grpc}", lambda: samples(get(scrape_url))
        check_unary(checks, args, address, folder, scrape)
        check_sessions(checks, args, address, folder, scrape)
        check_texts(checks, args, scrape_url)
        if prometheus is not None:
            # What ended last is in the next scrape.
            time.sleep(2 * SCRAPE_S)
            check_scrapes(checks, args, f"http://127.0.0.1:{prom}", scrape)
            check_dashboard(checks, f"http://127.0.0.1:{prom}")
    finally:
        for process in running:
            process.terminate()
            process.wait(timeout=30)
        server_log.close()


if __name__ == "__main__":
    main()
