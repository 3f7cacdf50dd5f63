"""A face in the browser that speaks what you type: Pipecat, WebRTC, espeak-ng, your lipsync-server.

    pip install ./clients/python './clients/python-pipecat[webrtc]'
    python clients/python-pipecat/examples/bot.py --server 127.0.0.1:50051 --model mira

Open http://127.0.0.1:7860. It needs espeak-ng from your distribution, and no account.
In a real bot speech-to-text, a language model and a text-to-speech service of Pipecat stand where
`Espeak` stands.
"""

import argparse
import asyncio
import re
import uuid

from aiohttp import web
from lipsync_client import LipsyncError, read_wav
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport
from pipecat.workers.runner import WorkerRunner

from lipsync_pipecat import LipsyncVideoService, video_params

MAX_TEXT = 2_000
PAGE = """<!doctype html><meta charset="utf-8"><title>lipsync</title>
<style>body{font:16px sans-serif;max-width:45em;margin:2em auto}video{width:100%}</style>
<video id="face" autoplay playsinline controls></video>
<form id="say"><input id="text" size="60" value="Hello, I am a face that was drawn by a program.">
<button>Say it</button> <button type="button" id="stop">Interrupt</button></form>
<script type="module">
const pc = new RTCPeerConnection();
const media = new MediaStream();
document.querySelector("#face").srcObject = media;
pc.ontrack = (event) => media.addTrack(event.track);
pc.addTransceiver("audio", { direction: "recvonly" });
pc.addTransceiver("video", { direction: "recvonly" });
pc.createDataChannel("control");
await pc.setLocalDescription(await pc.createOffer());
await new Promise((done) => {
  if (pc.iceGatheringState === "complete") done();
  pc.onicegatheringstatechange = () => pc.iceGatheringState === "complete" && done();
});
const { sdp, type } = pc.localDescription;
const headers = { "content-type": "application/json" };
const post = (path, body) =>
  fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
const offered = await post("offer", { sdp, type });
if (!offered.ok) document.body.prepend(await offered.text());
const answer = await offered.json();
await pc.setRemoteDescription(answer);
document.querySelector("#say").onsubmit = (event) => {
  event.preventDefault();
  post("say", { id: answer.id, text: document.querySelector("#text").value });
};
document.querySelector("#stop").onclick = () => post("stop", { id: answer.id });
</script>"""


class Espeak(FrameProcessor):
    """A small text-to-speech: a reply of sentences, spoken by espeak-ng."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, TextFrame):
            await self.push_frame(frame, direction)
            return
        context_id = str(uuid.uuid4())
        await self.push_frame(TTSStartedFrame(context_id=context_id))
        for sentence in re.split(r"(?<=[.!?])\s+", frame.text):
            espeak = await asyncio.create_subprocess_exec(
                "espeak-ng", "--stdin", "--stdout",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            sound, _ = await espeak.communicate(sentence.encode())
            wav = read_wav(sound)
            await self.push_frame(
                TTSAudioRawFrame(wav.samples, wav.rate_hz, wav.n_channels, context_id=context_id)
            )
        await self.push_frame(TTSStoppedFrame(context_id=context_id))


class Bots:
    """One pipeline for each browser."""

    def __init__(self, server: str, model: str) -> None:
        self._server = server
        self._model = model
        self._workers: dict[str, PipelineWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def offer(self, request: web.Request) -> web.Response:
        order = await request.json()
        try:
            params = await video_params(self._server, self._model)
        except LipsyncError as error:
            return web.Response(status=503, text=f"the lipsync-server refuses: {error}")
        connection = SmallWebRTCConnection()
        await connection.initialize(order["sdp"], order["type"])
        transport = SmallWebRTCTransport(
            connection, TransportParams(audio_out_enabled=True, **params)
        )
        face = LipsyncVideoService(server=self._server, model=self._model)
        worker = PipelineWorker(
            Pipeline([Espeak(), face, transport.output()]),
            params=PipelineParams(enable_metrics=True),
            cancel_on_idle_timeout=False,
        )
        name = str(uuid.uuid4())
        self._workers[name] = worker

        @transport.event_handler("on_client_disconnected")
        async def _(*_: object) -> None:
            await worker.cancel()

        task = asyncio.create_task(self._run(name, worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.json_response({**connection.get_answer(), "id": name})

    async def _run(self, name: str, worker: PipelineWorker) -> None:
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        try:
            await runner.run()
        finally:
            del self._workers[name]

    async def say(self, request: web.Request) -> web.Response:
        order = await request.json()
        return await self._tell(order, TextFrame(order["text"][:MAX_TEXT]))

    async def stop(self, request: web.Request) -> web.Response:
        return await self._tell(await request.json(), InterruptionFrame())

    async def _tell(self, order: dict[str, str], frame: Frame) -> web.Response:
        worker = self._workers.get(order["id"])
        if worker is None:
            return web.Response(status=410, text="this conversation is over: load the page again")
        await worker.queue_frame(frame)
        return web.Response(status=204)


async def page(_: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="127.0.0.1:50051", help="the lipsync-server")
    parser.add_argument("--model", default="mira")
    parser.add_argument("--port", type=int, default=7860)
    args = parser.parse_args()
    bots = Bots(args.server, args.model)
    application = web.Application()
    application.router.add_get("/", page)
    application.router.add_post("/offer", bots.offer)
    application.router.add_post("/say", bots.say)
    application.router.add_post("/stop", bots.stop)
    web.run_app(application, host="127.0.0.1", port=args.port)


if __name__ == "__main__":
    main()
