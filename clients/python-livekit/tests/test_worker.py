"""The worker's door, and the token that opens a room."""

import base64
import json

import pytest
from aiohttp.test_utils import TestClient, TestServer

from lipsync_livekit import RemoteAvatarSession, Worker, avatar_token

ORDER = {
    "url": "ws://127.0.0.1:1",
    "token": "x",
    "agent": "agent",
    "model": "mira",
    "sample_rate": 24_000,
}
KEY = {"authorization": "Bearer right"}


def test_a_token_is_of_kind_agent_and_publishes_for_another() -> None:
    token = avatar_token(
        api_key="key", api_secret="s" * 32, room="r", identity="face", on_behalf_of="agent"
    )
    part = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert claims["kind"] == "agent"
    assert claims["sub"] == "face"
    assert claims["attributes"] == {"lk.publish_on_behalf": "agent"}
    assert (claims["video"]["room"], claims["video"]["roomJoin"]) == ("r", True)


@pytest.mark.parametrize(
    ("change", "key", "status", "text"),
    [
        ({}, {"authorization": "Bearer wrong"}, 401, "worker key"),
        ({}, {}, 401, "worker key"),
        ({"model": ""}, KEY, 400, "model"),
        ({"token": 7}, KEY, 400, "token"),
        ({"sample_rate": 7}, KEY, 400, "sample_rate"),
        ({"sample_rate": True}, KEY, 400, "sample_rate"),
        ({"url": "ws://elsewhere"}, KEY, 403, "another LiveKit server"),
        ({}, KEY, 502, "cannot be joined"),
    ],
)
async def test_orders_are_checked(
    server: str, change: dict[str, object], key: dict[str, str], status: int, text: str
) -> None:
    worker = Worker(server, key="right", max_rooms=1, livekit_url="ws://127.0.0.1:1")
    async with TestClient(TestServer(worker.application())) as http:
        answer = await http.post("/avatars", json=ORDER | change, headers=key)
        assert answer.status == status
        assert text in await answer.text()
        assert await (await http.get("/healthz")).json() == {"rooms": 0, "max_rooms": 1}


async def test_a_full_worker_says_so(server: str) -> None:
    worker = Worker(server, key="right", max_rooms=0, livekit_url=None)
    async with TestClient(TestServer(worker.application())) as http:
        answer = await http.post("/avatars", json=ORDER, headers=KEY)
        assert answer.status == 503
        answer = await http.post("/avatars", data=b"{", headers=KEY)
        assert answer.status == 400
        answer = await http.post("/avatars", data=b"x" * 20_000, headers=KEY)
        assert answer.status == 413


def test_missing_keys_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET"):
        RemoteAvatarSession("http://127.0.0.1:8089", "mira")
