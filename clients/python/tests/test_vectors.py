"""Sessions that all clients must see alike: `tests/data/session` of the repository."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from lipsync_client import Event, ProtocolError, ServerWarning, SessionClosedError, WindowFullError
from lipsync_client.audio import PcmS16
from lipsync_client.session import Session
from lipsync_client.v1 import lipsync_pb2 as pb
from lipsync_client.v1 import lipsync_pb2_grpc as rpc

FILE = Path(__file__).parents[3] / "tests/data/session/vectors.json"
VECTORS = json.loads(FILE.read_text())
NAMES = [vector["name"] for vector in VECTORS["vectors"]]
MARK = pb.StreamCompositeResponse(warning=pb.Warning(code="mark"))


class Wire:
    """Stands where grpcio is: a stub, and the one call that is made on it."""

    def __init__(self) -> None:
        self.sent: list[pb.StreamCompositeRequest] = []
        self.answers: asyncio.Queue[pb.StreamCompositeResponse] = asyncio.Queue()
        self.sending: asyncio.Task[None] | None = None
        self.taken = asyncio.Event()

    def StreamComposite(  # noqa: N802 # As generated.
        self, requests: AsyncIterator[pb.StreamCompositeRequest], metadata: object
    ) -> "Wire":
        assert metadata == ()
        self.sending = asyncio.create_task(self._send(requests))
        return self

    async def _send(self, requests: AsyncIterator[pb.StreamCompositeRequest]) -> None:
        async for request in requests:
            self.sent.append(request)
            self.taken.set()
        self.taken.set()

    async def read(self) -> object:
        return await self.answers.get()

    async def initial_metadata(self) -> None:
        return None

    def cancel(self) -> None:
        if self.sending is not None:
            self.sending.cancel()


def opened() -> pb.StreamCompositeResponse:
    seconds = VECTORS["max_buffered_audio_s"]
    return pb.StreamCompositeResponse(
        opened=pb.Opened(fps=VECTORS["fps"], max_buffered_audio_s=seconds)
    )


def message(step: dict[str, Any]) -> pb.StreamCompositeResponse:
    match step["server"]:
        case "frame":
            frame = pb.CompositedFrame(
                segment_id=step.get("segment_id", 0),
                audio_time_us=step.get("audio_time_us"),
                generated=step.get("generated", False),
                format=pb.OUTPUT_FORMAT_JPEG,
            )
            return pb.StreamCompositeResponse(frame=frame)
        case "segment_end":
            end = pb.SegmentEnd(segment_id=step["segment_id"], n_frames=1)
            return pb.StreamCompositeResponse(segment_end=end)
        case "cleared":
            return pb.StreamCompositeResponse(cleared=pb.Cleared())
        case "warning":
            return pb.StreamCompositeResponse(warning=pb.Warning(code=step["code"]))
        case "opened":
            return opened()
        case "unknown":
            return pb.StreamCompositeResponse()
        case other:
            raise AssertionError(other)


async def act(session: Session, step: dict[str, Any]) -> object:
    match step["act"]:
        case "push":
            try:
                return await session.push_audio(bytes(step["n_bytes"]), wait=False)
            except WindowFullError:
                return "full"
            except SessionClosedError:
                return "closed"
        case "end_segment":
            return await session.end_segment()
        case "clear":
            await session.clear()
            return None
        case "finish":
            await session.finish()
            return None
        case other:
            raise AssertionError(other)


def summary(requests: list[pb.StreamCompositeRequest]) -> list[list[object]]:
    """What was sent, neighbouring audio of a segment added up."""
    sent: list[list[Any]] = []
    for request in requests:
        kind = request.WhichOneof("message")
        if kind == "audio":
            audio = request.audio
            if sent and sent[-1][:2] == ["audio", audio.segment_id]:
                sent[-1][2] += len(audio.pcm)
            else:
                sent.append(["audio", audio.segment_id, len(audio.pcm)])
        elif kind == "end_segment":
            sent.append(["end_segment", request.end_segment.segment_id])
        else:
            assert request == pb.StreamCompositeRequest(clear=pb.Clear())
            sent.append(["clear"])
    return sent


async def given(session: Session, wire: Wire, answer: pb.StreamCompositeResponse) -> str:
    """What becomes of a message: a mark is sent behind it, and comes alone if it was dropped."""
    wire.answers.put_nowait(answer)
    wire.answers.put_nowait(MARK)
    events: list[Event] = []
    try:
        async for event in session:
            if event == ServerWarning("mark", ""):
                break
            events.append(event)
    except ProtocolError:
        return "fault"
    assert len(events) <= 1
    return "event" if events else "dropped"


async def all_sent(session: Session, wire: Wire) -> list[pb.StreamCompositeRequest]:
    """Wait until the connection has taken everything."""
    while not session._outgoing.empty():
        wire.taken.clear()
        await wire.taken.wait()
    sent, wire.sent = wire.sent, []
    return sent


@pytest.mark.parametrize("name", NAMES)
async def test_a_session_is_what_the_vectors_say(name: str) -> None:
    (vector,) = (v for v in VECTORS["vectors"] if v["name"] == name)
    wire = Wire()
    wire.answers.put_nowait(opened())
    stub = cast("rpc.LipSyncAsyncStub", wire)
    audio = PcmS16(rate_hz=VECTORS["rate_hz"])
    async with Session(stub, audio, pb.OpenSession(), (), 60.0) as session:
        for n, step in enumerate(vector["steps"]):
            what = f"step {n}: {step}"
            if "act" in step:
                assert await act(session, step) == step["gives"], what
                sent = await all_sent(session, wire)
                opening = [r for r in sent if r.HasField("open")]
                assert summary([r for r in sent if r not in opening]) == step["sends"], what
            else:
                assert await given(session, wire, message(step)) == step["gives"], what
            if step["gives"] != "fault":
                assert session._ledger is not None
                assert session._ledger.n_held == step["held"], what
