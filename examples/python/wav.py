"""Reads WAV files into 16-bit samples, by the same rules as the Rust client.

Real files break the format: their lengths are placeholders (0, 0x7FFFFFFF, 0xFFFFFFFF) or wrong,
odd chunks have no padding, and any chunk may come before the samples. If the samples have no
length, chunks that follow them to the very end of the file do not count as samples. RF64 and BW64
work, too. The standard library's `wave` refuses most of these, and every coding but PCM.

It needs nothing but the standard library: `examples/python/wav.py` is a copy of this file.
"""

import array
import math
import pathlib
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass


class WavError(ValueError):
    """The file is not a usable WAV file."""


@dataclass(frozen=True, slots=True)
class Wav:
    """A WAV file, decoded."""

    samples: bytes
    """s16 LE, interleaved; at least one sample."""
    rate_hz: int
    """Samples per second and channel: 4,000 to 192,000."""
    n_channels: int
    """1 or 2: three and more are averaged to one."""


def read_wav(source: str | pathlib.Path | bytes) -> Wav:
    """Read a file, or its content.

    Integers keep their upper 16 bits, floats are rounded and clipped at full scale. Floats beyond
    1000 times that are refused: they have another scale. Raises `WavError` for an unusable file,
    `OSError` for an unreadable one.
    """
    file = source if isinstance(source, bytes) else _read(pathlib.Path(source))
    if file[:4] not in (b"RIFF", b"RF64", b"BW64") or file[8:12] != b"WAVE":
        found = _other_file(file)
        if not file:
            raise WavError("it is empty")
        but = f" but {found}: convert it first" if found else ""
        raise WavError(f"it is not a WAV file{but}")
    form, start, n_bytes = _find_samples(file)
    block = form.sample_bytes * form.n_channels
    n_bytes = min(n_bytes, len(file) - start) // block * block
    if n_bytes == 0:
        raise WavError("it holds no samples")
    samples = form.decode(file[start : start + n_bytes])
    if form.n_channels > 2:
        samples = _mixed(samples, form.n_channels)
    if sys.byteorder == "big":
        samples.byteswap()
    return Wav(samples.tobytes(), form.rate_hz, 2 if form.n_channels == 2 else 1)


_MAX_BYTES = 2**30
"""It may be a device without an end."""


def _read(path: pathlib.Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise WavError(f"it is larger than {_MAX_BYTES} bytes")
    return content


@dataclass(frozen=True, slots=True)
class _Form:
    """What a file says about its samples."""

    sample_bytes: int
    decode: "Callable[[bytes], array.array[int]]"
    rate_hz: int
    n_channels: int


_CHUNKS = frozenset(
    (
        b"fmt ",
        b"data",
        b"LIST",
        b"INFO",
        b"JUNK",
        b"junk",
        b"fact",
        b"PEAK",
        b"bext",
        b"cue ",
        b"smpl",
        b"id3 ",
        b"ID3 ",
        b"iXML",
        b"PAD ",
        b"FLLR",
    )
)
"""Where lengths cannot be trusted, these tell a chunk from what follows by accident."""
_UNKNOWN_LENGTH = 0x7FFF0000
"""Samples of such a length and more have none: who wrote it did not know."""
_NO_FORMAT = "it does not say how its samples are stored (no `fmt` chunk before `data`)"
_NO_CODING = "something unknown"
_CODINGS = {
    1: "PCM",
    3: "float",
    6: "A-law",
    7: "mu-law",
    0x02: "Microsoft ADPCM",
    0x11: "IMA ADPCM",
    0x31: "GSM 6.10",
    0x45: "G.726 ADPCM",
    0x64: "G.726 ADPCM",
    0x50: "MPEG",
    0x55: "MP3",
    0xFF: "AAC",
    0x1600: "AAC",
    0x1610: "AAC",
    0x160: "Windows Media Audio",
    0x161: "Windows Media Audio",
    0x162: "Windows Media Audio",
    0x163: "Windows Media Audio",
    0xFFFE: "something that has no number",
}
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_OTHER_FILES = (
    (b"RIFF????AVI ", "an AVI film"),
    (b"RIFF????WEBP", "a WebP picture"),
    (b"RIFF????QLCM", "a QCP file"),
    (b"RIFX????WAVE", "a big-endian WAV file (RIFX)"),
    (b"riff.\x91\xcf\x11", "a Wave64 file"),
    (b"FORM????AIFF", "an AIFF file"),
    (b"FORM????AIFC", "an AIFF-C file"),
    (b"OggS\x00", "an Ogg file"),
    (b"OpusHead", "the head of an Opus stream"),
    (b"fLaC", "a FLAC file"),
    (b"ID3\x02\x00", "an MP3 file (ID3)"),
    (b"ID3\x03\x00", "an MP3 file (ID3)"),
    (b"ID3\x04\x00", "an MP3 file (ID3)"),
    (b"\x00\x00\x00?ftyp", "an MP4 or M4A file"),
    (b"\x00\x00\x00?moov", "a QuickTime file"),
    (b"\x1aE\xdf\xa3", "a WebM or Matroska file"),
    (b"caff\x00\x01", "a CAF file"),
    (b".snd\x00\x00", "an AU file"),
    (b"#!AMR", "an AMR file"),
    (b"wvpk", "a WavPack file"),
    (b"MAC ", "a Monkey's Audio file"),
    (b"TTA1", "a True Audio file"),
    (b"TTA2", "a True Audio file"),
    (b"DSD ", "a DSD file (DSF)"),
    (b"MThd\x00\x00\x00\x06", "a MIDI file"),
    (b"Creative Voi", "a VOC file"),
    (b"NIST_1A\n", "a SPHERE file"),
    (b".RMF\x00\x00\x00", "a RealMedia file"),
    (b"FLV\x01", "an FLV film"),
    (b"\x00\x00\x01\xba", "an MPEG film"),
    (b"0&\xb2u\x8ef\xcf\x11", "a WMA file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"(\xb5/\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf'\x1c", "a 7-Zip archive"),
    (b"\xfd7zXZ\x00", "an XZ archive"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG picture"),
    (b"GIF89a", "a GIF picture"),
    (b"%PDF-", "a PDF document"),
    (b"\x7fELF", "a program (ELF)"),
    (b"HTTP/1.", "an HTTP answer with its headers"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"\xef\xbb\xbfRIFF", "a WAV file behind a byte order mark"),
    (b"\nRIFF", "a WAV file behind a line break"),
    (b"\r\nRIFF", "a WAV file behind a line break"),
    (b"data:audio/", "base64 text (a data: address)"),
    (b'{"audio', "JSON text"),
    (b'{"data"', "JSON text"),
    (b'{"error', "JSON text"),
    (b'{"type"', "JSON text"),
    (b'{"event', "JSON text"),
    (b"UklGR", "base64 text of a WAV file"),
    (b"SUQzB", "base64 text of an MP3 file"),
    (b"T2dnUw", "base64 text of an Ogg file"),
    (b"ZkxhQ", "base64 text of a FLAC file"),
)
"""Beginnings of files, as in the Rust client; `?` is any byte."""


def _other_file(file: bytes) -> str | None:
    for beginning, name in _OTHER_FILES:
        pairs = zip(beginning, file, strict=False)
        if len(file) >= len(beginning) and all(want in (0x3F, found) for want, found in pairs):
            return name
    # Sound in frames has no beginning of its own; the server looks at several in a row.
    if file[:1] == b"\xff" and len(file) > 1:
        if file[1] & 0xFE in (0xFA, 0xF2, 0xE2):
            return "MP3 frames"
        if file[1] & 0xF6 == 0xF0:
            return "AAC frames (ADTS)"
    return "a gzip archive" if file[:3] == b"\x1f\x8b\x08" else None


def _find_samples(file: bytes) -> tuple[_Form, int, int]:
    """Return what the samples are like, where they begin, and how many bytes they may take."""
    form: _Form | None = None
    n_bytes_64: int | None = None
    place = 12
    while place + 8 <= len(file):
        name = file[place : place + 4]
        (n_bytes,) = struct.unpack_from("<I", file, place + 4)
        start = place + 8
        # An empty one is a length that was never filled in, unless another chunk follows.
        if name == b"data" and (n_bytes > 0 or file[start : start + 4] not in _CHUNKS):
            if form is None:
                raise WavError(_NO_FORMAT)
            if n_bytes == 2**32 - 1 and n_bytes_64 is not None:
                n_bytes = n_bytes_64
            if n_bytes == 0 or _UNKNOWN_LENGTH <= n_bytes < 2**32:
                n_bytes = _end_of_samples(file, start) - start
            return form, start, n_bytes
        end = start + n_bytes
        if name == b"fmt ":
            form = _form(file[start:end])
        elif name == b"ds64" and start + 16 <= len(file):
            # The size of the file, then that of its samples.
            (n_bytes_64,) = struct.unpack_from("<Q", file, start + 8)
        # Odd chunks are followed by a zero, which some writers forget.
        place = end + (n_bytes % 2 if file[end : end + 4] not in _CHUNKS else 0)
    raise WavError("it ends before any samples (no `data` chunk that holds some)")


_CHUNK_NAME = re.compile(b"|".join(re.escape(name) for name in sorted(_CHUNKS)))
_MAX_TRAILING_CHUNKS = 16


def _end_of_samples(file: bytes, start: int) -> int:
    """Return where chunks of known names begin that follow each other to the end of the file."""
    # Names do not overlap: none begins with a part of another.
    for found in _CHUNK_NAME.finditer(file, start):
        place = found.start()
        for _ in range(_MAX_TRAILING_CHUNKS):
            if place + 8 > len(file) or file[place : place + 4] not in _CHUNKS:
                break
            (n_bytes,) = struct.unpack_from("<I", file, place + 4)
            end = place + 8 + n_bytes
            place = end + n_bytes % 2
            if len(file) in (end, place):
                return found.start()
    return len(file)


def _form(content: bytes) -> _Form:
    """Read the content of a `fmt` chunk."""
    if len(content) < 16:
        raise WavError(_NO_FORMAT)
    tag, n_channels, rate_hz, _, block, bits = struct.unpack_from("<HHIIHH", content)
    if tag == 0xFFFE and content[26:40] == _SUBFORMAT_TAIL:
        (tag,) = struct.unpack_from("<H", content, 24)
    if n_channels == 0:
        raise WavError("it has 0 channels")
    if not 4_000 <= rate_hz <= 192_000:
        raise WavError(f"its sample rate is {rate_hz} Hz; 4,000 to 192,000 are supported")
    if tag not in (1, 3, 6, 7):
        raise WavError(
            f"its samples are coded as {_CODINGS.get(tag, _NO_CODING)} (format {tag:#06x}); "
            "PCM, float, mu-law and A-law are supported"
        )
    sample_bytes = -(-bits // 8)
    # Fewer bits of PCM than whole bytes stand at their upper end.
    decode = _DECODERS.get((tag, 8 * sample_bytes if tag == 1 else bits))
    if decode is None or block not in (0, sample_bytes * n_channels):
        raise WavError(
            f"its samples have {bits} bits of {_CODINGS[tag]}, in blocks of {block} bytes for "
            f"{n_channels} channels"
        )
    return _Form(sample_bytes, decode, rate_hz, n_channels)


def _words(data: bytes | bytearray) -> "array.array[int]":
    """Return s16 LE as numbers."""
    words = array.array("h", bytes(data))
    if sys.byteorder == "big":
        words.byteswap()
    return words


def _upper(n: int) -> "Callable[[bytes], array.array[int]]":
    """Return what takes the upper two of `n` bytes."""

    def decode(data: bytes) -> "array.array[int]":
        words = bytearray(2 * (len(data) // n))
        words[0::2] = data[n - 2 :: n]
        words[1::2] = data[n - 1 :: n]
        return _words(words)

    return decode


def _unsigned(data: bytes) -> "array.array[int]":
    words = bytearray(2 * len(data))
    words[1::2] = data.translate(bytes(code ^ 0x80 for code in range(256)))
    return _words(words)


_LARGEST_FLOAT = 1000
"""A float of 60 dB above full scale is none of that scale."""


def _floats(kind: str, n: int) -> "Callable[[bytes], array.array[int]]":
    def decode(data: bytes) -> "array.array[int]":
        values = struct.unpack(f"<{len(data) // n}{kind}", data)
        for index, value in enumerate(values):
            if not math.isfinite(value):
                raise WavError(f"its sample {index} is not finite")
            if abs(value) > _LARGEST_FLOAT:
                raise WavError(
                    f"its sample {index} is above {_LARGEST_FLOAT}, where 1 is full scale: "
                    "scale its floats first"
                )
        return array.array(
            "h", (max(-32768, min(32767, math.floor(v * 32768 + 0.5))) for v in values)
        )

    return decode


def _telephony(expand: Callable[[int], int]) -> "Callable[[bytes], array.array[int]]":
    def decode(data: bytes) -> "array.array[int]":
        table = [expand(code) for code in range(256)]
        return array.array("h", (table[code] for code in data))

    return decode


def _mulaw(code: int) -> int:
    """Expand a code of ITU-T G.711 mu-law."""
    code ^= 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _alaw(code: int) -> int:
    """Expand a code of ITU-T G.711 A-law."""
    code ^= 0x55
    segment = (code & 0x70) >> 4
    step = (code & 0x0F) << 4
    magnitude = step + 8 if segment == 0 else step + 0x108 << (segment - 1)
    return magnitude if code & 0x80 else -magnitude


_DECODERS = {
    (1, 8): _unsigned,
    (1, 16): _upper(2),
    (1, 24): _upper(3),
    (1, 32): _upper(4),
    (3, 32): _floats("f", 4),
    (3, 64): _floats("d", 8),
    (6, 8): _telephony(_alaw),
    (7, 8): _telephony(_mulaw),
}


def _mixed(samples: "array.array[int]", n_channels: int) -> "array.array[int]":
    blocks = (samples[at : at + n_channels] for at in range(0, len(samples), n_channels))
    return array.array("h", (sum(block) // n_channels for block in blocks))
