"""`AvatarSession` with a worker: another process joins the room and renders the face."""

import datetime
import os
from typing import Any

import aiohttp
from livekit import api, rtc
from livekit.agents import AgentSession, get_job_context
from livekit.agents.voice.avatar import AvatarSession as BaseAvatarSession
from livekit.agents.voice.avatar import DataStreamAudioOutput

from .avatar import PROVIDER

PUBLISH_ON_BEHALF = "lk.publish_on_behalf"
"""The attribute by which LiveKit shows a participant's tracks as those of another."""
_TOKEN_LIFE = datetime.timedelta(minutes=10)
"""A token is used at once; a room outlives it."""
_ANSWER_S = 30.0


class WorkerError(Exception):
    """The worker refused, or was not reached."""


def avatar_token(
    *,
    api_key: str,
    api_secret: str,
    room: str,
    identity: str,
    on_behalf_of: str,
) -> str:
    """Return the token with which a worker joins: of kind agent, for one room."""
    return (
        api.AccessToken(api_key, api_secret)
        .with_kind("agent")
        .with_identity(identity)
        .with_name(identity)
        .with_ttl(_TOKEN_LIFE)
        .with_grants(api.VideoGrants(room_join=True, room=room))
        .with_attributes({PUBLISH_ON_BEHALF: on_behalf_of})
        .to_jwt()
    )


class RemoteAvatarSession(BaseAvatarSession[str]):
    """The face of an agent, published by a `lipsync-livekit-worker`.

    The agent sends its voice over LiveKit's byte streams and gets acknowledgements back. It needs
    no connection to the lipsync-server.
    """

    def __init__(
        self,
        worker: str,
        model: str,
        *,
        worker_key: str | None = None,
        identity: str = "lipsync-avatar",
        sample_rate: int = 24_000,
        livekit_url: str | None = None,
        api_key: str | None = None,
        api_secret: str | None = None,
    ) -> None:
        """Prepare it; `start` asks the worker at `worker` (`http://host:8089`) to join.

        `worker_key` is the worker's `LIPSYNC_WORKER_KEY`. LiveKit's address and keys come from
        `LIVEKIT_URL`, `LIVEKIT_API_KEY` and `LIVEKIT_API_SECRET` unless given.
        """
        super().__init__()
        self._worker = worker.rstrip("/")
        self._model = model
        self._worker_key = worker_key or os.environ.get("LIPSYNC_WORKER_KEY", "")
        self._identity = identity
        self._rate_hz = sample_rate
        self._url = livekit_url or os.environ.get("LIVEKIT_URL", "")
        self._key = api_key or os.environ.get("LIVEKIT_API_KEY", "")
        self._secret = api_secret or os.environ.get("LIVEKIT_API_SECRET", "")
        missing = [
            name
            for name, value in (
                ("LIVEKIT_URL", self._url),
                ("LIVEKIT_API_KEY", self._key),
                ("LIVEKIT_API_SECRET", self._secret),
            )
            if not value
        ]
        if missing:
            raise ValueError(f"expected a value, found none: {', '.join(missing)}")

    @property
    def avatar_identity(self) -> str:
        """The identity of the worker's participant."""
        return self._identity

    @property
    def provider(self) -> str:
        """The provider that metrics name."""
        return PROVIDER

    async def start(self, agent_session: AgentSession[Any], room: rtc.Room) -> None:
        """Call the worker into the room, and send it the agent's voice.

        Raises `WorkerError`, and aiohttp's errors if the worker is not reached. Then nothing was
        changed. The job's shutdown calls `aclose`, which sends the avatar out of the room.
        """
        job = get_job_context(required=False)
        agent = room.local_participant.identity if room.isconnected() else ""
        if not agent and job is not None:
            agent = job.local_participant_identity
        if not agent:
            raise RuntimeError("connect the room before the avatar starts")
        token = avatar_token(
            api_key=self._key,
            api_secret=self._secret,
            room=room.name,
            identity=self._identity,
            on_behalf_of=agent,
        )
        await self._call_worker(token, agent)
        await super().start(agent_session, room)
        agent_session.output.replace_audio_tail(
            DataStreamAudioOutput(
                room,
                destination_identity=self._identity,
                sample_rate=self._rate_hz,
                wait_remote_track=rtc.TrackKind.KIND_VIDEO,
                wait_playback_start=True,
            )
        )

    async def _call_worker(self, token: str, agent: str) -> None:
        order = {
            "url": self._url,
            "token": token,
            "agent": agent,
            "model": self._model,
            "sample_rate": self._rate_hz,
        }
        headers = {"authorization": f"Bearer {self._worker_key}"}
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.post(f"{self._worker}/avatars", json=order, headers=headers) as answer,
        ):
            if answer.status >= 300:
                text = (await answer.text())[:200]
                raise WorkerError(f"the worker answered {answer.status}: {text}")
