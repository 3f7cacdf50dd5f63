"""The `VideoGenerator` that `AvatarRunner` drives."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType

import numpy as np
from lipsync_client import (
    Client,
    Failure,
    Moment,
    Output,
    OutputFormat,
    Pacing,
    PcmS16,
    Restored,
    Retry,
    SegmentEnd,
    SessionClosedError,
    TalkingHead,
)
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarOptions, VideoGenerator

from .log import logger
from .pictures import check_format, video_frame

_IN_HAND_S = 0.08
"""How long an interruption waits for the frame that the runner has in hand."""

Shown = rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd
"""What an avatar runner takes."""


class FaceGenerator(VideoGenerator):
    """Speech in, pictures with their sound out; opened by `start`.

    Between replies the face is at rest, at the full frame rate. If the server is lost, the sound
    goes on without new pictures until it is back. An asynchronous context manager.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        sample_rate: int = 24_000,
        format: OutputFormat = OutputFormat.I420_LIMITED_BT601,  # noqa: A002
        retry: Retry | None = None,
    ) -> None:
        """Prepare it.

        `sample_rate` is that of the published sound, Hz. Audio of another rate or of more channels
        is converted. `format` is how pictures come from the server (`pictures.FORMATS`).

        Raises `ValueError` for a format that cannot be published.
        """
        check_format(format)
        audio = PcmS16(sample_rate)
        self._rate_hz = sample_rate
        self._head = TalkingHead(
            client.lasting_session(
                model,
                audio,
                output=Output(format=format),
                pacing=Pacing.REALTIME,
                idle_frames=True,
                audio_echo=True,
                retry=retry,
            ),
            audio,
        )
        self._resampler: rtc.AudioResampler | None = None
        self._resampled_hz = 0
        self._sound: rtc.AudioFrame | None = None  # Of the picture that was given last.
        self._ended: dict[int, asyncio.Event] = {}
        self._being_ended = 0
        self._n_clears = 0
        self._n_clearing = 0
        self._is_free = asyncio.Event()  # The runner has nothing in hand.
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    async def start(self) -> AvatarOptions:
        """Open the session; return what `AvatarRunner` needs. Raises `CallError`."""
        await self._head.start()
        opened = self._head.opened
        return AvatarOptions(
            video_width=opened.width,
            video_height=opened.height,
            video_fps=opened.fps,
            audio_sample_rate=self._rate_hz,
            audio_channels=1,
        )

    async def __aenter__(self) -> "FaceGenerator":
        """Open the session."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

    @property
    def has_face(self) -> bool:
        """Whether the server is there."""
        return self._head.has_face

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Say this, or end the segment.

        The end of a segment returns when the segment was played: `AvatarRunner` reads on only then,
        since it would lose the end of a segment whose audio it has read before the end of the one
        before. Audio after `aclose` is dropped.
        """
        with contextlib.suppress(SessionClosedError):
            if isinstance(frame, rtc.AudioFrame):
                await self._head.push(self._converted(frame))
            else:
                await self._end()

    async def _end(self) -> None:
        n_clears = self._n_clears
        if self._resampler is not None:
            resampler, self._resampler = self._resampler, None
            for rest in resampler.flush():
                if n_clears != self._n_clears:
                    return
                await self._head.push(bytes(rest.data))
        segment_id = self._head.open_segment
        if segment_id is None:
            return
        done = self._ended[segment_id] = asyncio.Event()
        try:
            if await self._head.end() is not None:
                await done.wait()
        finally:
            del self._ended[segment_id]

    def _converted(self, frame: rtc.AudioFrame) -> bytes:
        """Return samples with one channel, in the session's rate."""
        if frame.num_channels > 1:
            frame = _mixed(frame)
        if frame.sample_rate == self._rate_hz and self._resampler is None:
            return bytes(frame.data)
        if self._resampler is None or self._resampled_hz != frame.sample_rate:
            self._resampled_hz = frame.sample_rate
            self._resampler = rtc.AudioResampler(
                frame.sample_rate, self._rate_hz, quality=rtc.AudioResamplerQuality.HIGH
            )
        return b"".join(bytes(made.data) for made in self._resampler.push(frame))

    async def clear_buffer(self) -> None:
        """Interrupt: nothing of the segment is given from here on.

        It waits for the frame that the runner has in hand, so that the position which the runner
        then reports counts it.
        """
        self._n_clears += 1
        self._n_clearing += 1
        self._may_go_on.clear()
        self._head.clear()
        self._resampler = None
        self._sound = None
        for done in self._ended.values():
            done.set()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IN_HAND_S):
                    await self._is_free.wait()
        finally:
            self._n_clearing -= 1
            if self._n_clearing == 0:
                self._may_go_on.set()

    def __aiter__(self) -> AsyncIterator[Shown]:
        """Iterate over pictures, sound and ends of segments, until `aclose`."""
        return self._shown()

    async def _shown(self) -> AsyncIterator[Shown]:
        while True:
            self._is_free.set()
            if done := self._ended.get(self._being_ended):
                done.set()
            # Until an interruption is over: the runner's account begins anew then.
            await self._may_go_on.wait()
            shown = await self._next()
            self._is_free.clear()
            if shown is None:
                return
            yield shown

    async def _next(self) -> Shown | None:
        while True:
            if self._sound is not None:
                sound, self._sound = self._sound, None
                return sound
            item = await self._head.take()
            if item is None:
                return None
            match item:
                case Moment(picture, audio, _):
                    if audio:
                        n_samples = len(audio) // 2
                        self._sound = rtc.AudioFrame(audio, self._rate_hz, 1, n_samples)
                    if picture is not None:
                        return video_frame(picture)
                case SegmentEnd(segment_id):
                    self._being_ended = segment_id
                    return AudioSegmentEnd()
                case Failure(error, is_final):
                    logger.error(
                        "the face is lost, the voice goes on: %s", error, extra={"final": is_final}
                    )
                case Restored(_, after_s):
                    logger.info("the face is back after %.1f s", after_s)

    async def aclose(self) -> None:
        """End everything; the iteration ends."""
        await self._head.close()
        for done in self._ended.values():
            done.set()


def _mixed(frame: rtc.AudioFrame) -> rtc.AudioFrame:
    """Return the mean of all channels."""
    samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
    mean = samples.mean(axis=1).astype(np.int16)
    return rtc.AudioFrame(mean.tobytes(), frame.sample_rate, 1, frame.samples_per_channel)
