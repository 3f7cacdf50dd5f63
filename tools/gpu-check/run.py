"""Checks and measures everything that needs a GPU, and prints one table.

Usage: python3 run.py [--quick] [--out results.json]

Runs where `pack.sh`'s file was unpacked: the engine's own checks and speeds (bin/gpu_check), the same once more under
compute-sanitizer where that is installed, PyTorch on the same networks, and the server under the load test. A
step that fails or cannot run is said so, and the others go on. Exit code: 0 all is right, 1 something is wrong,
3 there is no GPU and nothing was run.
"""

import argparse
import datetime
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
NETWORKS = ["networks/328-ave.onnx", "mira/generator.onnx"]
# Tools that come with CUDA are not always on the path.
SANITIZERS = ["compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer"]


class Step:
    """What came of one command."""

    def __init__(self, name, command, limit_s):
        print(f"-- {name}: {' '.join(map(str, command))}", file=sys.stderr, flush=True)
        self.name = name
        begun = time.monotonic()
        try:
            done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=limit_s)
            self.code, self.output, self.errors = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            self.code, self.output, self.errors = None, "", f"not done after {limit_s} s"
        except OSError as error:
            self.code, self.output, self.errors = None, "", str(error)
        self.seconds = time.monotonic() - begun

    def result(self):
        """Its JSON, if it printed some, and how it ended."""
        try:
            found = json.loads(self.output)
        except ValueError:
            found = None
        tail = self.errors[-2000:]
        return {"step": self.name, "exit_code": self.code, "seconds": self.seconds, "found": found, "errors": tail}


def gpu():
    """What nvidia-smi says of the first GPU, or a sentence why there is none."""
    if not shutil.which("nvidia-smi"):
        return None, "There is no NVIDIA driver here (nvidia-smi is not found)."
    query = "--query-gpu=name,driver_version,memory.total,compute_cap,power.limit"
    step = Step("nvidia-smi", ["nvidia-smi", query, "--format=csv,noheader"], 60)
    if step.code != 0 or not step.output.strip():
        return None, f"nvidia-smi sees no GPU: {(step.output + step.errors).strip()}"
    return step.output.strip().splitlines()[0], None


def engine(quick):
    flags = ["--quick", "--seconds", "0.2"] if quick else []
    return Step("engine", ["bin/gpu_check", *flags, *NETWORKS], 1800).result()


def sanitizer():
    tool = next((tool for tool in SANITIZERS if shutil.which(tool)), None)
    if not tool:
        return {"step": "compute-sanitizer", "skipped": "compute-sanitizer is not installed"}
    command = [tool, "--error-exitcode", "99", "bin/gpu_check", "--quick", "--seconds", "0.05", NETWORKS[1]]
    step = Step("compute-sanitizer", command, 1800)
    # It prints its own lines around the program's.
    return {**step.result(), "output": step.output[-2000:]}


def peer(quick):
    results = []
    for network in NETWORKS:
        for batches in ["1"] if quick else ["1,8,16,64"]:
            out = HERE / "peer.json"
            out.unlink(missing_ok=True)
            command = [sys.executable, "peer.py", network, "--batches", batches, "--json", out]
            result = Step(f"peer {network}", command, 3600).result()
            if out.exists():
                result["found"] = {"network": network, **json.loads(out.read_text())}
            results.append(result)
    return results


def wait_for(server, seconds):
    """Until the banner has been printed, or the server has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        line = server.stdout.readline()
        if line.strip().startswith("gRPC"):
            return True
    return False


def load_test(model, quick):
    """The server with 8 workers, and as many conversations as it carries."""
    name = f"server {model}"
    pipe = subprocess.PIPE
    log = open(HERE / "server.log", "w")
    server = subprocess.Popen(["bin/lipsync-server"], cwd=HERE, stdout=pipe, stderr=log, text=True)
    try:
        if not wait_for(server, 300):
            log.flush()
            tail = (HERE / "server.log").read_text()[-2000:]
            return {"step": name, "exit_code": server.poll(), "found": None, "errors": tail}
        out = HERE / "load.json"
        out.unlink(missing_ok=True)
        search = ["--find-max-users", "--slo-p95-ms", "200", "--profile", "conversational"]
        few = ["--users", "4", "--profile", "saturate", "--duration", "3s"]
        command = ["bin/lipsync-load-test", "--model", model, "--json", out, *(few if quick else search)]
        step = Step(name, command, 3600)
        result = {**step.result(), "text": step.output[-4000:]}
        if out.exists():
            result["found"] = json.loads(out.read_text())
        return result
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def rows(results):
    """The table: what, figure."""
    for result in results:
        found = result.get("found") or {}
        name = result["step"]
        if "skipped" in result:
            yield name, result["skipped"]
            continue
        # The load test says with 3 that not even one user was served.
        state = "passed" if result["exit_code"] == 0 else f"FAILED (exit {result['exit_code']})"
        yield name, f"{state}, {result.get('seconds', 0):.0f} s"
        for network in found.get("networks", []):
            title = pathlib.Path(network["network"]).parent.name + "/" + pathlib.Path(network["network"]).name
            if "error" in network:
                yield f"  {title}", network["error"]
                continue
            yield f"  {title}", f"{network['psnr_db']:.1f} dB, relative L2 {network['relative_l2']:.1e}"
            for speed in network["speeds"]:
                kept = "visual cache" if speed["kept"] else "whole"
                what = f"  batch {speed['batch']}, {speed['streams']} streams, {kept}"
                yield what, f"{speed['frames_per_second']:.0f} frames/s, p50 {speed['p50_ms']:.2f} ms"
        for row in found.get("rows", []):
            figure = row.get("error") or f"{row['frames_per_s']:.0f} frames/s, {row['ms']:.2f} ms a batch"
            yield f"  PyTorch {row['way']}, batch {row['batch']}", figure
        for line in result.get("text", "").splitlines():
            if line.strip():
                yield "  ", line.strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: does it run at all?")
    parser.add_argument("--out", default="results.json")
    args = parser.parse_args()
    card, missing = gpu()
    if missing:
        print(f"{missing} Nothing was run; this needs a machine with an NVIDIA GPU, its driver and PyTorch.")
        return 3
    results = [engine(args.quick), sanitizer(), *peer(args.quick)]
    results += [load_test(model, args.quick) for model in ("mira", "full")]
    commit = HERE / "COMMIT"
    about = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "card": card,
        "commit": commit.read_text().strip() if commit.exists() else "unknown",
        "quick": args.quick,
    }
    pathlib.Path(args.out).write_text(json.dumps({**about, "results": results}, indent=2, default=str))
    print(f"\n{card}, {about['date']}, commit {about['commit'][:12]}")
    for what, figure in rows(results):
        print(f"{what:52} {figure}")
    print(f"\nEverything is in {args.out}.")
    return 0 if all(r.get("exit_code", 0) == 0 for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
