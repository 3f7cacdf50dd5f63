"""How far ahead of the transport the service is. Pure arithmetic."""

_MAX_AHEAD_S = 0.06
"""A frame and a half: enough that the transport never runs dry between two frames."""


class Playing:
    """What a transport has still to play, reckoned from what it was given.

    A transport plays sound at its own pace, but shows a picture at once. So a picture whose sound
    waits behind other sound would come too early: after frames that came late together, and when
    the event loop was blocked.
    """

    def __init__(self) -> None:
        self._until = 0.0

    def give(self, seconds: float, now: float) -> None:
        """Book sound that is given now."""
        self._until = max(self._until, now) + seconds

    def wait_s(self, now: float) -> float:
        """Return how long the next picture with sound has to wait; 0 if it has not."""
        return max(0.0, self._until - now - _MAX_AHEAD_S)

    def stop(self) -> None:
        """Book an interruption: the transport drops what it has."""
        self._until = 0.0
