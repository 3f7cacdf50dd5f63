"""A real room, where a LiveKit server is there: `livekit-server --dev` on port 7880."""

import asyncio
import socket

import pytest
from lipsync_client import Client
from livekit import api, rtc
from livekit.agents.voice.avatar import DataStreamAudioOutput
from wire import RATE_HZ, audio

from lipsync_livekit import avatar_token, render

URL = "ws://127.0.0.1:7880"
KEY, SECRET = "devkey", "secret"


def is_there() -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", 7880)) == 0


def agent_token(room: str) -> str:
    grants = api.VideoGrants(room_join=True, room=room)
    token = api.AccessToken(KEY, SECRET).with_kind("agent").with_identity("agent")
    return token.with_grants(grants).to_jwt()


@pytest.mark.skipif(not is_there(), reason="no LiveKit server answers on 127.0.0.1:7880")
async def test_a_worker_joins_speaks_and_is_interrupted(client: Client, speech: bytes) -> None:
    name = "lipsync-test"
    joining = avatar_token(
        api_key=KEY, api_secret=SECRET, room=name, identity="avatar", on_behalf_of="agent"
    )
    agent, avatar = rtc.Room(), rtc.Room()
    await agent.connect(URL, agent_token(name))
    await avatar.connect(URL, joining)
    worker = asyncio.create_task(render(avatar, client, "mira", agent="agent", sample_rate=RATE_HZ))
    try:
        output = DataStreamAudioOutput(
            agent,
            destination_identity="avatar",
            sample_rate=RATE_HZ,
            wait_remote_track=rtc.TrackKind.KIND_VIDEO,
            wait_playback_start=True,
        )
        await output.capture_frame(audio(speech))
        output.flush()
        async with asyncio.timeout(60):
            end = await output.wait_for_playout()
        assert not end.interrupted
        assert end.playback_position == pytest.approx(len(speech) / 2 / RATE_HZ, abs=0.04)
        started = asyncio.Event()
        output.on("playback_started", lambda _: started.set())
        await output.capture_frame(audio(speech))
        async with asyncio.timeout(60):
            await started.wait()
            output.clear_buffer()
            assert (await output.wait_for_playout()).interrupted
    finally:
        await agent.disconnect()
        await asyncio.wait([worker], timeout=30)
        await avatar.disconnect()
    assert worker.done()
