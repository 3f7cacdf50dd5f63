"""The reckoning of what the transport has still to play."""

import pytest

from lipsync_pipecat.playing import Playing


def test_frames_in_time_do_not_wait() -> None:
    playing = Playing()
    for n in range(100):
        # A little early and a little late.
        now = 5 + 0.04 * n + (0.01 if n % 2 else -0.01)
        assert playing.wait_s(now) == 0
        playing.give(0.04, now)


def test_frames_that_come_at_once_follow_the_sound() -> None:
    playing = Playing()
    now, given_s = 7.0, 0.0
    for _ in range(10):
        now += playing.wait_s(now)
        playing.give(0.04, now)
        given_s += 0.04
        # The sound before this frame has been played, but for one frame and a half.
        assert given_s - 0.04 - (now - 7.0) <= 0.06 + 1e-9
    assert now == pytest.approx(7.0 + 9 * 0.04 - 0.06)


def test_an_interruption_ends_the_waiting() -> None:
    playing = Playing()
    playing.give(2.0, 1.0)
    assert playing.wait_s(1.0) == pytest.approx(1.94)
    playing.stop()
    assert playing.wait_s(1.0) == 0
