"""The client without asyncio."""

import inspect
import threading

import grpc
import pytest

from lipsync_client import CallError, Cleared, Client, Frame, SegmentEnd, SyncClient


def test_calls_block(server: str, speech: bytes) -> None:
    with SyncClient(server) as client:
        client.wait_until_serving()
        assert "mira" in [model.model_id for model in client.list_models()]
        assert client.server_stats().models_configured >= 1
        whole = client.infer("mira", speech)
        cut = list(client.infer_utterance("mira", speech, batch=10))
        assert [f.data for f in cut] == [f.data for f in whole.frames]
        with pytest.raises(CallError) as refused:
            client.infer("nobody", speech)
        assert refused.value.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(RuntimeError, match="closed"):
        client.list_models()
    client.close()


def test_a_session_speaks_from_another_thread(server: str, speech: bytes) -> None:
    with SyncClient(server) as client, client.session("mira", audio_echo=True) as session:
        assert session.opened.fps == 25

        def speak() -> None:
            for start in range(0, len(speech), 3_333):
                session.push_audio(speech[start : start + 3_333])
            session.end_segment()
            session.finish()

        speaker = threading.Thread(target=speak)
        speaker.start()
        events = list(session)
        speaker.join()
    assert b"".join(e.audio for e in events if isinstance(e, Frame)) == speech
    assert isinstance(events[-1], SegmentEnd)


def test_an_interruption_is_confirmed(server: str, speech: bytes) -> None:
    with SyncClient(server) as client, client.session("mira") as session:
        session.push_audio(speech)
        session.clear()
        session.finish()
        events = list(session)
    assert [type(event) for event in events if not isinstance(event, Frame)] == [Cleared]


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="no host"):
        SyncClient("")


@pytest.mark.parametrize("name", ["__init__", "session", "infer", "infer_utterance", "load_model"])
def test_calls_take_what_those_of_the_client_take(name: str) -> None:
    ours, theirs = (
        inspect.signature(getattr(kind, name)).parameters for kind in (SyncClient, Client)
    )
    assert ours == theirs


def test_a_key_is_sent(server: str) -> None:
    with SyncClient(server, api_key="a-key-0123456789") as client:
        client.wait_until_serving()
