"""Utterances cut into calls give the frames of one whole call, bit for bit."""

import struct

import pytest

from lipsync_client import AudioFormat, Client, PcmF32, PcmS16, Steps, Windows, cuts


@pytest.mark.parametrize("batch", [1, 7, 20])
@pytest.mark.parametrize(
    ("audio", "n_items"),
    [
        (PcmS16(), 640 * 24 + 1),
        (PcmS16(), 1),
        (PcmS16(22_050), 882 * 23 - 1),
        (PcmS16(44_099), 44_099 + 3_000),
        (PcmF32(48_000, 2), 1_920 * 22 + 7),
        (Steps(), 23),
    ],
)
async def test_cut_or_whole_is_the_same(
    client: Client, speech: bytes, audio: AudioFormat, n_items: int, batch: int
) -> None:
    values = [s for (s,) in struct.iter_unpack("<h", speech)] * 16
    if isinstance(audio, PcmS16):
        data = struct.pack(f"<{n_items}h", *values[:n_items])
    else:
        n_floats = n_items * audio.item_bytes // 4
        floats = (values * -(-n_floats // len(values)))[:n_floats]
        data = struct.pack(f"<{n_floats}f", *(value / 32_768 for value in floats))
    whole = [f async for f in client.infer_utterance("mira", data, audio, batch=64)]
    cut = [f async for f in client.infer_utterance("mira", data, audio, batch=batch)]
    assert [f.index for f in cut] == list(range(len(whole)))
    assert [f.data for f in cut] == [f.data for f in whole]


def test_what_the_calls_send() -> None:
    audio = bytes(2 * (40 * 640 + 320))
    found = [
        (c.first_frame, c.n_frames, c.context, len(c.audio) // 1_280, c.is_end)
        for c in cuts(PcmS16(), audio, 8)
    ]
    assert found == [
        (0, 8, 0, 19, False),
        (8, 8, 8, 27, False),
        (16, 8, 11, 30, False),
        (24, 8, 14, 30, True),
        (32, 8, 12, 20, True),
        (40, 1, 10, 10, True),
    ]
    windows = [(c.first_frame, len(c.audio) // 8) for c in cuts(Windows(2), bytes(40), 3)]
    assert windows == [(0, 3), (3, 2)]
    assert not list(cuts(PcmS16(), b"", 8))
