"""The worker's end of the agent's voice."""

from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, DataStreamAudioReceiver


class AudioReceiver(DataStreamAudioReceiver):
    """LiveKit's receiver, which also answers for segments that nobody heard.

    `AvatarRunner` answers only for segments of which it has read a sample. The agent would wait for
    a segment without samples for ever, and for one that was interrupted before its first sample
    until a time limit (2 s).
    """

    def __init__(self, room: rtc.Room, *, sender_identity: str | None = None) -> None:
        super().__init__(room, sender_identity=sender_identity)
        self._n_read = 0
        self._n_clears = 0
        self._clears_seen = 0
        self.on("clear_buffer", self._count_clear)

    def _count_clear(self) -> None:
        self._n_clears += 1

    async def __anext__(self) -> rtc.AudioFrame | AudioSegmentEnd:
        """Wait for audio, or for the end of a segment."""
        item = await super().__anext__()
        if isinstance(item, AudioSegmentEnd):
            was_cleared = self._n_clears > self._clears_seen
            self._clears_seen = self._n_clears
            if self._n_read == 0:
                self.notify_playback_finished(playback_position=0.0, interrupted=was_cleared)
            self._n_read = 0
        else:
            self._n_read += 1
        return item
