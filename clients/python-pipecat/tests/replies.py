"""Replies as a text-to-speech sends them, and what came of them."""

from collections.abc import Iterable, Sequence

from lipsync_client import Retry
from pipecat.frames.frames import (
    Frame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.worker import PipelineParams
from pipecat.utils.text.base_text_aggregator import TextType

from lipsync_pipecat import LipsyncVideoService

RATE_HZ = 16_000
PARAMS = PipelineParams(
    audio_out_sample_rate=RATE_HZ, enable_metrics=True, report_only_initial_ttfb=False
)
START_S = 60.0
"""A loaded machine loads the model slowly."""


def service(server: str) -> LipsyncVideoService:
    return LipsyncVideoService(
        server=server, model="mira", retry=Retry(first_s=0.05, longest_s=0.2, resume_within_s=0)
    )


def sound(
    samples: bytes, context_id: str | None, *, rate_hz: int = RATE_HZ, n_channels: int = 1
) -> list[Frame]:
    """Pieces of 20 ms."""
    n_bytes = 2 * n_channels * rate_hz // 50
    return [
        TTSAudioRawFrame(samples[i : i + n_bytes], rate_hz, n_channels, context_id=context_id)
        for i in range(0, len(samples), n_bytes)
    ]


def reply(samples: bytes, context_id: str, *, is_whole: bool = True) -> list[Frame]:
    frames = [TTSStartedFrame(context_id=context_id), *sound(samples, context_id)]
    if is_whole:
        frames.append(TTSStoppedFrame(context_id=context_id))
    return frames


def word(text: str, context_id: str) -> TTSTextFrame:
    return TTSTextFrame(text, text_type=TextType.WORD, context_id=context_id)


def heard(frames: Iterable[Frame], context_id: str | None) -> bytes:
    return b"".join(
        f.audio for f in frames if isinstance(f, TTSAudioRawFrame) and f.context_id == context_id
    )


def without_pictures(frames: Sequence[Frame]) -> list[Frame]:
    return [frame for frame in frames if not isinstance(frame, OutputImageRawFrame)]


def kinds(frames: Iterable[Frame]) -> list[str]:
    """Names, each once for a run of the same."""
    names: list[str] = []
    for frame in frames:
        name = type(frame).__name__
        if not names or names[-1] != name:
            names.append(name)
    return names
