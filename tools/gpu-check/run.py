"""Checks and measures everything that needs a GPU, and prints one table.

Usage: python3 run.py [--minutes M] [--quick] [--dry] [--out FOLDER]

Runs where `pack.sh`'s file was unpacked. Needs the NVIDIA driver; for the peer also PyTorch with numpy and, where it
is compiled, a C compiler (gcc or clang, or what CC names). What the peer lacks is said first.

Steps run one after the other, what matters most first; each has a time limit, all together have M minutes (9.5). A
step that fails, hangs or has no time left is said so, what it had found stays, and the others go on. FOLDER (results/DATE) gets what every step printed, results.json and table.txt.

Exit code: 0 all is right, 1 something is wrong or did not run to its end, for lack of time too (a compute-sanitizer
that is not installed is no fault), 3 there is no GPU and nothing was run. Speeds below their targets are told and
wrong nothing.

--quick takes seconds and tells whether it runs at all. --dry needs no GPU: the same steps on a made-up device, on
the CPU, and with small networks. Its figures mean nothing.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from table import SANITIZER_FOUND, table

HERE = pathlib.Path(__file__).resolve().parent
FULL = "full/generator.onnx"
MIRA = "mira/generator.onnx"
# Tools that come with CUDA are not always on the path.
SANITIZERS = ["compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer"]
# How long a step that was told to end may take to print what it has; config.yaml gives the server less.
GRACE_S = 15


class Bench:
    """The steps so far, where they are written to, and the time that is left."""

    def __init__(self, args, about, lacks):
        self.args = args
        self.end = time.monotonic() + args.minutes * 60
        # The steps run in another folder.
        self.folder = pathlib.Path(args.out or HERE / "results" / about["date"].replace(":", "")).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.about = about
        self.lacks = lacks
        self.steps = []

    def left(self):
        return self.end - time.monotonic()

    def step(self, name, command, limit_s, environment=None):
        """Runs a command for at most so long; what it printed, line by line, where that is JSON."""
        limit_s = min(limit_s, self.left())
        if limit_s < 3:
            return self.skip(name, "no time was left")
        print(f"-- {name} (at most {limit_s:.0f} s): {' '.join(map(str, command))}", file=sys.stderr, flush=True)
        stem = self.folder / f"{len(self.steps):02}-{slug(name)}"
        begun = time.monotonic()
        with open(f"{stem}.out", "w") as out, open(f"{stem}.err", "w") as err:
            try:
                running = start(command, stdout=out, stderr=err, environment=environment)
            except OSError as error:
                return self.skip(name, str(error), "failed")
            code, state = wait(running, limit_s)
        text = text_of(f"{stem}.out")
        errors = text_of(f"{stem}.err")
        step = {
            "step": name,
            "state": state or ("passed" if code == 0 else f"exit code {code}"),
            "seconds": time.monotonic() - begun,
            "found": parsed(text),
            "text": text[-6000:],
            "errors": errors[-2000:],
        }
        self.add(step)
        if state == "interrupted":
            raise KeyboardInterrupt
        return step

    def skip(self, name, reason, state="not run"):
        return self.add({"step": name, "state": state, "reason": reason, "found": []})

    def add(self, step):
        self.steps.append(step)
        self.write()
        return step

    def write(self):
        document = {**self.about, "steps": self.steps}
        (self.folder / "results.json").write_text(json.dumps(document, indent=2))


def slug(name):
    """A file's name for a step's."""
    return re.sub("[^a-z0-9]+", "-", name.lower())


def text_of(path):
    return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")


def start(command, stdout, stderr, environment=None):
    """A process in a group of its own, so that it ends with all that it started."""
    # nvidia-smi's order, so that cuda:0 is the card that the table names; CUDA's own begins with the fastest.
    environment = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **(environment or {})}
    return subprocess.Popen(
        list(map(str, command)), cwd=HERE, stdout=stdout, stderr=stderr, text=True, env=environment, start_new_session=True
    )


def wait(running, limit_s):
    """Its exit code, and a state where it had to be ended: asked first, so that it tells what it has."""
    try:
        return running.wait(limit_s), None
    except subprocess.TimeoutExpired:
        end(running, signal.SIGINT)
        return running.returncode, f"stopped after {limit_s:.0f} s"
    except KeyboardInterrupt:
        # It is in a group of its own and has not heard of it.
        end(running, signal.SIGINT)
        return running.returncode, "interrupted"


def end(running, how):
    for each in (how, signal.SIGKILL):
        if running.poll() is None:
            os.killpg(running.pid, each)
            try:
                running.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                pass


def parsed(text):
    """The lines that are JSON objects, or the one object that all lines make."""
    found = []
    for candidate in [text] if text.startswith("{\n") else text.splitlines():
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def output_of(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    return done.stdout.strip() if done.returncode == 0 else None, (done.stdout + done.stderr).strip()


def gpu():
    """What nvidia-smi says of the first GPU, or a sentence why there is none."""
    if not shutil.which("nvidia-smi"):
        return None, "There is no NVIDIA driver here (nvidia-smi is not found)."
    query = "--query-gpu=name,driver_version,memory.total,compute_cap,power.limit"
    found, said = output_of(["nvidia-smi", query, "--format=csv,noheader"])
    if not found:
        return None, f"nvidia-smi sees no GPU: {said}"
    return found.splitlines()[0], None


def lacks_of_peer():
    """What PyTorch cannot be measured without, in sentences: for all of it, and for compiling it."""
    imports, said = output_of([sys.executable, "-c", "import numpy, torch; print('both')"])
    everything = None if imports else f"The peer needs PyTorch and numpy: {(said.splitlines() or ['?'])[-1]}."
    compilers = [os.environ.get("CC"), "gcc", "clang"]
    has_compiler = any(name and shutil.which(name) for name in compilers)
    return everything, None if has_compiler else "torch.compile needs a C compiler: gcc, clang, or what CC names."


def full_size(bench):
    """Makes the avatar `full`: Mira's pictures, and a network with seeded weights that costs what a real one costs."""
    if (HERE / FULL).exists():
        return
    of_its_own = shutil.ignore_patterns("generator.onnx", "avatar.pack")
    shutil.copytree(HERE / "mira", HERE / "full", ignore=of_its_own, dirs_exist_ok=True)
    if bench.step("full-size network", ["bin/write_network", "full", "328-ave"], 60)["state"] == "passed":
        (HERE / "full/328-ave.onnx").replace(HERE / FULL)


def server_config():
    """The server's configuration; without `full` where that could not be made, so that it starts all the same."""
    if (HERE / FULL).exists():
        return "config.yaml"
    lines = (HERE / "config.yaml").read_text().splitlines(keepends=True)
    (HERE / "without-full.yaml").write_text("".join(line for line in lines if not line.startswith("  full:")))
    return "without-full.yaml"


def engine(bench, name, parts, networks, limit_s):
    args = bench.args
    flags = ["--fake"] if args.dry else []
    if args.dry or args.quick:
        flags += ["--quick", "--seconds", "0.1"]
    if args.dry:
        networks = ["small-opset13", "small-opset12"][: len(networks)]
    return bench.step(name, ["bin/gpu_check", *flags, "--parts", parts, *networks], limit_s)


def sanitizer(bench, check, parts, networks, limit_s):
    name = f"compute-sanitizer {check}"
    tool = next((tool for tool in SANITIZERS if shutil.which(tool)), None)
    if not tool:
        return bench.skip(name, "compute-sanitizer is not installed", "absent")
    # What is checked is small, since everything is many times slower under it.
    checked = ["bin/gpu_check", "--quick", "--seconds", "0.01", "--parts", parts, *networks]
    return bench.step(name, [tool, "--tool", check, "--error-exitcode", SANITIZER_FOUND, *checked], limit_s)


def peer(bench, network, ways, limit_s):
    args = bench.args
    everything, compiler = bench.lacks
    lack = everything or (compiler if "compiled" in ways else None)
    if lack:
        return bench.skip(f"peer {ways}", lack)
    batches, seconds = ("1", "0.1") if args.dry or args.quick else ("16,64,8,1", "1")
    flags = ["--cpu"] if args.dry else []
    if args.dry:
        network = MIRA
    command = [sys.executable, "peer.py", network, *flags, "--ways", ways, "--batches", batches, "--seconds", seconds]
    return bench.step(f"peer {pathlib.Path(network).parent.name} {ways}", command, limit_s)


class Server:
    """The server with its eight workers, for as long as it is needed."""

    def __init__(self, bench):
        # Numbered, because it is started more than once.
        stem = bench.folder / f"{len(bench.steps):02}-server"
        self.log = open(f"{stem}.log", "w")
        self.out = pathlib.Path(f"{stem}.out")
        environment = {"LIPSYNC_ENGINE__DEVICE": "cpu", "LIPSYNC_SERVER__WORKER_COUNT": "2"} if bench.args.dry else {}
        with open(self.out, "w") as out:
            self.running = start(["bin/lipsync-server", "--config", server_config()], out, self.log, environment)

    def is_ready(self, seconds):
        """Once the banner has been printed; false where the server ended, or did not get so far."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.running.poll() is None:
            if "gRPC" in text_of(self.out):
                return True
            time.sleep(0.1)
        return False

    def stop(self):
        end(self.running, signal.SIGTERM)
        self.log.close()
        return self.running.returncode


def load_tests(bench, models, compared=()):
    """Starts the server; clients who ask alone and at once for `compared`, and how much it carries of `models`."""
    args = bench.args
    if bench.left() < 3:
        return bench.skip("server", "no time was left")
    server = Server(bench)
    try:
        if not server.is_ready(min(60, max(bench.left(), 1))):
            return bench.skip("server", f"it did not start: {text_of(server.log.name)[-500:].strip()}", "failed")
        bench.add({"step": "server", "state": "passed", "found": [banner(text_of(server.out), args.dry)]})
        for model in compared:
            few = ["--users", "4", "--batch", "2"] if args.dry else ["--users", "16"]
            load(bench, f"alone or at once, {model}", model, ["--compare-alone", *few], 40)
        for model in models:
            is_short = args.dry or args.quick
            users, first, seconds = ("4", "8", "2s") if is_short else ("64", "32", "8s")
            saturate = ["--profile", "saturate", "--users", users, "--duration", seconds, "--warm-up", "1s"]
            load(bench, f"saturated, {model}", model, saturate, 30)
            search = ["--find-max-users", "--slo-p95-ms", "200", "--profile", "conversational", "--first-users", first]
            search += ["--duration", seconds, "--warm-up", "1s"]
            load(bench, f"conversations, {model}", model, search, 15 if is_short else 110)
    finally:
        code = server.stop()
    # Its own word on whether it came through all of that.
    state = "passed" if code == 0 else f"exit code {code}"
    return bench.add({"step": "server's end", "state": state, "found": []})


def banner(text, is_dry):
    """What the server said of itself, and whether it knows from NVML how the card is."""
    cards = re.findall(r"^  gpu +(.*)", text, re.MULTILINE)
    degrees = [int(number) for number in re.findall(r"(\d+) °C", " ".join(cards))]
    found = {"part": "server", "lines": text.splitlines(), "cards": cards}
    return found if is_dry else {**found, "is_right": any(degrees)}


def load(bench, name, model, flags, limit_s):
    out = bench.folder / f"{slug(name)}.json"
    # A folder may be used again.
    out.unlink(missing_ok=True)
    step = bench.step(name, ["bin/lipsync-load-test", "--quiet", "--model", model, "--json", out, *flags], limit_s)
    found = parsed(text_of(out)) if out.exists() else []
    if found:
        step["found"] = [{"part": "load", "network": model, **found[0]}]
        # A search that is stopped tells the best until then.
        if step["state"].startswith("stopped") and found[0].get("max_users"):
            step.update(state="passed", reason=f"{step['state']}; the best until then")
    elif step["state"] == "passed":
        step.update(state="failed", reason="it wrote no result")
    bench.write()


def run(bench):
    if not bench.args.dry:
        bench.step("nvidia-smi", ["nvidia-smi", "-q"], 20)
    full_size(bench)
    # Else the server would do it beside its first requests.
    bench.step("bake", ["bin/lipsync-server", "--config", server_config(), "bake"], 90)
    engine(bench, "kernels and numbers", "kernels,numerics,equality", [MIRA, FULL, "160-hubert"], 90)
    engine(bench, "speed, full", "speed", [FULL], 60)
    peer(bench, FULL, "graph,eager", 75)
    load_tests(bench, ["full"], compared=["mira", "full"])
    engine(bench, "memory", "memory", [FULL, MIRA], 60)
    sanitizer(bench, "memcheck", "kernels,numerics,equality", ["small-opset13", MIRA], 90)
    engine(bench, "blocks and launches", "blocks,launches", [FULL], 40)
    for check in ("racecheck", "synccheck"):
        sanitizer(bench, check, "kernels", ["small-opset13"], 40)
    engine(bench, "speed, mira", "speed", [MIRA], 60)
    load_tests(bench, ["mira"])
    peer(bench, FULL, "compiled", 180)


def main():
    parser = argparse.ArgumentParser(description="Checks and measures everything that needs a GPU.")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything together")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: does it run at all?")
    parser.add_argument("--dry", action="store_true", help="without a GPU: does every step run? The figures mean nothing")
    parser.add_argument("--out", help="folder for what was found [results/DATE]")
    args = parser.parse_args()
    card, missing = gpu()
    if args.dry:
        card = "NO GPU: a dry run, whose figures mean nothing"
    elif missing:
        print(
            f"{missing} Nothing was run; this needs a machine with an NVIDIA GPU and its driver, and for the peer PyTorch"
            " with numpy and a C compiler (or try --dry)."
        )
        return 3
    lacks = lacks_of_peer()
    for lack in filter(None, lacks):
        print(f"{lack} Its steps will not run; interrupt this to install it first.", file=sys.stderr, flush=True)
    commit = HERE / "COMMIT"
    about = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "card": card,
        "commit": commit.read_text().strip() if commit.exists() else "unknown",
        "arguments": vars(args),
    }
    bench = Bench(args, about, lacks)
    try:
        run(bench)
    except KeyboardInterrupt:
        bench.skip("the rest", "interrupted", "failed")
    text, is_right = table(about, bench.steps)
    (bench.folder / "table.txt").write_text(text, encoding="utf-8")
    sys.stdout.reconfigure(errors="replace")
    print(f"{text}\nEverything is in {bench.folder}.")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
