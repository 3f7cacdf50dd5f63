"""The video service: text-to-speech in, a talking face out."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
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
    SegmentEnd,
    SessionClosedError,
    TalkingHead,
    lost_for_being_idle,
)
from loguru import logger
from pipecat.audio.resamplers.base_audio_resampler import BaseAudioResampler
from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings
from pipecat.utils.errors import ErrorCategory

from .order import Order, Reply
from .pictures import check_format, rgb
from .playing import Playing


class LipsyncVideoService(AIService):
    """Gives the bot a face. Put it between the text-to-speech and the output of the transport.

    It takes the reply's `TTSAudioRawFrame`s, and pushes pictures and the same sound, with the
    reply's `context_id`, at the time when they are due. `TTSStoppedFrame` and whatever else comes
    after a reply's sound follows when that was given; so do the words of a text-to-speech that
    times them. After an `InterruptionFrame` nothing of the interrupted reply follows. Between
    replies it pushes pictures of the face at rest. A picture never comes before its sound can be
    heard: after a stall both are late together.

    If the server is lost, one `ErrorFrame` says so and the sound goes on without new pictures,
    until the server is back. `EndFrame` waits until everything was given; `CancelFrame` does not.
    """

    def __init__(
        self,
        *,
        server: str = "127.0.0.1:50051",
        model: str,
        format: OutputFormat = OutputFormat.RGB,  # noqa: A002
        ca: str | Path | bytes | None = None,
        api_key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        connect_timeout_s: float = 10.0,
        retry: Retry | None = None,
        name: str | None = None,
    ) -> None:
        """Prepare it.

        `server` is an address (`host:port`, `https://host:port`), `model` one of its avatars.
        `format` is how pictures come from the server (`pictures.FORMATS`). `ca`, `api_key` and
        `metadata` are those of `lipsync_client.Client`; `retry` says when a lost server is tried
        again.

        Raises `ValueError` for a format that transports do not take, and for what is no address.
        """
        check_format(format)
        super().__init__(settings=ServiceSettings(model=model), name=name)
        self._server = server
        self._avatar = model
        self._format = format
        self._ca = ca
        self._api_key = api_key
        self._metadata = metadata
        self._connect_timeout_s = connect_timeout_s
        self._retry = retry
        self._rate_hz = 24_000
        self._client: Client | None = None
        self._head: TalkingHead | None = None
        self._taker: asyncio.Task[None] | None = None
        self._resampler: BaseAudioResampler | None = None
        self._order = Order()
        # One at a time pushes: what is on its way stays before an interruption.
        self._pushing = asyncio.Lock()
        self._is_timing = False
        self._playing = Playing()
        self._was_cut = asyncio.Event()

    def can_generate_metrics(self) -> bool:
        """Say yes: it measures the time from a reply's first sound in to its first sound out."""
        return True

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Learn the pipeline's rate of sound."""
        await super().setup(setup)
        self._rate_hz = setup.audio_out_sample_rate
        self._resampler = create_stream_resampler()

    async def start(self, frame: StartFrame) -> None:
        """Open the session. A server that is not there is an `ErrorFrame`, and tried again."""
        await super().start(frame)
        if self._head is not None:
            return
        audio = PcmS16(self._rate_hz)
        self._client = Client(
            self._server,
            ca=self._ca,
            api_key=self._api_key,
            metadata=self._metadata,
            answer_timeout=self._connect_timeout_s,
        )
        session = self._client.lasting_session(
            self._avatar,
            audio,
            output=Output(format=self._format),
            pacing=Pacing.REALTIME,
            idle_frames=True,
            audio_echo=True,
            retry=self._retry,
        )
        self._head = TalkingHead(session, audio)
        await self._head.start(needs_face=False)
        self._taker = self.create_task(self._take(self._head))

    async def stop(self, frame: EndFrame) -> None:
        """Wait until everything was given, then close the session."""
        await super().stop(frame)
        if self._head is not None:
            await self._head.end()
            await self._order.until_empty()
        await self._close()

    async def cancel(self, frame: CancelFrame) -> None:
        """Close the session."""
        await super().cancel(frame)
        await self._close()

    async def cleanup(self) -> None:
        """Close the session, if nothing else has."""
        await super().cleanup()
        await self._close()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take the sound of replies; keep everything else in its order."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        elif isinstance(frame, InterruptionFrame):
            await self._interrupt(frame)
        elif isinstance(frame, SystemFrame | EndFrame) or self._head is None:
            await self.push_frame(frame)
        elif self._order.is_cut(frame):
            logger.trace(f"{self}: {frame} is of an interrupted reply")
        elif isinstance(frame, TTSAudioRawFrame):
            await self._say(self._head, frame)
        else:
            if isinstance(frame, TTSStoppedFrame | TTSStartedFrame):
                await self._end_reply(self._head)
            await self._hold_or_push(frame)

    async def _hold_or_push(self, frame: Frame) -> None:
        async with self._pushing:
            if not self._order.hold(frame):
                await self.push_frame(frame)

    async def _say(self, head: TalkingHead, frame: TTSAudioRawFrame) -> None:
        reply = self._order.newest
        if reply is not None and not reply.is_ended and reply.context_id != frame.context_id:
            await self._end_reply(head)
            reply = None
        if reply is None or reply.is_ended:
            # Behind another reply the time would measure that one's length.
            is_first = self._order.newest is None
            reply = self._order.begin(head.next_segment, frame)
            if is_first:
                self._is_timing = True
                await self.start_ttfb_metrics()
        audio = await self._converted(frame)
        reply.n_pushed += len(audio)
        try:
            await head.push(audio)
        except SessionClosedError:
            logger.debug(f"{self}: sound after the end was dropped")

    async def _end_reply(self, head: TalkingHead) -> None:
        reply = self._order.newest
        if reply is not None and not reply.is_ended:
            reply.is_ended = True
            await head.end()

    async def _converted(self, frame: TTSAudioRawFrame) -> bytes:
        audio = frame.audio
        if frame.num_channels > 1:
            samples = np.frombuffer(audio, np.int16).reshape(-1, frame.num_channels)
            audio = samples.mean(axis=1).astype(np.int16).tobytes()
        if frame.sample_rate != self._rate_hz and self._resampler is not None:
            audio = await self._resampler.resample(audio, frame.sample_rate, self._rate_hz)
        return audio

    async def _interrupt(self, frame: InterruptionFrame) -> None:
        if self._head is not None:
            self._head.clear()
        kept = self._order.cut()
        self._playing.stop()
        self._was_cut.set()
        self._resampler = create_stream_resampler()
        if self._is_timing:
            self._is_timing = False
            await self.cancel_ttfb_metrics()
        async with self._pushing:
            await self.push_frame(frame)
            for held in kept:
                await self.push_frame(held)

    async def _take(self, head: TalkingHead) -> None:
        """Push what the head gives, until it is closed."""
        while (item := await head.take()) is not None:
            if isinstance(item, Moment) and item.audio and item.picture is not None:
                await self._until_due()
            async with self._pushing:
                await self._give(item)

    async def _until_due(self) -> None:
        """Wait until the transport is at most a frame and a half behind, or for an interruption."""
        self._was_cut.clear()
        if wait_s := self._playing.wait_s(time.monotonic()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._was_cut.wait()

    async def _give(self, item: HeadItem) -> None:
        match item:
            case Moment(picture, audio, segment_id):
                reply = self._order.find(segment_id)
                if segment_id and reply is None:
                    return  # It was interrupted while another push was under way.
                if picture is not None:
                    size = (picture.width, picture.height)
                    await self.push_frame(OutputImageRawFrame(rgb(picture), size, "RGB"))
                if audio and reply is not None:
                    await self._give_sound(audio, reply)
            case SegmentEnd(segment_id):
                for held in self._order.end(segment_id):
                    await self.push_frame(held)
            case Failure(error, is_final):
                if is_final or not lost_for_being_idle(error):
                    await self.push_error(
                        f"the face is lost, the voice goes on: {error}",
                        exception=error,
                        # Never a permanent one: Pipecat would take the voice away, too.
                        category=ErrorCategory.CONNECTIVITY,
                    )
            case Restored(_, after_s):
                logger.info(f"{self}: the face is back after {after_s:.1f} s")

    async def _give_sound(self, audio: bytes, reply: Reply) -> None:
        if self._is_timing:
            self._is_timing = False
            await self.stop_ttfb_metrics()
        sound = TTSAudioRawFrame(audio, self._rate_hz, 1, context_id=reply.context_id)
        sound.transport_destination = reply.destination
        await self.push_frame(sound)
        self._playing.give(len(audio) / 2 / self._rate_hz, time.monotonic())
        for held in reply.due(len(audio)):
            await self.push_frame(held)

    async def _close(self) -> None:
        head, self._head = self._head, None
        client, self._client = self._client, None
        taker, self._taker = self._taker, None
        self._order.cut()
        if head is not None:
            await head.close()
        if taker is not None:
            await self.cancel_task(taker)
        if client is not None:
            await client.close()
