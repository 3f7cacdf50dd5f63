"""Runs perf_analyzer against a server and judges what it found.

    python rates.py PERF_ANALYZER HOST:PORT MODEL SPEECH_JSON [SECONDS] [WRAPPER...]

For unary calls, a stream and a decoupled stream: its exit code is 0, every column that comes from the server's statistics is
filled, and the requests that it counted in its windows equal those that the server counted in them within 2 %. Beside that
stands the server's own rate: the rise of its count of answered calls, which is read every 100 ms, over the last three windows.

SECONDS is the length of a window, 10 unless given. WRAPPER is a command to run perf_analyzer with, such as chroot and a folder.
"""

import re
import subprocess
import sys
import threading
import time

import tritonclient.grpc as triton

MODES = {
    "unary": [],
    "streamed": ["--streaming"],
    "decoupled": ["--streaming", "-x", "2"],
}
N_WINDOWS = 3
MAX_DIFFERENCE = 0.02
COLUMNS = ("overhead", "queue", "compute input", "compute infer", "compute output")


class Watch(threading.Thread):
    """The server's count of answered calls, over time."""

    def __init__(self, address: str, model: str) -> None:
        super().__init__(daemon=True)
        self._client = triton.InferenceServerClient(address)
        self._model = model
        self._is_over = threading.Event()
        self.seen: list[tuple[float, int]] = []

    def run(self) -> None:
        while not self._is_over.wait(0.1):
            stats = self._client.get_inference_statistics(self._model, "1").model_stats[0]
            self.seen.append((time.monotonic(), stats.inference_stats.success.count))

    def rate(self, seconds: float) -> float:
        """Calls a second over the last `seconds` in which there were any."""
        self._is_over.set()
        self.join()
        rises = [b for a, b in zip(self.seen, self.seen[1:], strict=False) if b[1] > a[1]]
        if len(rises) < 4:
            return float("nan")
        # perf_analyzer waits for what is under way when its last window is over: a call for each user.
        end = rises[-3]
        start = min(rises, key=lambda rise: abs(rise[0] - (end[0] - seconds)))
        return (end[1] - start[1]) / (end[0] - start[0])


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else float("nan")


def measure(mode: str, command: list[str], address: str, model: str, seconds: float) -> list[str]:
    """Run it once; return what is wrong."""
    watch = Watch(address, model)
    watch.start()
    done = subprocess.run(command + MODES[mode], check=False, capture_output=True, text=True, timeout=seconds * 12 + 60)
    ours = watch.rate(N_WINDOWS * seconds)
    text = done.stdout
    theirs = number(r"Throughput: ([\d.]+) infer/sec", text)
    asked = number(r"Request count: (\d+)", text)
    counted = number(r"Successful request count: (\d+)", text)
    columns = {name: number(rf"{name} (\d+) usec", text) for name in COLUMNS}
    difference = asked / counted - 1 if counted > 0 else float("nan")
    print(
        f"{mode}: rc {done.returncode}, {theirs:.2f} requests/s (the server's own rate {ours:.2f}); "
        f"{asked:.0f} requests, the server counted {counted:.0f} in the same windows ({difference:+.1%}); "
        + ", ".join(f"{name} {value:.0f}" for name, value in columns.items())
        + " us"
    )
    faults = []
    if done.returncode != 0:
        faults.append(f"exit code {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    faults += [f"no {name}" for name, value in columns.items() if not value > 0 and name != "overhead"]
    if not abs(difference) <= MAX_DIFFERENCE:
        faults.append(f"its count and the server's differ by {difference:+.1%}")
    return faults


def main() -> None:
    analyzer, address, model, speech = sys.argv[1:5]
    seconds = float(sys.argv[5]) if len(sys.argv) > 5 else 10.0
    command = [
        *sys.argv[6:], analyzer, "-i", "grpc", "-u", address, "-m", model, "--input-data", speech, "--max-threads", "2",
        "--measurement-interval", f"{1000 * seconds:.0f}", "--stability-percentage", "50", "--concurrency-range", "2",
    ]  # fmt: skip
    faults = [f"{mode}: {fault}" for mode in MODES for fault in measure(mode, command, address, model, seconds)]
    print("\n".join(faults) or f"rates: {len(MODES)} runs good")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
