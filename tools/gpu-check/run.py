"""Checks and measures everything that needs a GPU, and prints one table.

Usage: python3 run.py [--minutes M] [--only device|server] [--quick] [--dry] [--out FOLDER]

Runs where `pack.sh`'s file was unpacked. Needs the NVIDIA driver; for the peer also PyTorch with numpy and, where it
is compiled, a C compiler (gcc or clang, or what CC names). What the peer lacks is said first.

Steps run one after the other, what matters most first; each has a time limit, all together have M minutes (8.5). A
step that fails, hangs or has no time left is said so, what it had found stays, and the others go on. `--only device`
and `--only server` are the two halves, for a machine that is lent for some minutes at a time.

FOLDER (results/DATE) gets three files: results.json, table.txt, and rest.tar.gz with what every step printed. The first
two are written anew after every step, and all three when the program is told to end (SIGINT, SIGTERM), so whatever
kills it leaves a table.

Exit code: 0 all is right, 1 something is wrong or did not run to its end, for lack of time too (a tool that is not
installed is no fault), 3 there is no GPU and nothing was run. Speeds below their targets are told and wrong nothing.

--quick takes seconds and tells whether it runs at all. --dry needs no GPU: the same steps on a made-up device, on
the CPU, and with small networks. Its figures mean nothing.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

from table import SANITIZER_FOUND, table

HERE = pathlib.Path(__file__).resolve().parent
FULL = "full/generator.onnx"
MIRA = "mira/generator.onnx"
# Tools that come with CUDA are not always on the path.
SANITIZERS = ["compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer"]
PROFILERS = ["ncu", "/usr/local/cuda/bin/ncu"]
# Kernels that take most of a frame, one launch of each, and what is asked about them.
PROFILED = "regex:block_s1n32|block_s1n64|gemm_m128n128|conv_m128n128|depthwise"
SECTIONS = ["SpeedOfLight", "WarpStateStats", "InstructionStats", "MemoryWorkloadAnalysis", "Occupancy", "LaunchStats"]
# Every process that was started: an interruption may come where nobody waits for one.
STARTED = []
# How long a step that was told to end may take to print what it has; config.yaml gives the server less.
GRACE_S = 15
# What the load test ends with where the server is slower than was asked for.
TOO_SLOW = "exit code 3"


class Bench:
    """The steps so far, where they are written to, and the time that is left."""

    def __init__(self, args, about):
        self.args = args
        self.end = time.monotonic() + args.minutes * 60
        # The steps run in another folder.
        self.folder = pathlib.Path(args.out or HERE / "results" / re.sub("[^0-9A-Za-z]", "", about["date"][:19])).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        # What goes to rest.tar.gz.
        self.rest = pathlib.Path(tempfile.mkdtemp(prefix="gpu-check-"))
        # So that the first start's compilation is measured, whatever was run here before.
        self.environment = {"CUDA_CACHE_PATH": str(self.rest / "jit"), "CUDA_CACHE_MAXSIZE": str(1 << 30)}
        self.about = about
        # What the peer cannot be measured without.
        self.lacks = (None, None)
        self.steps = []

    def left(self):
        return self.end - time.monotonic()

    def step(self, name, command, limit_s, environment=None):
        """Runs a command for at most so long; what it printed, line by line, where that is JSON."""
        limit_s = min(limit_s, self.left())
        if limit_s < 3:
            return self.skip(name, "no time was left")
        print(f"-- {name} (at most {limit_s:.0f} s): {' '.join(map(str, command))}", file=sys.stderr, flush=True)
        stem = self.rest / f"{len(self.steps):02}-{slug(name)}"
        before = cpu_of_children()
        begun = time.monotonic()
        with open(f"{stem}.out", "w") as out, open(f"{stem}.err", "w") as err:
            try:
                running = start(command, stdout=out, stderr=err, environment={**self.environment, **(environment or {})})
            except OSError as error:
                return self.skip(name, str(error), "failed")
            code, state = wait(running, limit_s)
        text = text_of(f"{stem}.out")
        errors = text_of(f"{stem}.err")
        step = {
            "step": name,
            "state": state or ("passed" if code == 0 else f"exit code {code}"),
            "seconds": time.monotonic() - begun,
            "cpu": {key: value - before[key] for key, value in cpu_of_children().items()},
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
        """Results and table so far. Written beside and renamed: a reader, or a kill, never meets half a file."""
        document = {**self.about, "steps": self.steps}
        replace(self.folder / "results.json", json.dumps(document, indent=2))
        text, is_right = table(self.about, self.steps)
        replace(self.folder / "table.txt", text)
        return text, is_right

    def pack(self):
        """What the steps printed, in one file."""
        shutil.rmtree(self.rest / "jit", ignore_errors=True)
        draft = self.folder / "rest.tar.gz.draft"
        with tarfile.open(draft, "w:gz") as archive:
            archive.add(self.rest, "rest")
        draft.replace(self.folder / "rest.tar.gz")
        shutil.rmtree(self.rest, ignore_errors=True)


def replace(path, text):
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def cpu_of_children():
    """Seconds of CPU and minor page faults of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": used.ru_utime + used.ru_stime, "minor_faults": used.ru_minflt}


def cpu_of(process):
    """The same of one that runs, from /proc; its threads included."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return {"seconds": (int(fields[11]) + int(fields[12])) / ticks, "minor_faults": int(fields[7])}


class Utilization:
    """How busy the GPU is meanwhile, as nvidia-smi sees it twice a second."""

    QUERY = ["nvidia-smi", "-i", "0", "--query-gpu=utilization.gpu,utilization.memory,power.draw,clocks.sm",
             "--format=csv,noheader,nounits", "-lms", "500"]

    def __enter__(self):
        self.samples = []
        self.running = None
        if shutil.which("nvidia-smi"):
            self.running = subprocess.Popen(self.QUERY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            self.reader = threading.Thread(target=self.read, daemon=True)
            self.reader.start()
        return self

    def read(self):
        for line in self.running.stdout:
            try:
                self.samples.append([float(each) for each in line.split(",")])
            except ValueError:
                pass  # [N/A] on some cards.

    def __exit__(self, *_):
        if self.running:
            self.running.kill()
            self.reader.join(2)
            self.running.wait()

    def found(self):
        """Medians; nothing where nothing was seen."""
        if not self.samples:
            return {}
        names = ("gpu_percent", "memory_percent", "watts", "sm_mhz")
        return {name: sorted(column)[len(column) // 2] for name, column in zip(names, zip(*self.samples))}


def slug(name):
    """A file's name for a step's."""
    return re.sub("[^a-z0-9]+", "-", name.lower())


def text_of(path):
    return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")


def start(command, stdout, stderr, environment=None):
    """A process in a group of its own, so that it ends with all that it started."""
    # nvidia-smi's order, so that cuda:0 is the card that the table names; CUDA's own begins with the fastest.
    environment = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **(environment or {})}
    running = subprocess.Popen(
        list(map(str, command)), cwd=HERE, stdout=stdout, stderr=stderr, text=True, env=environment, start_new_session=True
    )
    STARTED.append(running)
    return running


def wait(running, limit_s):
    """Its exit code, and a state where it had to be ended: asked first, so that it tells what it has."""
    try:
        try:
            return running.wait(limit_s), None
        except subprocess.TimeoutExpired:
            end(running, signal.SIGINT)
            return running.returncode, f"stopped after {limit_s:.0f} s"
    except KeyboardInterrupt:
        # It is in a group of its own and has not heard of it. This may come while it is being stopped, too.
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
    """Makes the avatar `full`: Mira's pictures, and networks with seeded weights that cost what real ones cost."""
    if (HERE / FULL).exists():
        return
    of_its_own = shutil.ignore_patterns("generator.onnx", "audio_encoder.onnx", "avatar.pack")
    shutil.copytree(HERE / "mira", HERE / "full", ignore=of_its_own, dirs_exist_ok=True)
    made = bench.step("full-size networks", ["bin/write_network", "full", "328-ave", "ave-encoder"], 60)
    if made["state"] == "passed":
        (HERE / "full/ave-encoder.onnx").replace(HERE / "full/audio_encoder.onnx")
        (HERE / "full/328-ave.onnx").replace(HERE / FULL)


def server_config():
    """The server's configuration; without `full` where that could not be made, so that it starts all the same."""
    if (HERE / FULL).exists():
        return "config.yaml"
    lines = (HERE / "config.yaml").read_text().splitlines(keepends=True)
    (HERE / "without-full.yaml").write_text("".join(line for line in lines if not line.startswith("  full:")))
    return "without-full.yaml"


def engine(bench, name, parts, networks, limit_s, flags=()):
    args = bench.args
    flags = [*flags, "--fake"] if args.dry else [*flags]
    if args.dry or args.quick:
        flags += ["--quick", "--seconds", "0.1"]
    if args.dry:
        networks = ["small-opset13", "small-opset12"][: len(networks)]
    return bench.step(name, ["bin/gpu_check", *flags, "--parts", parts, *networks], limit_s)


def compared(bench, limit_s):
    """The same speeds with one thing changed, to see what it is worth."""
    runs = {
        "each batch started behind another": ["--ahead"],
        "waits of the driver": ["--blocking"],
        "no spin": ["--spin-us", "0"],
        "a spin of 1 ms": ["--spin-us", "1000"],
        "largest shared memory for all kernels": ["--carveout-all"],
        "separate kernels for blocks": ["--unfused"],
    }
    for name, flags in runs.items():
        engine(bench, f"A/B: {name}", "speed", [FULL], limit_s, [*flags, "--seconds", "0.4", "--short"])
    # glibc gives freed memory back after each batch, unless it is told not to.
    if not bench.args.dry:
        kept = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
        command = ["bin/gpu_check", "--seconds", "0.4", "--short", "--parts", "speed", FULL]
        bench.step("A/B: freed memory kept", command, limit_s, kept)


def profiler(bench, limit_s):
    """NVIDIA's profiler over one launch of each of the main kernels, at a batch of 16."""
    name = "ncu"
    tool = next((tool for tool in PROFILERS if shutil.which(tool)), None)
    if not tool:
        return bench.skip(name, "ncu is not installed", "absent")
    sections = [word for section in SECTIONS for word in ("--section", section)]
    command = [tool, "--kernel-name", PROFILED, "--launch-count", "8", *sections]
    command += ["bin/gpu_check", "--seconds", "0.01", "--parts", "launches", FULL]
    step = bench.step(name, command, limit_s)
    # Some machines lend a card without the right to read its counters.
    if "ERR_NVGPUCTRPERM" in step.get("text", "") + step.get("errors", ""):
        step.update(state="absent", reason="this machine does not allow its counters to be read")
        bench.write()
    return step


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

    def __init__(self, bench, changed=None):
        # Numbered, because it is started more than once.
        stem = bench.rest / f"{len(bench.steps):02}-server"
        self.log = open(f"{stem}.log", "w")
        self.out = pathlib.Path(f"{stem}.out")
        environment = {"LIPSYNC_ENGINE__DEVICE": "cpu", "LIPSYNC_SERVER__WORKER_COUNT": "2"} if bench.args.dry else {}
        with open(self.out, "w") as out:
            environment = {**bench.environment, **environment, **(changed or {})}
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
        is_short = args.dry or args.quick
        for model in models:
            for kind in ("steps", "pcm"):
                load(bench, server, f"saturated by {kind}, {model}", model, [*saturation(args), "--input", kind], 30)
        for model in compared:
            few = ["--users", "4", "--batch", "2"] if args.dry else ["--users", "16"]
            load(bench, server, f"alone or at once, {model}", model, ["--compare-alone", *few], 40)
        first, seconds = ("8", "2s") if is_short else ("32", "6s")
        for model in models:
            search = ["--find-max-users", "--slo-p95-ms", "200", "--profile", "conversational", "--first-users", first]
            search += ["--duration", seconds, "--warm-up", "1s"]
            load(bench, server, f"conversations, {model}", model, search, 15 if is_short else 90)
    finally:
        code = server.stop()
    # Its own word on whether it came through all of that.
    state = "passed" if code == 0 else f"exit code {code}"
    return bench.add({"step": "server's end", "state": state, "found": []})


def encoder_on_gpu(bench, model):
    """The same saturation by PCM, heard on the GPU instead of on the host."""
    if bench.left() < 3:
        return bench.skip("A/B: audio encoder on the GPU", "no time was left")
    server = Server(bench, {"LIPSYNC_ENGINE__ENCODER_DEVICE": "gpu"})
    try:
        if not server.is_ready(min(60, max(bench.left(), 1))):
            return bench.skip("A/B: audio encoder on the GPU", f"it did not start: {text_of(server.log.name)[-500:].strip()}", "failed")
        load(bench, server, f"A/B: audio encoder on the GPU, {model}", model, [*saturation(bench.args), "--input", "pcm"], 30)
    finally:
        server.stop()


def saturation(args):
    """As much as the server carries: how many ask, and for how long."""
    users, seconds = ("4", "2s") if args.dry or args.quick else ("64", "6s")
    return ["--profile", "saturate", "--users", users, "--duration", seconds, "--warm-up", "1s"]


def banner(text, is_dry):
    """What the server said of itself, and whether it knows from NVML how the card is."""
    cards = re.findall(r"^  gpu +(.*)", text, re.MULTILINE)
    degrees = [int(number) for number in re.findall(r"(\d+) °C", " ".join(cards))]
    found = {"part": "server", "lines": text.splitlines(), "cards": cards}
    return found if is_dry else {**found, "is_right": any(degrees)}


def load(bench, server, name, model, flags, limit_s):
    out = bench.rest / f"{slug(name)}.json"
    before = cpu_of(server.running)
    command = ["bin/lipsync-load-test", "--quiet", "--model", model, "--json", out, *flags]
    with Utilization() as utilization:
        step = bench.step(name, command, limit_s)
    after = cpu_of(server.running) if server.running.poll() is None else before
    found = parsed(text_of(out)) if out.exists() else []
    if found:
        step["found"] = [{"part": "load", "network": model, **found[0]}]
        n_frames = frames_of(found[0])
        if n_frames:
            server_cpu = {key: value - before[key] for key, value in after.items()}
            # Warm-up and start are in the processes' figures and not in the frames, so these are a little high.
            each = {who: per_frame(cpu, n_frames) for who, cpu in (("server", server_cpu), ("client", step["cpu"]))}
            step["found"].append({"part": "cost", **each, "gpu": utilization.found()})
        # A search that is stopped tells the best until then.
        if step["state"].startswith("stopped") and found[0].get("max_users"):
            step.update(state="passed", reason=f"{step['state']}; the best until then")
        # A speed, which is told and wrongs nothing.
        if step["state"] == TOO_SLOW:
            step.update(state="passed", reason="no number of users is fast enough")
    elif step["state"] == "passed":
        step.update(state="failed", reason="it wrote no result")
    bench.write()


def frames_of(report):
    run = report.get("run") or {}
    return run.get("frames_per_second", 0) * run.get("measured_s", 0)


def per_frame(cpu, n_frames):
    return {"cpu_us": 1e6 * cpu["seconds"] / n_frames, "minor_faults": cpu["minor_faults"] / n_frames}


def device_half(bench):
    """The card and the engine alone."""
    engine(bench, "kernels and numbers", "kernels,numerics,equality", [MIRA, FULL], 60)
    engine(bench, "speed, full", "speed", [FULL], 40)
    profiler(bench, 40)
    sanitizer(bench, "memcheck", "kernels,numerics,equality", ["small-opset13"], 60)
    for check in ("racecheck", "synccheck"):
        sanitizer(bench, check, "kernels", ["small-opset13"], 40)
    engine(bench, "one batch, taken apart", "apart,launches", [FULL], 30)
    engine(bench, "audio encoder", "encoder", [], 20)
    engine(bench, "another network", "numerics,equality", ["160-hubert"], 30)


def server_half(bench):
    """The server, the peer, memory over many loads, and what single decisions are worth."""
    # Else the server would do it beside its first requests.
    bench.step("bake", ["bin/lipsync-server", "--config", server_config(), "bake"], 60)
    peer(bench, FULL, "graph,eager", 60)
    load_tests(bench, ["full"], compared=["mira", "full"])
    encoder_on_gpu(bench, "full")
    engine(bench, "memory", "memory", [FULL, MIRA], 50)
    compared(bench, 15)
    engine(bench, "blocks", "blocks", [FULL], 20)
    engine(bench, "speed, mira", "speed", [MIRA], 30)
    peer(bench, FULL, "compiled", 120)


def run(bench):
    if not bench.args.dry:
        bench.step("nvidia-smi", ["nvidia-smi", "-q"], 20)
    full_size(bench)
    if bench.args.only != "server":
        device_half(bench)
    if bench.args.only != "device":
        server_half(bench)


def told_to_end(_signal, _frame):
    raise KeyboardInterrupt


def ignore_signals():
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)


def main():
    parser = argparse.ArgumentParser(description="Checks and measures everything that needs a GPU.")
    parser.add_argument("--minutes", type=float, default=8.5, help="for everything together")
    parser.add_argument("--only", choices=["device", "server"], help="one half of the steps")
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
    commit = HERE / "COMMIT"
    about = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "card": card,
        "commit": commit.read_text().strip() if commit.exists() else "unknown",
        "arguments": vars(args),
    }
    # SIGINT too, even where it was ignored when this began: programs that are started would ignore it like their parent.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, told_to_end)
    bench = Bench(args, about)
    try:
        # Looking for PyTorch takes seconds, so there is a table before that.
        bench.write()
        bench.lacks = lacks_of_peer()
        for lack in filter(None, bench.lacks):
            print(f"{lack} Its steps will not run; interrupt this to install it first.", file=sys.stderr, flush=True)
        run(bench)
    except KeyboardInterrupt:
        ignore_signals()
        for running in STARTED:
            end(running, signal.SIGINT)
        bench.skip("the rest", "interrupted", "failed")
    # What is left to do takes a second, and a table without its verdict would be no better.
    ignore_signals()
    text, is_right = bench.write()
    bench.pack()
    sys.stdout.reconfigure(errors="replace")
    print(f"{text}\nEverything is in {bench.folder}.")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
