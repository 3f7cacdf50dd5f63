"""Two LiveKit rooms that see each other without a server.

Everything but the network is LiveKit's own: rooms, participants and streams are autospecced, so a
change of their interface breaks the tests. Calls and byte streams pass through memory.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import create_autospec

from livekit import rtc

DELAY_S = 0.005
"""How long a message is on its way."""


class Stream:
    """A byte stream: what one end writes the other reads."""

    def __init__(self, attributes: dict[str, str], topic: str) -> None:
        self.info = create_autospec(rtc.ByteStreamInfo, instance=True)
        self.info.attributes = attributes
        self.info.topic = topic
        self.info.stream_id = "stream"
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def write(self, data: bytes) -> None:
        self._chunks.put_nowait(bytes(data))
        await asyncio.sleep(0)

    async def aclose(self) -> None:
        self._chunks.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._chunks.get()
        if chunk is None:
            raise StopAsyncIteration
        return chunk


class End:
    """One participant's room."""

    def __init__(self, identity: str, kind: "rtc.ParticipantKind.ValueType") -> None:
        self.events: rtc.EventEmitter[Any] = rtc.EventEmitter()
        self.identity = identity
        self.kind = kind
        self.methods: dict[str, Callable[[rtc.RpcInvocationData], Any]] = {}
        self.calls: list[tuple[str, str]] = []
        """RPCs that came in: method and payload."""
        self.n_streams = 0
        self.tracks: list[rtc.LocalTrack] = []
        self.peer: End
        self._streams: dict[str, Callable[[Stream, str], None]] = {}
        self.room = create_autospec(rtc.Room, instance=True)
        self.room.isconnected.return_value = True
        self.room.name = "in memory"
        self.room.on.side_effect = self.events.on
        self.room.off.side_effect = self.events.off
        self.room.register_byte_stream_handler.side_effect = self._streams.__setitem__
        local = self.room.local_participant = create_autospec(rtc.LocalParticipant, instance=True)
        local.identity = identity
        local.kind = kind
        local._rpc_handlers = self.methods
        local.register_rpc_method.side_effect = self.methods.__setitem__
        local.perform_rpc.side_effect = self._call
        local.stream_bytes.side_effect = self._open_stream
        local.publish_track.side_effect = self._publish
        local.track_publications = {}
        # As the other end sees it.
        self.remote = create_autospec(rtc.RemoteParticipant, instance=True)
        self.remote.identity = identity
        self.remote.kind = kind
        self.remote.state = rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE
        self.remote.attributes = {}
        self.remote.track_publications = {}

    async def _call(self, *, destination_identity: str, method: str, payload: str, **_: Any) -> str:
        assert destination_identity == self.peer.identity
        await asyncio.sleep(DELAY_S)
        self.peer.calls.append((method, payload))
        handler = self.peer.methods.get(method)
        if handler is None:
            code = rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD
            raise rtc.RpcError(code, f"no method {method}")
        data = rtc.RpcInvocationData("request", self.identity, payload, 10.0)
        answer = handler(data)
        if asyncio.iscoroutine(answer):
            answer = await answer
        await asyncio.sleep(DELAY_S)
        return str(answer)

    async def _open_stream(
        self,
        name: str,
        *,
        topic: str = "",
        attributes: dict[str, str] | None = None,
        destination_identities: list[str] | None = None,
        **_: Any,
    ) -> Stream:
        assert destination_identities == [self.peer.identity]
        await asyncio.sleep(DELAY_S)
        stream = Stream(attributes or {}, topic)
        self.peer.n_streams += 1
        if handler := self.peer._streams.get(topic):
            handler(stream, self.identity)
        return stream

    async def _publish(self, track: rtc.LocalTrack, *_: Any) -> Any:
        self.tracks.append(track)
        publication = create_autospec(rtc.LocalTrackPublication, instance=True)
        publication.kind = track.kind
        publication.track = track
        publication.sid = f"TR_{len(self.tracks)}"
        self.room.local_participant.track_publications[publication.sid] = publication
        self.events.emit("local_track_published", publication, track)
        seen = create_autospec(rtc.RemoteTrackPublication, instance=True)
        seen.kind = track.kind
        self.remote.track_publications[publication.sid] = seen
        self.peer.events.emit("track_published", seen, self.remote)
        return publication

    def leave(self) -> None:
        """Leave the room, as the other end sees it."""
        del self.peer.room.remote_participants[self.identity]
        self.peer.events.emit("participant_disconnected", self.remote)


def pair() -> tuple[End, End]:
    """The rooms of an agent and of its avatar worker."""
    agent = End("agent", rtc.ParticipantKind.PARTICIPANT_KIND_AGENT)
    avatar = End("avatar", rtc.ParticipantKind.PARTICIPANT_KIND_AGENT)
    agent.peer, avatar.peer = avatar, agent
    agent.room.remote_participants = {"avatar": avatar.remote}
    avatar.room.remote_participants = {"agent": agent.remote}
    return agent, avatar
