"""The audio formats of requests and sessions.

An *item* is a sample of every channel, a feature step, or a feature window.
"""

from dataclasses import dataclass
from typing import TypeAlias

from .errors import WrongAudioError
from .v1 import lipsync_pb2 as pb

Bytes: TypeAlias = bytes | bytearray | memoryview
"""Audio as it is sent; `memoryview(array)` and `ndarray.data` are taken without a copy of ours."""


@dataclass(frozen=True, slots=True)
class PcmS16:
    """16-bit samples, little-endian, interleaved: the format of most microphones."""

    rate_hz: int = 16_000
    n_channels: int = 1

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return 2 * self.n_channels


@dataclass(frozen=True, slots=True)
class PcmF32:
    """32-bit float samples, little-endian, interleaved, nominal range -1..1."""

    rate_hz: int = 16_000
    n_channels: int = 1

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return 4 * self.n_channels


@dataclass(frozen=True, slots=True)
class PcmMulaw:
    """ITU-T G.711 mu-law, a byte a sample, interleaved: telephony in North America and Japan."""

    rate_hz: int = 8_000
    n_channels: int = 1

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return self.n_channels


@dataclass(frozen=True, slots=True)
class PcmAlaw:
    """ITU-T G.711 A-law, a byte a sample, interleaved: telephony elsewhere."""

    rate_hz: int = 8_000
    n_channels: int = 1

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return self.n_channels


@dataclass(frozen=True, slots=True)
class Steps:
    """Feature steps, one a frame: f32 LE."""

    n_floats: int = 512

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return 4 * self.n_floats


@dataclass(frozen=True, slots=True)
class Windows:
    """Feature windows in the network's layout, one a frame: f32 LE."""

    n_floats: int = 32 * 16 * 16

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return 4 * self.n_floats


Pcm: TypeAlias = PcmS16 | PcmF32 | PcmMulaw | PcmAlaw
"""Samples."""
AudioFormat: TypeAlias = Pcm | Steps | Windows
"""What the audio of a request or a session is."""


def items_per_s(audio: AudioFormat, fps: int) -> int:
    """Return the items in a second of speech, for a model of `fps` frames a second."""
    if isinstance(audio, Pcm):
        return audio.rate_hz
    return fps


def encoding(audio: Pcm) -> pb.PcmEncoding.ValueType:
    """Return how a sample is stored, as the wire names it."""
    match audio:
        case PcmS16():
            return pb.PCM_ENCODING_S16LE
        case PcmF32():
            return pb.PCM_ENCODING_F32LE
        case PcmMulaw():
            return pb.PCM_ENCODING_MULAW
        case PcmAlaw():
            return pb.PCM_ENCODING_ALAW


def whole_items(audio: AudioFormat, data: Bytes) -> memoryview:
    """Return `data` as bytes; refuse parts of items."""
    view = memoryview(data).cast("B")
    if audio.item_bytes <= 0 or view.nbytes % audio.item_bytes:
        raise WrongAudioError(
            f"the audio comes in items of {audio.item_bytes} bytes; found {view.nbytes} bytes"
        )
    return view
