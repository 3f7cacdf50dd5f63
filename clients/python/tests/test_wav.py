"""The WAV reader, against files of every kind; the Rust reader has the same tests."""

import json
import struct
import wave
from io import BytesIO
from pathlib import Path

import pytest
from servers import REPOSITORY

from lipsync_client import WavError, read_wav

SAMPLES = struct.pack("<6h", 0, 1, -1, 32767, -32768, 1234)


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def fmt(tag: int, n_channels: int, rate_hz: int, bits: int) -> bytes:
    block = n_channels * -(-bits // 8)
    fields = (tag, n_channels, rate_hz, rate_hz * block % 2**32, block, bits)
    return struct.pack("<HHIIHH", *fields)


def extensible(tag: int, n_channels: int, bits: int) -> bytes:
    tail = bytes.fromhex("000000001000800000aa00389b71")
    return fmt(0xFFFE, n_channels, 48_000, bits) + struct.pack("<HHIH", 22, bits, 0, tag) + tail


def file(*chunks: bytes) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(chunks))


def of(form: bytes, data: bytes = SAMPLES) -> bytes:
    return file(chunk(b"fmt ", form), chunk(b"data", data))


def numbers(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 2}h", data))


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (2**32 - 1, 2**32 - 1),
        (2**31 - 1, 2**31 - 1),
        (0x7FFFF024, 0x7FFFF000),
        (36, 0),
        (0, 0),
        (0, 12),
        (12, 12),
        (10_000, 12),
        (10_000, 9_964),
        (48, 13),
    ],
)
def test_lengths_that_were_not_known_or_are_wrong_cost_no_sample(riff: int, data: int) -> None:
    whole = bytearray(of(fmt(1, 1, 16_000, 16)))
    struct.pack_into("<I", whole, 4, riff)
    struct.pack_into("<I", whole, 40, data)
    wav = read_wav(bytes(whole))
    assert (wav.samples, wav.rate_hz, wav.n_channels) == (SAMPLES, 16_000, 1)


REFUSED = json.loads((REPOSITORY / "tests/data/wav/refused.json").read_text())


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["message"][:60])
def test_files_are_refused_with_the_words_of_the_rust_client(case: dict[str, str]) -> None:
    with pytest.raises(WavError) as refused:
        read_wav(bytes.fromhex(case["hex"]))
    assert str(refused.value) == case["message"]


@pytest.mark.parametrize(
    ("head", "found"),
    [(b"\xff\xfa", "MP3"), (b"\xff\xe3", "MP3"), (b"\xff\xf9", "AAC"), (b"\x1f\x8b\x08", "gzip")],
)
def test_sound_in_frames_is_named(head: bytes, found: str) -> None:
    with pytest.raises(WavError, match=f"but .*{found}.*: convert it first"):
        read_wav(head + bytes(20))


def test_other_chunks_are_skipped_padded_or_not() -> None:
    form, data = chunk(b"fmt ", fmt(1, 1, 8_000, 8)), chunk(b"data", bytes([128, 129, 127]))
    junk = chunk(b"JUNK", bytes(27))
    after = chunk(b"LIST", b"after the samples")
    for before in (junk, junk[:-1]):
        whole = file(before, form, chunk(b"fact", bytes(4)), data, after)
        assert numbers(read_wav(whole).samples) == [0, 256, -256]
    with pytest.raises(WavError):
        read_wav(file(form, chunk(b"data", b""), after))


@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
@pytest.mark.parametrize(("n_bytes", "n_read"), [(12, 12), (4, 4), (2**40, 12)])
def test_files_of_64_bits_are_read_as_far_as_ds64_says(
    name: bytes, n_bytes: int, n_read: int
) -> None:
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 2**64 - 1, n_bytes, 6, 0))
    data = b"data" + b"\xff" * 4 + SAMPLES
    form = chunk(b"fmt ", fmt(1, 1, 16_000, 16))
    after = chunk(b"axml", b"after") if n_bytes == 12 else b""
    whole = name + b"\xff" * 4 + b"WAVE" + ds64 + form + data + after
    assert read_wav(whole).samples == SAMPLES[:n_read]


@pytest.mark.parametrize("n_bytes", [0, 2**32 - 1, 0x7FFFF000])
def test_chunks_after_samples_of_unknown_length_are_no_samples(n_bytes: int) -> None:
    whole = bytearray(of(fmt(1, 1, 16_000, 16)))
    struct.pack_into("<I", whole, 40, n_bytes)
    listed = chunk(b"LIST", b"INFOISFT\5\0\0\0abcd\0")
    for after in (listed, listed[:-1], listed + chunk(b"id3 ", b"xy")):
        assert read_wav(bytes(whole) + after).samples == SAMPLES
    # What only looks like a chunk is sound.
    for after in (listed[:-4], listed + bytes(6)):
        n_samples = len(SAMPLES) + len(after) // 2 * 2
        assert len(read_wav(bytes(whole) + after).samples) == n_samples


@pytest.mark.parametrize("data", [struct.pack("<d", 1e308), struct.pack("<2d", 0.5, -8000.0)])
def test_floats_of_another_scale_are_refused(data: bytes) -> None:
    with pytest.raises(WavError, match="above 1000, where 1 is full scale"):
        read_wav(of(fmt(3, 1, 16_000, 64), data))


@pytest.mark.parametrize(
    ("tag", "bits", "data", "expected"),
    [
        (1, 8, bytes([0, 128, 255]), [-32768, 0, 127 << 8]),
        (1, 16, SAMPLES, numbers(SAMPLES)),
        (1, 20, b"\xf0\xff\x7f\0\0\x80", [32767, -32768]),
        (1, 24, b"\xff\1\0\0\xff\xff", [1, -1]),
        (1, 32, b"\x09\x09\2\1\0\0\0\x80", [0x0102, -32768]),
        (3, 32, struct.pack("<4f", 0.5, -1.0, 1.0, 7.0), [16_384, -32768, 32767, 32767]),
        (3, 64, struct.pack("<2d", -0.5, -7.0), [-16_384, -32768]),
    ],
)
def test_every_coding_becomes_16_bits(
    tag: int, bits: int, data: bytes, expected: list[int]
) -> None:
    for form in (fmt(tag, 1, 48_000, bits), extensible(tag, 1, bits)):
        assert numbers(read_wav(of(form, data)).samples) == expected


@pytest.mark.parametrize(("tag", "name"), [(7, "mulaw"), (6, "alaw")])
def test_telephony_is_what_the_golden_file_says(tag: int, name: str) -> None:
    golden = REPOSITORY / f"crates/audio/tests/golden/{name}.s16"
    wav = read_wav(of(fmt(tag, 1, 8_000, 8), bytes(range(256))))
    assert wav.samples == golden.read_bytes()


def test_more_than_two_channels_become_their_mean() -> None:
    data = struct.pack("<9h", 1, 2, 6, 0, -3, -3, -32768, -32768, -32768)
    wav = read_wav(of(extensible(1, 3, 16), data))
    assert (wav.n_channels, numbers(wav.samples)) == (1, [3, -2, -32768])


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        (b"", "is empty"),
        (b"RIFF", "not a WAV file"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "ends before"),
        (b"PK\x03\x04" + bytes(20), "ZIP"),
        (b"FORM\0\0\0\x24AIFFCOMM", "AIFF"),
        (b"ID3\x04\0\0\0\0\0\0", "MP3"),
        (of(fmt(0x11, 1, 16_000, 4)), "0x0011"),
        (of(fmt(1, 1, 16_000, 64)), "64 bits"),
        (of(fmt(3, 1, 16_000, 16)), "16 bits"),
        (of(fmt(1, 0, 16_000, 16)), "0 channels"),
        (of(fmt(1, 1, 0, 16)), "0 Hz"),
        (of(b"\1\0"), "does not say"),
        (file(chunk(b"data", SAMPLES)), "does not say"),
        (file(chunk(b"fmt ", fmt(1, 1, 16_000, 16))), "ends before"),
        (of(fmt(1, 1, 16_000, 16), b""), "no samples"),
        (of(fmt(1, 1, 16_000, 16), b"\1"), "no samples"),
        (of(fmt(3, 1, 16_000, 32), struct.pack("<f", float("nan"))), "not finite"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(whole: bytes, expected: str) -> None:
    with pytest.raises(WavError, match=expected):
        read_wav(whole)


def test_a_device_without_an_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipsync_client.wav._MAX_BYTES", 4096)
    with pytest.raises(WavError, match="larger than 4096 bytes"):
        read_wav("/dev/zero")


def test_files_of_the_standard_library_are_read_back(tmp_path: Path) -> None:
    for sample_bytes in (2, 3, 4):
        content = BytesIO()
        with wave.open(content, "wb") as writer:
            writer.setnchannels(2)
            writer.setsampwidth(sample_bytes)
            writer.setframerate(22_050)
            low = bytes(sample_bytes - 2)
            writer.writeframes(b"".join(low + SAMPLES[n : n + 2] for n in range(0, 12, 2)))
        path = tmp_path / "made.wav"
        path.write_bytes(content.getvalue())
        wav = read_wav(path)
        assert (wav.samples, wav.rate_hz, wav.n_channels) == (SAMPLES, 22_050, 2)


def test_the_copy_of_the_example_is_one() -> None:
    ours = REPOSITORY / "clients/python/src/lipsync_client/wav.py"
    copy = REPOSITORY / "examples/python/wav.py"
    assert copy.read_bytes() == ours.read_bytes()
