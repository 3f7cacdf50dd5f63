"""An agent and its avatar on an in-memory pair of rooms."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from lipsync_client import Client, OutputFormat, Retry
from livekit import rtc
from livekit.agents.voice.avatar import AvatarRunner, DataStreamAudioOutput
from livekit.agents.voice.io import PlaybackFinishedEvent, PlaybackStartedEvent
from rooms import End, pair

from lipsync_livekit import AudioReceiver, FaceGenerator

RATE_HZ = 16_000


@dataclass
class Tap:
    """What the runner hands to LiveKit's synchroniser, in order."""

    frames: list[rtc.VideoFrame | rtc.AudioFrame] = field(default_factory=list)

    def sound(self) -> bytes:
        return b"".join(bytes(f.data) for f in self.frames if isinstance(f, rtc.AudioFrame))

    def attach(self, runner: AvatarRunner) -> None:
        push = runner.av_sync.push

        async def tapped(
            frame: rtc.VideoFrame | rtc.AudioFrame, timestamp: float | None = None
        ) -> None:
            self.frames.append(frame)
            await push(frame, timestamp)

        runner.av_sync.push = tapped  # type: ignore[method-assign]


@dataclass
class Wire:
    """Both ends of LiveKit's avatar wire, and what happened on it."""

    agent: End
    avatar: End
    output: DataStreamAudioOutput
    generator: FaceGenerator
    tap: Tap
    started: list[PlaybackStartedEvent] = field(default_factory=list)
    finished: list[PlaybackFinishedEvent] = field(default_factory=list)
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, samples: bytes, rate_hz: int = RATE_HZ, chunk_ms: int = 50) -> None:
        """One segment, as a text-to-speech pushes it."""
        n_bytes = 2 * (rate_hz * chunk_ms // 1000)
        for start in range(0, len(samples), n_bytes):
            await self.output.capture_frame(audio(samples[start : start + n_bytes], rate_hz))

    async def said(self, samples: bytes, rate_hz: int = RATE_HZ) -> PlaybackFinishedEvent:
        """One segment, to its end."""
        await self.say(samples, rate_hz)
        self.output.flush()
        return await self.output.wait_for_playout()

    def note_start(self, event: PlaybackStartedEvent) -> None:
        self.started.append(event)
        self.bell.set()

    async def until_started(self, n: int) -> None:
        async with asyncio.timeout(60):
            while len(self.started) < n:
                self.bell.clear()
                await self.bell.wait()


def audio(samples: bytes, rate_hz: int = RATE_HZ, n_channels: int = 1) -> rtc.AudioFrame:
    return rtc.AudioFrame(samples, rate_hz, n_channels, len(samples) // 2 // n_channels)


def tone(rate_hz: int, seconds: float, n_channels: int = 1) -> bytes:
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    wave = (9_000 * np.sin(2 * np.pi * 220 * t)).astype("<i2")
    return np.repeat(wave, n_channels).tobytes()


@asynccontextmanager
async def wire(
    client: Client,
    *,
    format: OutputFormat = OutputFormat.I420_LIMITED_BT601,
) -> AsyncIterator[Wire]:
    """A working pair: `DataStreamAudioOutput` here, receiver, runner and face there."""
    agent, avatar = pair()
    generator = FaceGenerator(
        client,
        "mira",
        sample_rate=RATE_HZ,
        format=format,
        retry=Retry(first_s=0.05, longest_s=0.2, resume_within_s=0),
    )
    options = await generator.start()
    receiver = AudioReceiver(avatar.room, sender_identity="agent")
    runner = AvatarRunner(avatar.room, audio_recv=receiver, video_gen=generator, options=options)
    tap = Tap()
    tap.attach(runner)
    await runner.start()
    output = DataStreamAudioOutput(
        agent.room,
        destination_identity="avatar",
        sample_rate=RATE_HZ,
        wait_remote_track=rtc.TrackKind.KIND_VIDEO,
        wait_playback_start=True,
    )
    made = Wire(agent, avatar, output, generator, tap)
    output.on("playback_started", made.note_start)
    output.on("playback_finished", made.finished.append)
    try:
        yield made
    finally:
        await generator.aclose()
        await runner.aclose()
