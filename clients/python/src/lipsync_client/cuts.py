"""How an utterance is cut into calls whose frames are, bit for bit, those of one whole call.

A frame's mouth depends on the audio on both sides of it, so a call must send more than its frames
last. The rule:

- Samples are cut at a multiple of 5 frames (200 ms), where the rate is divisible by 5; of 25 frames
  (1 s) where it is not. At least 10 frames of audio come before the first frame wanted, unless the
  utterance begins later, and 11 after the last one, unless it ends before. `first_frame` says how
  much came before.
- Steps may be cut anywhere; 9 come before that of the first frame, 6 after that of the last.
- Windows are whole as they are.
- `end_of_utterance` is false unless the call's audio reaches the end of the utterance.

These are the rules of models of the audio kind ave, of 25 frames a second, so a frame is 40 ms.
Send those of other kinds an utterance in one call, or a session.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from .audio import AudioFormat, Bytes, Pcm, Steps, items_per_s, whole_items

_FPS = 25
"""Frames a second of the models whose rules these are."""
_STEPS_SURPLUS = 2
"""Frames that an utterance of feature steps has beyond their number."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One call of several."""

    first_frame: int
    """The place of its first frame in the utterance."""
    n_frames: int
    """Frames that it gives."""
    audio: memoryview
    """What it sends: these frames' audio and what they need around it."""
    context: int
    """Frames of it that lie before the first wanted one: `first_frame` of the request."""
    is_end: bool
    """Whether it reaches the end of the utterance: `end_of_utterance` of the request."""


def n_frames(audio: AudioFormat, n_items: int) -> int:
    """Return the frames of an utterance of so many samples (of every channel), steps or windows."""
    if n_items <= 0:
        return 0
    if isinstance(audio, Pcm):
        return -(-n_items * _FPS // audio.rate_hz)
    return n_items + _STEPS_SURPLUS if isinstance(audio, Steps) else n_items


def cuts(audio: AudioFormat, samples: Bytes, batch: int) -> Iterator[Cut]:
    """Cut a whole utterance into calls of at most `batch` frames.

    Raises `WrongAudioError` for parts of items.
    """
    view = whole_items(audio, samples)
    n_items = view.nbytes // audio.item_bytes
    left, right, grid = _context(audio)
    total = n_frames(audio, n_items)
    for first in range(0, total, max(1, batch)):
        count = min(max(1, batch), total - first)
        begin = max(0, first - left) // grid * grid
        end = min(n_items, _item_of(audio, first + count + right))
        start = min(end, _item_of(audio, begin))
        data = view[start * audio.item_bytes : end * audio.item_bytes]
        yield Cut(first, count, data, first - begin, end == n_items)


def _context(audio: AudioFormat) -> tuple[int, int, int]:
    """Frames before and after those wanted, and between possible cuts."""
    if isinstance(audio, Pcm):
        return 10, 11, 5 if audio.rate_hz % 5 == 0 else _FPS
    return (9, 6, 1) if isinstance(audio, Steps) else (0, 0, 1)


def _item_of(audio: AudioFormat, frame: int) -> int:
    return frame * items_per_s(audio, _FPS) // _FPS
