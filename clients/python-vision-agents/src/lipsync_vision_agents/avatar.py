"""The avatar: the agent's voice in, a talking face and the same voice out."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from getstream.video.rtc.track_util import PcmData
from lipsync_client import (
    Client,
    Failure,
    HeadItem,
    Moment,
    Output,
    OutputFormat,
    Pacing,
    PcmS16,
    Restored,
    Retry,
    TalkingHead,
)
from vision_agents.core.agents.inference import (
    AudioOutputFlush,
    AudioOutputStream,
)
from vision_agents.core.avatars import Avatar, AVSynchronizer
from vision_agents.core.utils.stream import StreamClosed
from vision_agents.core.utils.video_track import QueuedVideoTrack

logger = logging.getLogger("lipsync_vision_agents")

_MAX_QUEUED_S = 2.0
"""Pictures that wait for their sound."""


class LipsyncAvatar(Avatar):
    """Gives an agent a face: `Agent(..., avatar=LipsyncAvatar(model="mira"))`.

    The server paces pictures and sound. When the agent is interrupted, nothing of the reply
    follows. If the server is lost, the voice goes on without new pictures until it is back.
    """

    provider_name = "lipsync-server"

    def __init__(
        self,
        *,
        server: str = "127.0.0.1:50051",
        model: str,
        size: tuple[int, int] = (1280, 720),
        fps: int = 25,
        sample_rate: int = 24_000,
        retry: Retry | None = None,
        **connection: Any,
    ) -> None:
        """Prepare it; the agent starts it when it joins a call.

        `server` is an address (`host:port`, `https://host:port`), `model` one of its avatars.
        `size` and `fps` are the avatar's; pictures of another size would be resized. `sample_rate`
        is that of the voice, Hz. `retry` says when a lost server is tried again. What
        `lipsync_client.Client` takes beside the address may follow: `ca`, `api_key` and so on.
        """
        super().__init__()
        self._sync = AVSynchronizer(
            width=size[0], height=size[1], fps=fps, max_queue_size=round(fps * _MAX_QUEUED_S)
        )
        self._server = server
        self._avatar = model
        self._audio = PcmS16(sample_rate)
        self._retry = retry
        self._connection = connection
        self._client: Client | None = None
        self._head: TalkingHead | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._resampler: av.AudioResampler | None = None

    def video_output(self) -> QueuedVideoTrack:
        """Return the track of the face."""
        return self._sync.video_output

    def audio_output(self) -> AudioOutputStream:
        """Return the voice, in step with the face."""
        return self._sync.audio_output

    async def start(self) -> None:
        """Open the session. Raises `CallError` where there is no server, or it refuses."""
        if self._head is not None:
            return
        client = Client(self._server, **self._connection)
        session = client.lasting_session(
            self._avatar,
            self._audio,
            output=Output(format=OutputFormat.I420_LIMITED_BT601),
            pacing=Pacing.REALTIME,
            idle_frames=True,
            audio_echo=True,
            retry=self._retry,
        )
        head = TalkingHead(session, self._audio)
        try:
            await head.start()
        except BaseException:
            await client.close()
            raise
        self._client, self._head = client, head
        self._tasks = [
            asyncio.create_task(self._hear(head), name="lipsync-hear"),
            asyncio.create_task(self._show(head), name="lipsync-show"),
        ]

    async def close(self) -> None:
        """End everything. Twice is no error."""
        head, self._head = self._head, None
        client, self._client = self._client, None
        if head is not None:
            await head.close()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if client is not None:
            await client.close()
        self._sync.close()

    async def _hear(self, head: TalkingHead) -> None:
        """Push the agent's voice, until its stream is closed."""
        async for item in self.input_audio_stream:
            if isinstance(item, AudioOutputFlush):
                self._resampler = None
                head.clear()
                await self._sync.flush()
                continue
            if item.data is not None and not item.data.empty:
                for samples in self._converted(item.data):
                    await head.push(samples)
            if item.final:
                await self._end(head)

    async def _end(self, head: TalkingHead) -> None:
        resampler, self._resampler = self._resampler, None
        if resampler is not None:
            # What it keeps back.
            for frame in resampler.resample(None):
                await head.push(_samples(frame))
        await head.end()

    def _converted(self, pcm: PcmData) -> Iterator[bytes]:
        if self._resampler is None:
            self._resampler = av.AudioResampler("s16", "mono", self._audio.rate_hz)
        for frame in self._resampler.resample(pcm.to_int16().to_av_frame()):
            yield _samples(frame)

    async def _show(self, head: TalkingHead) -> None:
        """Hand over what the head gives, until it is closed."""
        while (item := await head.take()) is not None:
            # The agent closes its streams in an order of its own.
            with contextlib.suppress(StreamClosed):
                await self._give(item)

    async def _give(self, item: HeadItem) -> None:
        match item:
            case Moment(picture, audio, _):
                if picture is not None:
                    planes = np.frombuffer(picture.data, np.uint8)
                    planes = planes.reshape(picture.height * 3 // 2, picture.width)
                    await self._sync.write_video(av.VideoFrame.from_ndarray(planes, "yuv420p"))
                if audio:
                    rate = self._audio.rate_hz
                    pcm = PcmData.from_bytes(audio, sample_rate=rate, format="s16", channels=1)
                    await self._sync.write_audio(pcm)
            case Failure(error, is_final):
                logger.error(
                    "the face is lost, the voice goes on: %s", error, extra={"final": is_final}
                )
            case Restored(_, after_s):
                logger.info("the face is back after %.1f s", after_s)
            case _:
                pass


def _samples(frame: av.AudioFrame) -> bytes:
    return frame.to_ndarray().astype("<i2").tobytes()
