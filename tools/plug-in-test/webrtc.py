r"""A minute of an avatar over WebRTC: Pipecat's SmallWebRTCTransport to an aiortc peer in this process, or to Chromium.

    clients/python-pipecat/run-tests.sh --install
    clients/python-pipecat/.venv/bin/pip install 'pipecat-ai[webrtc]' selenium
    clients/python-pipecat/.venv/bin/python tools/plug-in-test/webrtc.py [--browser] [--model NAME] \
        SERVER_BINARY [SECONDS]

The speech has a beep every two seconds, and the picture whose sound begins a beep is painted white behind the
service. The viewer notes when it sees white and when it hears a beep: the difference is the skew.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "clients/python/tests")]

import numpy as np  # noqa: E402
from aiortc import RTCPeerConnection, RTCSessionDescription  # noqa: E402
from lipsync_pipecat import LipsyncVideoService, video_params  # noqa: E402
from loguru import logger  # noqa: E402
from pipecat.frames.frames import (  # noqa: E402
    Frame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline  # noqa: E402
from pipecat.pipeline.worker import PipelineParams, PipelineWorker  # noqa: E402
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor  # noqa: E402
from pipecat.transports.base_transport import TransportParams  # noqa: E402
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection  # noqa: E402
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport  # noqa: E402
from pipecat.workers.runner import WorkerRunner  # noqa: E402
from servers import running  # noqa: E402

RATE_HZ = 48_000
"""The pipeline's; WebRTC's own, so that nothing is resampled."""
EVERY_S, BEEP_S = 2.0, 0.08
MIN_FPS, MAX_SKEW_MS = 24.0, 80.0


def clip(seconds: float) -> bytes:
    """A quiet hum with beeps."""
    t = np.arange(round(RATE_HZ * seconds)) / RATE_HZ
    hum = 300 * np.sin(2 * np.pi * 110 * t)
    beep = np.where(t % EVERY_S < BEEP_S, 16_000 * np.sin(2 * np.pi * 1_000 * t), 0)
    beep[: round(RATE_HZ * EVERY_S)] = 0
    return (hum + beep).astype("<i2").tobytes()


def is_loud(samples: bytes) -> bool:
    return bool(np.abs(np.frombuffer(samples, "<i2").astype(int)).max(initial=0) > 6_000)


class Flash(FrameProcessor):
    """Paints the picture white whose sound begins a beep: the sound follows its picture."""

    def __init__(self) -> None:
        super().__init__()
        self._picture: OutputImageRawFrame | None = None
        self._was_loud = False
        self.pushed: list[float] = []
        """When white pictures were pushed."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputImageRawFrame):
            await self._let_go()
            self._picture = frame
            return
        if isinstance(frame, TTSAudioRawFrame):
            loud = is_loud(frame.audio)
            if loud and not self._was_loud and self._picture is not None:
                self._picture.image = b"\xff" * len(self._picture.image)
                self.pushed.append(time.monotonic())
            self._was_loud = loud
        await self._let_go()
        await self.push_frame(frame, direction)

    async def _let_go(self) -> None:
        picture, self._picture = self._picture, None
        if picture is not None:
            await self.push_frame(picture)


class Viewer:
    """What was seen and heard, and when, in seconds of one clock."""

    def __init__(self) -> None:
        self.pictures: list[float] = []
        self.flashes: list[float] = []
        self.beeps: list[float] = []
        self.sizes: set[tuple[int, int]] = set()


class Peer(Viewer):
    """An aiortc peer."""

    def __init__(self) -> None:
        super().__init__()
        self.pc = RTCPeerConnection()
        self.pc.addTransceiver("audio", direction="recvonly")
        self.pc.addTransceiver("video", direction="recvonly")
        self.pc.createDataChannel("control")
        self._tasks: list[asyncio.Task[None]] = []

        @self.pc.on("track")
        def _(track) -> None:  # noqa: ANN001
            watch = self._listen if track.kind == "audio" else self._look
            self._tasks.append(asyncio.create_task(watch(track)))

    async def offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    async def accept(self, sdp: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def refresh(self) -> None:
        pass

    async def _look(self, track) -> None:  # noqa: ANN001
        was_white = False
        while True:
            frame = await track.recv()
            now = time.monotonic()
            self.pictures.append(now)
            self.sizes.add((frame.width, frame.height))
            plane = frame.planes[0]
            luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[::16, : frame.width : 16]
            white = luma.mean() > 225
            if white and not was_white:
                self.flashes.append(now)
            was_white = white

    async def _listen(self, track) -> None:  # noqa: ANN001
        quiet_since = 0.0
        while True:
            frame = await track.recv()
            now = time.monotonic()
            if is_loud(frame.to_ndarray().astype("<i2").tobytes()):
                if now - quiet_since > 0 and quiet_since:
                    self.beeps.append(now)
                quiet_since = 0.0
            elif not quiet_since:
                quiet_since = now

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.pc.close()


PAGE = """data:text/html,<video autoplay playsinline style='width:320px'></video>"""
# Notes each picture that is drawn, and the level of the sound every 5 ms.
OFFER = """
const done = arguments[0];
const seen = (window.seen = { pictures: [], flashes: [], beeps: [], sizes: [] });
const now = () => performance.timeOrigin + performance.now();
const pc = (window.pc = new RTCPeerConnection());
const video = document.querySelector("video");
const media = (video.srcObject = new MediaStream());
const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
Object.assign(pen.canvas, { width: 16, height: 9 });
let wasWhite = false;
const look = () => {
  seen.pictures.push(now());
  seen.sizes = [video.videoWidth, video.videoHeight];
  pen.drawImage(video, 0, 0, 16, 9);
  const { data } = pen.getImageData(0, 0, 16, 9);
  let sum = 0;
  for (let i = 0; i < data.length; i += 4) sum += data[i];
  const white = sum / 144 > 235;
  if (white && !wasWhite) seen.flashes.push(now());
  wasWhite = white;
  video.requestVideoFrameCallback(look);
};
video.requestVideoFrameCallback(look);
const listen = (track) => {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 256;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const level = new Float32Array(256);
  let wasLoud = false;
  setInterval(() => {
    analyser.getFloatTimeDomainData(level);
    const loud = level.some((value) => Math.abs(value) > 0.2);
    if (loud && !wasLoud) seen.beeps.push(now());
    wasLoud = loud;
  }, 5);
};
pc.ontrack = ({ track }) => {
  media.addTrack(track);
  if (track.kind === "audio") listen(track);
};
pc.addTransceiver("audio", { direction: "recvonly" });
pc.addTransceiver("video", { direction: "recvonly" });
pc.createDataChannel("control");
(async () => {
  await pc.setLocalDescription(await pc.createOffer());
  const gathered = () => pc.iceGatheringState === "complete" && done(pc.localDescription.sdp);
  pc.onicegatheringstatechange = gathered;
  gathered();
})();
"""
ACCEPT = """
const [sdp, done] = arguments;
pc.setRemoteDescription({ type: "answer", sdp }).then(() => done(null), (error) => done(`${error}`));
"""


class Browser(Viewer):
    """A headless Chromium. Its clock is that of this machine."""

    def __init__(self) -> None:
        super().__init__()
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service

        options = Options()
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--autoplay-policy=no-user-gesture-required",
            "--disable-features=WebRtcHideLocalIpsWithMdns",
        ):
            options.add_argument(flag)
        # Else selenium looks for one in the network.
        driver = shutil.which("chromedriver")
        self._driver = webdriver.Chrome(options=options, service=Service(driver))
        self._driver.get(PAGE)
        # From the wall clock, which the page has, to the monotonic one.
        self._shift = time.monotonic() - time.time()

    async def offer(self) -> str:
        return str(await asyncio.to_thread(self._driver.execute_async_script, OFFER))

    async def accept(self, sdp: str) -> None:
        error = await asyncio.to_thread(self._driver.execute_async_script, ACCEPT, sdp)
        if error:
            raise RuntimeError(f"Chromium refused the answer: {error}")

    async def refresh(self) -> None:
        seen = await asyncio.to_thread(self._driver.execute_script, "return window.seen")
        for name in ("pictures", "flashes", "beeps"):
            setattr(self, name, [at / 1000 + self._shift for at in seen[name]])
        self.sizes = {tuple(seen["sizes"])}

    async def close(self) -> None:
        await asyncio.to_thread(self._driver.quit)


async def measure(server: str, seconds: float, *, is_browser: bool, model: str) -> bool:
    params = await video_params(server, model)
    peer = Browser() if is_browser else Peer()
    connection = SmallWebRTCConnection()
    await connection.initialize(await peer.offer(), "offer")
    transport = SmallWebRTCTransport(
        connection, TransportParams(audio_out_enabled=True, **params)
    )
    face = LipsyncVideoService(server=server, model=model)
    flash = Flash()
    worker = PipelineWorker(
        Pipeline([face, flash, transport.output()]),
        params=PipelineParams(audio_out_sample_rate=RATE_HZ),
        cancel_on_idle_timeout=False,
    )
    answer = connection.get_answer()
    await peer.accept(answer["sdp"])
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running_task = asyncio.create_task(runner.run())
    while len(peer.pictures) < 50:
        await asyncio.sleep(0.1)
        await peer.refresh()
    samples = clip(seconds)
    begun = time.monotonic()
    await worker.queue_frame(TTSStartedFrame(context_id="1"))
    n_bytes = 2 * RATE_HZ // 50
    for start in range(0, len(samples), n_bytes):
        piece = samples[start : start + n_bytes]
        await worker.queue_frame(TTSAudioRawFrame(piece, RATE_HZ, 1, context_id="1"))
        # A text-to-speech is some five times as fast as speech.
        await asyncio.sleep(max(0, start / 2 / RATE_HZ / 5 - (time.monotonic() - begun)))
    await worker.queue_frame(TTSStoppedFrame(context_id="1"))
    await asyncio.sleep(max(0, begun + seconds + 3 - time.monotonic()))
    await peer.refresh()
    await worker.cancel()
    await asyncio.gather(running_task, return_exceptions=True)
    await peer.close()
    return report(peer, flash, begun, seconds)


def report(peer: Viewer, flash: Flash, begun: float, seconds: float) -> bool:
    shown = [at for at in peer.pictures if begun <= at < begun + seconds]
    fps = len(shown) / seconds
    gap = max(b - a for a, b in zip(shown, shown[1:], strict=False))
    print(f"pictures: {len(shown)} in {seconds:.0f} s, {fps:.2f}/s, sizes {sorted(peer.sizes)}")
    print(f"longest gap between two: {1000 * gap:.0f} ms")
    skews = []
    for seen in peer.flashes:
        beep = min(peer.beeps, key=lambda at: abs(at - seen), default=None)
        if beep is not None and abs(beep - seen) < EVERY_S / 2:
            skews.append(1000 * (beep - seen))
    for name, times in (("picture", peer.flashes), ("sound", peer.beeps)):
        delays = [1000 * min((t - at for t in times if t >= at), default=0) for at in flash.pushed]
        print(f"{name} after it left the service: {', '.join(f'{ms:.0f}' for ms in delays)} ms")
    print(f"flashes: {len(peer.flashes)}, beeps: {len(peer.beeps)}, pairs: {len(skews)}")
    if not skews:
        print("verdict: bad: no pair of flash and beep")
        return False
    skews.sort()
    print(
        f"sound after picture: median {statistics.median(skews):.0f} ms, "
        f"{skews[0]:.0f} to {skews[-1]:.0f}"
    )
    is_good = fps >= MIN_FPS and abs(statistics.median(skews)) <= MAX_SKEW_MS
    print("verdict:", "good" if is_good else f"bad: expected {MIN_FPS}/s and {MAX_SKEW_MS} ms")
    return is_good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--model", default="mira")
    parser.add_argument("server", type=Path)
    parser.add_argument("seconds", type=float, nargs="?", default=60.0)
    args = parser.parse_args()
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    with running(args.server) as (where, _):
        is_good = asyncio.run(
            measure(where, args.seconds, is_browser=args.browser, model=args.model)
        )
    sys.exit(0 if is_good else 1)
