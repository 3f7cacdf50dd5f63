"""How quickly the LiveKit package answers an agent: LiveKit's own agent, receiver and runner.

    clients/python-livekit/run-tests.sh --install
    clients/python-livekit/.venv/bin/python tools/plug-in-test/interruptions.py SERVER_BINARY

SERVER_BINARY is a `lipsync-server`. The rooms are in memory; each remote call and answer takes 5 ms there.
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "clients/python/tests"), str(ROOT / "clients/python-livekit/tests")]

from lipsync_client import Client  # noqa: E402
from servers import running  # noqa: E402
from speech import read_speech  # noqa: E402
from wire import RATE_HZ, wire  # noqa: E402

N_SEGMENTS, N_INTERRUPTIONS = 50, 20
LIMIT_MS = 100


def line(name: str, values: list[float], unit: str = "ms") -> None:
    values = sorted(values)
    print(
        f"{name}: {len(values)} values, median {statistics.median(values):.1f} {unit}, "
        f"{values[0]:.1f} to {values[-1]:.1f}"
    )


async def measure(address: str) -> bool:
    speech = read_speech(ROOT / "assets/speech/welcome.wav")[: 2 * 2 * RATE_HZ]
    async with Client(address) as client, wire(client) as w:
        await w.said(speech[:6_400])
        errors, starts = [], []
        for n in range(N_SEGMENTS):
            samples = speech[: 2 * (800 + 64 * n)]
            begun = time.monotonic()
            n_started = len(w.started)
            await w.say(samples)
            w.output.flush()
            await w.until_started(n_started + 1)
            starts.append(1000 * (time.monotonic() - begun))
            end = await w.output.wait_for_playout()
            errors.append(abs(end.playback_position - len(samples) / 2 / RATE_HZ) * 1000)
        finished = len(w.finished) - 1
        print(f"segments: {N_SEGMENTS} sent, {finished} finished")
        line("error of the position", errors)
        line("start of the sound", starts)
        answers = []
        for _ in range(N_INTERRUPTIONS):
            n_started = len(w.started)
            await w.say(speech)
            await w.until_started(n_started + 1)
            begun = time.monotonic()
            w.output.clear_buffer()
            end = await w.output.wait_for_playout()
            answers.append(1000 * (time.monotonic() - begun))
            w.output.flush()
            assert end.interrupted
        line("interruption to acknowledgement", answers)
        is_good = finished == N_SEGMENTS and max(errors) <= 40 and max(answers) <= LIMIT_MS
        print("verdict:", "good" if is_good else f"bad: expected at most {LIMIT_MS} ms")
        return is_good


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with running(Path(sys.argv[1])) as (where, _):
        sys.exit(0 if asyncio.run(measure(where)) else 1)
