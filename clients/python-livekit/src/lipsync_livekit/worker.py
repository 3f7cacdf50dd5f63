"""A worker: joins rooms when an agent asks, and renders faces there.

It answers `POST /avatars` of `RemoteAvatarSession`, and `GET /healthz`.
"""

import argparse
import asyncio
import hmac
import logging
import os
from typing import Any

from aiohttp import web
from lipsync_client import Client, LipsyncError
from livekit import rtc
from livekit.agents import utils
from livekit.agents.voice.avatar import AvatarOptions, AvatarRunner

from .generator import FaceGenerator
from .log import logger
from .receiver import AudioReceiver

_MAX_ORDER_BYTES = 16 * 1024
_RATES = range(8_000, 48_001)
_JOIN_S = 20.0
"""How long the lipsync-server may take, and how long a room."""
_AGENT_S = 30.0
"""How long a room waits for its agent."""


class RefusedError(Exception):
    """An order that cannot be carried out. `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def render(
    room: rtc.Room, client: Client, model: str, *, agent: str | None, sample_rate: int = 24_000
) -> None:
    """Render the voice of `agent` in a connected room, until the room or the agent goes.

    Without `agent` it is the first participant of kind agent. Raises `CallError` if the server
    refuses, `TimeoutError` if the agent does not come.
    """
    face = FaceGenerator(client, model, sample_rate=sample_rate)
    try:
        options = await face.start()
        await _show(room, face, options, agent)
    finally:
        await face.aclose()


async def _show(
    room: rtc.Room, face: FaceGenerator, options: AvatarOptions, agent: str | None
) -> None:
    over = asyncio.Event()

    def left(participant: rtc.RemoteParticipant) -> None:
        if agent is None or participant.identity == agent:
            over.set()

    def state_changed(state: rtc.ConnectionState.ValueType) -> None:
        if state == rtc.ConnectionState.CONN_DISCONNECTED:
            over.set()

    room.on("participant_disconnected", left)
    room.on("connection_state_changed", state_changed)
    runner: AvatarRunner | None = None
    try:
        # A runner would wait for ever for an agent that went before this room was joined.
        kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT if agent is None else None
        async with asyncio.timeout(_AGENT_S):
            await utils.wait_for_participant(room, identity=agent, kind=kind)
        receiver = AudioReceiver(room, sender_identity=agent)
        runner = AvatarRunner(room, audio_recv=receiver, video_gen=face, options=options)
        await runner.start()
        await over.wait()
    finally:
        room.off("participant_disconnected", left)
        room.off("connection_state_changed", state_changed)
        # The face first: it ends whatever the runner waits for.
        await face.aclose()
        if runner is not None:
            await runner.aclose()


class Worker:
    """The HTTP service: one task a room."""

    def __init__(self, server: str, *, key: str, max_rooms: int, livekit_url: str | None) -> None:
        """Prepare it.

        Orders must bring `key`. With `livekit_url` they may name that address only, so that nobody
        sends the worker elsewhere.
        """
        self._client = Client(server)
        self._key = key
        self._max_rooms = max_rooms
        self._url = livekit_url
        self._rooms: set[asyncio.Task[None]] = set()
        self._n_joining = 0

    def application(self) -> web.Application:
        """Return what aiohttp serves."""
        application = web.Application(client_max_size=_MAX_ORDER_BYTES)
        application.router.add_post("/avatars", self._join)
        application.router.add_get("/healthz", self._health)
        application.on_cleanup.append(self._close)
        return application

    async def _close(self, _: web.Application) -> None:
        for task in list(self._rooms):
            task.cancel()
        await asyncio.gather(*self._rooms, return_exceptions=True)
        await self._client.close()

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"rooms": len(self._rooms), "max_rooms": self._max_rooms})

    async def _join(self, request: web.Request) -> web.Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._key.encode()):
            return web.Response(status=401, text="expected `authorization: Bearer <worker key>`")
        try:
            order = self._checked(await _json(request))
            room, face, options = await self._joined(order)
        except RefusedError as refusal:
            return web.Response(status=refusal.status, text=str(refusal))
        task = asyncio.create_task(self._render(room, face, options, order["agent"]))
        self._rooms.add(task)
        task.add_done_callback(self._rooms.discard)
        return web.json_response({"identity": room.local_participant.identity})

    async def _joined(self, order: dict[str, Any]) -> tuple[rtc.Room, FaceGenerator, AvatarOptions]:
        """Open the session, then join: an agent whose face cannot come keeps its own voice."""
        face = FaceGenerator(self._client, order["model"], sample_rate=order["sample_rate"])
        room = rtc.Room()
        self._n_joining += 1
        try:
            async with asyncio.timeout(_JOIN_S):
                options = await face.start()
            async with asyncio.timeout(_JOIN_S):
                await room.connect(order["url"], order["token"])
        except BaseException as error:
            await face.aclose()
            match error:
                case LipsyncError():
                    text = f"the lipsync-server refuses: {error}"
                case rtc.ConnectError():
                    text = f"the room cannot be joined: {error}"
                case TimeoutError():
                    text = "the lipsync-server or the room did not answer in time"
                case _:
                    raise
            raise RefusedError(502, text[:200]) from error
        finally:
            self._n_joining -= 1
        return room, face, options

    def _checked(self, order: Any) -> dict[str, Any]:
        if not isinstance(order, dict):
            raise RefusedError(400, "expected an object")
        for field in ("url", "token", "agent", "model"):
            value = order.get(field)
            if not isinstance(value, str) or not 0 < len(value) <= 4_096:
                raise RefusedError(400, f"{field}: expected 1 to 4096 characters")
        rate_hz = order.setdefault("sample_rate", 24_000)
        if not isinstance(rate_hz, int) or rate_hz not in _RATES:
            raise RefusedError(400, f"sample_rate: expected 8000 to 48000, found {rate_hz!r:.40}")
        if self._url is not None and order["url"] != self._url:
            raise RefusedError(403, "url: this worker serves another LiveKit server")
        if len(self._rooms) + self._n_joining >= self._max_rooms:
            raise RefusedError(503, f"the worker is in {self._max_rooms} rooms, its limit")
        return order

    async def _render(
        self, room: rtc.Room, face: FaceGenerator, options: AvatarOptions, agent: str
    ) -> None:
        try:
            await _show(room, face, options, agent)
        except TimeoutError:
            logger.error("room %s: the agent did not come", room.name)
        finally:
            await room.disconnect()


async def _json(request: web.Request) -> Any:
    try:
        return await request.json()
    except ValueError:
        raise RefusedError(400, "expected JSON") from None


def main() -> None:
    """Run a worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="127.0.0.1:50051", help="the lipsync-server")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8089)
    parser.add_argument("--max-rooms", type=int, default=16)
    args = parser.parse_args()
    key = os.environ.get("LIPSYNC_WORKER_KEY", "")
    if not key:
        parser.error("set LIPSYNC_WORKER_KEY: whoever knows it may send this worker into rooms")
    logging.basicConfig(level=logging.INFO)

    async def application() -> web.Application:
        worker = Worker(
            args.server,
            key=key,
            max_rooms=args.max_rooms,
            livekit_url=os.environ.get("LIVEKIT_URL"),
        )
        return worker.application()

    web.run_app(application(), host=args.host, port=args.port)


if __name__ == "__main__":
    main()
