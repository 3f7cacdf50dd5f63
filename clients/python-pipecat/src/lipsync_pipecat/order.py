"""Replies under way, and the frames that must not overtake their sound. Pure bookkeeping."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from pipecat.frames.frames import Frame, TTSAudioRawFrame, TTSStartedFrame

_MAX_CUT = 16
"""Interrupted replies whose late frames are known. A text-to-speech stops within one or two."""


@dataclass(slots=True)
class Reply:
    """A reply whose sound has not all been given."""

    segment_id: int
    context_id: str | None
    destination: str | None
    n_pushed: int = 0
    """Bytes of sound that came."""
    n_given: int = 0
    """Bytes that were given."""
    is_ended: bool = False
    held: deque[tuple[int | None, Frame]] = field(default_factory=deque)
    """Frames, each with the bytes before it; None = it follows the end of the reply."""

    def due(self, n_bytes: int) -> list[Frame]:
        """Book sound that was given; return the frames that follow it."""
        self.n_given += n_bytes
        frames = []
        while self.held and self.held[0][0] is not None and self.held[0][0] <= self.n_given:
            frames.append(self.held.popleft()[1])
        return frames


class Order:
    """The replies, oldest first."""

    def __init__(self) -> None:
        self._replies: deque[Reply] = deque()
        self._cut: deque[str] = deque(maxlen=_MAX_CUT)
        self._announced: str | None = None
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    @property
    def newest(self) -> Reply | None:
        """The reply that began last, if it is not over."""
        return self._replies[-1] if self._replies else None

    def begin(self, segment_id: int, frame: TTSAudioRawFrame) -> Reply:
        """Begin a reply with its first sound."""
        reply = Reply(segment_id, frame.context_id, frame.transport_destination)
        self._replies.append(reply)
        self._is_empty.clear()
        return reply

    def find(self, segment_id: int) -> Reply | None:
        """Return a reply that is not over."""
        return next((r for r in self._replies if r.segment_id == segment_id), None)

    def hold(self, frame: Frame) -> bool:
        """Keep a frame until the sound before it was given; False if none is before it."""
        reply = self.newest
        if reply is None:
            return False
        if reply.is_ended:
            reply.held.append((None, frame))
            return True
        is_due = reply is self._replies[0] and reply.n_given >= reply.n_pushed and not reply.held
        if not is_due:
            reply.held.append((reply.n_pushed, frame))
        return not is_due

    def end(self, segment_id: int) -> list[Frame]:
        """End a reply; return the frames that follow it."""
        reply = self.find(segment_id)
        if reply is None:
            return []
        self._replies.remove(reply)
        if not self._replies:
            self._is_empty.set()
        return [frame for _, frame in reply.held]

    def cut(self) -> list[Frame]:
        """Forget all replies; return the frames that an interruption leaves alone."""
        kept = [f for r in self._replies for _, f in r.held if not f.interruptible]
        self._cut.extend(r.context_id for r in self._replies if r.context_id is not None)
        if self._announced is not None:
            self._cut.append(self._announced)
            self._announced = None
        self._replies.clear()
        self._is_empty.set()
        return kept

    def is_cut(self, frame: Frame) -> bool:
        """Whether a frame is late: of a reply that was interrupted.

        A reply that is announced again is a new one, even under the same name.
        """
        context_id = getattr(frame, "context_id", None)
        if isinstance(frame, TTSStartedFrame):
            self._announced = context_id
            if context_id is not None and context_id in self._cut:
                self._cut.remove(context_id)
            return False
        return context_id is not None and context_id in self._cut

    async def until_empty(self) -> None:
        """Wait until no reply is under way."""
        await self._is_empty.wait()
