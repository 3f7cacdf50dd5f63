"""The account of a session, without a server."""

import pytest

from lipsync_client.audio import PcmS16
from lipsync_client.errors import ChunkTooLargeError, ProtocolError, WindowFullError
from lipsync_client.events import Opened
from lipsync_client.ledger import Ledger
from lipsync_client.v1 import lipsync_pb2 as pb


def ledger() -> Ledger:
    """25 fps, 1 kHz, at most 2 s with the server."""
    opened = Opened(25, 0, 0, "ave", 0, 2, 0, 0, None)
    return Ledger(PcmS16(rate_hz=1_000), opened)


def frame(segment_id: int, n: int) -> pb.CompositedFrame:
    return pb.CompositedFrame(segment_id=segment_id, audio_time_us=n * 40_000)


def grant_all(account: Ledger, n_items: int) -> int:
    granted = 0
    while n := account.grant(n_items - granted):
        granted += n
    return granted


def test_room_comes_back_with_the_frames() -> None:
    account = ledger()
    assert grant_all(account, 5_000) == 2_000
    with pytest.raises(WindowFullError):
        account.check_room(1)
    with pytest.raises(ChunkTooLargeError):
        account.check_room(2_001)
    assert account.book_frame(frame(1, 0))
    assert account.book_frame(frame(1, 1))
    assert grant_all(account, 5_000) == 80
    # More frames than audio: the tail of a segment is rounded up.
    assert account.book_frame(frame(1, 500))
    account.check_room(2_000)


def test_segments_end_in_order() -> None:
    account = ledger()
    for segment_id in (1, 2, 3):
        assert account.grant(10) == 10
        assert account.end_segment() == segment_id
    assert account.end_segment() is None
    assert account.book_end(2)
    assert account.n_held == 10
    assert account.book_frame(frame(3, 0))
    assert account.n_held == 0


def test_an_interruption_drops_what_is_under_way_and_pins_what_is_gone() -> None:
    account = ledger()
    grant_all(account, 2_000)
    account.clear()
    account.check_room(2_000)
    assert account.grant(10) == 10
    assert account.newest == 2
    # Sent before the server knew.
    assert not account.book_frame(frame(1, 3))
    assert not account.book_end(1)
    account.confirm_clear()
    with pytest.raises(ProtocolError):
        account.book_frame(frame(1, 4))
    assert account.book_frame(frame(2, 0))
    assert account.book_frame(pb.CompositedFrame())
