"""An agent, a worker and its face: all of the remote way but the network of rooms."""

import asyncio
import base64
import json
from typing import Any

import pytest
from aiohttp.test_utils import BaseTestServer, TestServer
from livekit import rtc
from livekit.agents import AgentSession
from rooms import End, pair
from wire import RATE_HZ, audio

from lipsync_livekit import RemoteAvatarSession, Worker, WorkerError

URL = "ws://127.0.0.1:1"


def remote(
    worker: BaseTestServer, *, model: str = "mira", key: str = "right"
) -> RemoteAvatarSession:
    return RemoteAvatarSession(
        str(worker.make_url("")),
        model,
        worker_key=key,
        identity="avatar",
        sample_rate=RATE_HZ,
        livekit_url=URL,
        api_key="key",
        api_secret="s" * 32,
    )


def rooms(monkeypatch: pytest.MonkeyPatch) -> tuple[End, End]:
    """A pair of rooms, the second of which is the worker's."""
    agent, avatar = pair()
    monkeypatch.setattr(rtc, "Room", lambda: avatar.room)
    return agent, avatar


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return read


async def until_no_task_is_left(before: set[asyncio.Task[Any]]) -> None:
    """LiveKit's own publishers end a moment after they are cancelled."""
    for task in asyncio.all_tasks() - before:
        await asyncio.wait([task], timeout=5)
        assert task.done(), task


async def test_a_worker_speaks_is_interrupted_and_goes_with_the_agent(
    server: str, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    agent, avatar = rooms(monkeypatch)
    worker = Worker(server, key="right", max_rooms=1, livekit_url=URL)
    async with TestServer(worker.application()) as http:
        session: AgentSession[None] = AgentSession()
        face = remote(http)
        await face.start(session, agent.room)
        url, token = avatar.room.connect.call_args.args
        assert url == URL
        assert claims(token)["attributes"] == {"lk.publish_on_behalf": "agent"}
        assert claims(token)["video"]["room"] == agent.room.name
        output = session.output.audio
        assert output is not None
        started = asyncio.Event()
        output.on("playback_started", lambda _: started.set())
        async with asyncio.timeout(60):
            await face.wait_for_join()
            for _ in range(2):
                await output.capture_frame(audio(speech[:16_000]))
                output.flush()
                end = await output.wait_for_playout()
                assert not end.interrupted
                assert end.playback_position == pytest.approx(0.5)
            started.clear()
            await output.capture_frame(audio(speech))
            await started.wait()
            output.clear_buffer()
            output.flush()
            assert (await output.wait_for_playout()).interrupted
        # There is no room for another one.
        with pytest.raises(WorkerError, match="503: the worker is in 1 rooms"):
            await remote(http).start(session, agent.room)
        # The agent goes in the middle of a segment.
        await output.capture_frame(audio(speech))
        [task] = worker._rooms
        agent.leave()
        await asyncio.wait([task], timeout=60)
        assert task.done()
        avatar.room.disconnect.assert_awaited_once()
        await face.aclose()
        await session.aclose()
    await until_no_task_is_left(before)


@pytest.mark.parametrize(
    ("change", "text"),
    [({"key": "wrong"}, "401"), ({"model": "nobody"}, "502: the lipsync-server refuses: .*nobody")],
)
async def test_a_worker_that_refuses_leaves_the_agent_as_it_was(
    server: str, change: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    agent, avatar = rooms(monkeypatch)
    worker = Worker(server, key="right", max_rooms=1, livekit_url=URL)
    async with TestServer(worker.application()) as http:
        session: AgentSession[None] = AgentSession()
        with pytest.raises(WorkerError, match=text):
            await remote(http, **change).start(session, agent.room)
        assert session.output.audio is None
        avatar.room.connect.assert_not_called()
        assert not worker._rooms
        await session.aclose()
    await until_no_task_is_left(before)


async def test_an_agent_that_has_gone_leaves_no_room_behind(
    server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lipsync_livekit.worker._AGENT_S", 0.2)
    agent, avatar = rooms(monkeypatch)
    agent.leave()
    worker = Worker(server, key="right", max_rooms=1, livekit_url=URL)
    async with TestServer(worker.application()) as http:
        session: AgentSession[None] = AgentSession()
        face = remote(http)
        await face.start(session, agent.room)
        await asyncio.wait(worker._rooms, timeout=60)
        avatar.room.disconnect.assert_awaited_once()
        assert "the agent did not come" in caplog.text
        await face.aclose()
        await session.aclose()
