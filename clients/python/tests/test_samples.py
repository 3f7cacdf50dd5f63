"""Sound as it comes: cut anywhere, in telephony codings, and in files, against a real server."""

import struct
from collections.abc import Callable

import grpc
import pytest
from speech import frames, rest

from lipsync_client import (
    CallError,
    Client,
    Frame,
    PcmAlaw,
    PcmF32,
    PcmMulaw,
    PcmS16,
    SegmentEnd,
    ServerWarning,
    Session,
)
from lipsync_client.wav import _alaw, _mulaw


async def pushed(session: Session, sound: bytes, n_bytes: int) -> list[Frame]:
    """The frames of a sound that is pushed in such pieces."""
    for start in range(0, len(sound), n_bytes):
        await session.push_audio(sound[start : start + n_bytes])
    await session.finish()
    return frames(await rest(session))


@pytest.mark.parametrize(("n_channels", "n_bytes"), [(1, 3), (1, 641), (2, 2), (2, 1_283)])
async def test_pieces_that_end_inside_a_sample_change_nothing(
    client: Client, speech: bytes, n_channels: int, n_bytes: int
) -> None:
    audio = PcmS16(n_channels=n_channels)
    sound = speech[: 640 * 2 * n_channels * 4]
    whole = await client.infer("mira", sound, audio)
    async with client.session("mira", audio) as session:
        seen = await pushed(session, sound, n_bytes)
    assert [f.data for f in seen] == [f.data for f in whole.frames]


async def test_a_segment_that_ends_inside_a_sample_is_warned_of(
    client: Client, speech: bytes
) -> None:
    async with client.session("mira") as session:
        assert await session.push_audio(b"\1") == 1
        assert await session.end_segment() is None
        assert await session.push_audio(speech[:1_281]) == 1
        assert await session.end_segment() == 1
        assert await session.push_audio(speech[:1_281]) == 2
        await session.clear()
        assert await session.push_audio(speech[:1_280]) == 3
        await session.finish()
        events = await rest(session)
    warnings = [event.code for event in events if isinstance(event, ServerWarning)]
    assert warnings == ["audio_truncated"]
    ends = [event for event in events if isinstance(event, SegmentEnd)]
    assert ends[-1] == SegmentEnd(3, 1)


@pytest.mark.parametrize(("audio", "expand"), [(PcmMulaw(), _mulaw), (PcmAlaw(), _alaw)])
async def test_telephony_speaks_as_the_same_samples_in_16_bits(
    client: Client, audio: PcmMulaw | PcmAlaw, expand: Callable[[int], int]
) -> None:
    sound = bytes((n * n // 37) % 256 for n in range(320 * 4))
    samples = b"".join(struct.pack("<h", expand(code)) for code in sound)
    expected = await client.infer("mira", samples, PcmS16(8_000))
    unary = await client.infer("mira", sound, audio)
    assert [f.data for f in unary.frames] == [f.data for f in expected.frames]
    async with client.session("mira", audio, audio_echo=True) as session:
        seen = await pushed(session, sound, 333)
    assert [f.data for f in seen] == [f.data for f in expected.frames]
    assert b"".join(f.audio for f in seen) == sound


async def test_files_among_the_samples_are_told(client: Client, speech: bytes) -> None:
    sound = speech[:6_400]
    header = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack(
        "<IHHIIHH4sI", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", 2**32 - 1
    )
    expected = [f.data for f in (await client.infer("mira", sound)).frames]
    batch = await client.infer("mira", header + sound)
    assert [f.data for f in batch.frames] == expected
    assert [w.code for w in batch.warnings] == ["container_stripped"]
    async with client.session("mira") as session:
        await session.push_audio(header + sound)
        await session.finish()
        events = await rest(session)
    assert [f.data for f in frames(events)] == expected
    assert [e.code for e in events if isinstance(e, ServerWarning)] == ["container_stripped"]
    for other in (b"OggS\0\2" + bytes(94), header.replace(b"\x80\x3e", b"\xc0\x5d") + sound):
        with pytest.raises(CallError) as refused:
            await client.infer("mira", other)
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [v.field for v in refused.value.violations] == ["pcm.samples"]


async def test_16_bit_numbers_sent_as_floats_are_told(client: Client, speech: bytes) -> None:
    samples = struct.unpack("<3200h", speech[24_000:30_400])
    floats = struct.pack("<3200f", *samples)
    batch = await client.infer("mira", floats, PcmF32())
    assert [w.code for w in batch.warnings] == ["audio_level"]
    batch = await client.infer(
        "mira", struct.pack("<3200f", *(s / 2**15 for s in samples)), PcmF32()
    )
    assert batch.warnings == ()
