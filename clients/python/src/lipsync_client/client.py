"""A connection to one server."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc
import grpc.aio

from .address import is_exposed
from .audio import AudioFormat, Bytes, Pcm, PcmS16, Steps, encoding, whole_items
from .channel import ANSWER_TIMEOUT_S, PING_INTERVAL_S, PING_TIMEOUT_S, open_channel
from .cuts import cuts
from .errors import CallError, call_error
from .events import Batch, Frame, ServerWarning, frame_from_proto
from .key import InsecureKeyWarning, key_metadata
from .lasting import LastingSession, Retry
from .options import Output, Pacing, Priority
from .session import Session
from .v1 import lipsync_pb2 as pb
from .v1 import lipsync_pb2_grpc as rpc

_T = TypeVar("_T")
_SERVING = b"\x08\x01"
"""A `grpc.health.v1.HealthCheckResponse` that says SERVING."""


class Client:
    """A connection to one server, an asynchronous context manager.

    Every call raises `CallError` when the server refuses or cannot be reached.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        ca: str | Path | bytes | None = None,
        api_key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        answer_timeout: float = ANSWER_TIMEOUT_S,
        pings: tuple[float, float] = (PING_INTERVAL_S, PING_TIMEOUT_S),
    ) -> None:
        """Prepare a connection; it is made with the first call.

        `https://host:port` uses TLS, `http://host:port` and `host:port` do not; `grpcs` and
        `grpc` are other names of the schemes. Without a port it is 443, 80, or 50051 where there
        is no scheme either. `ca` names a file of certificates (PEM), or is its content, that TLS
        trusts instead of those that grpcio brings along; `credentials` say all of it in grpcio's
        way. `ca` and `credentials` turn TLS on for `host:port` too. `api_key` is the key of a
        tenant; where it would go without TLS to another machine, `InsecureKeyWarning` says so.
        `metadata` goes with every request.

        Nothing waits for ever. Calls without a limit of their own and the opening of a session end
        after `answer_timeout` seconds with DEADLINE_EXCEEDED. If nothing comes in for the
        first number of `pings` seconds while a call or a session runs, the client pings the server.
        Without an answer within the second number of seconds, the link is dead, and its calls and
        sessions end with UNAVAILABLE.
        """
        key = key_metadata(api_key)
        self._metadata = (*(metadata or {}).items(), *key)
        self._timeout = answer_timeout
        self._channel = open_channel(address, credentials, ca, pings)
        if key and credentials is None and ca is None and is_exposed(address):
            warnings.warn(
                f"the key is sent in clear to {address}: use https://",
                InsecureKeyWarning,
                stacklevel=2,
            )
        self._lip_sync = rpc.LipSyncStub(self._channel)
        self._admin = rpc.ModelAdminStub(self._channel)
        self._server = rpc.ServerAdminStub(self._channel)

    async def __aenter__(self) -> "Client":
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection, and cancel its calls and sessions."""
        await self._channel.close()

    async def wait_until_serving(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109
        """Wait until the server says that it is ready; raise `TimeoutError` when it does not."""
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        check = self._channel.unary_unary("/grpc.health.v1.Health/Check")
        async with asyncio.timeout(timeout):
            while True:
                try:
                    answer = await check(b"", wait_for_ready=True, timeout=timeout)
                    if answer == _SERVING:
                        return
                except grpc.aio.AioRpcError:
                    pass
                await asyncio.sleep(0.1)

    def session(
        self,
        model_id: str,
        audio: AudioFormat | None = None,
        *,
        output: Output | None = None,
        pacing: Pacing = Pacing.ASAP,
        idle_frames: bool = False,
        audio_echo: bool = False,
        start_frame_index: int = 0,
        priority: Priority = Priority.DEFAULT,
        resumable: bool = False,
        resume_token: bytes = b"",
    ) -> Session:
        """Configure a live session; `async with` opens it.

        `audio` is the audio format, by default 16 kHz mono 16-bit samples. `pacing` says when
        frames leave; `idle_frames` asks for frames in silence and between segments; `audio_echo`
        for the sound of each frame; `start_frame_index` is the place of the first frame on the
        avatar's timeline. With `resumable`, frames bring tokens; a session that is opened with the
        last `resume_token` goes on behind its frame (`opened.resumed` says how). `lasting_session`
        does that by itself.
        """
        audio = audio or PcmS16()
        request = pb.OpenSession(
            model_id=model_id,
            output=(output or Output()).to_proto(),
            pacing=pb.Pacing.ValueType(pacing),
            idle_frames=idle_frames,
            audio_echo=audio_echo,
            start_frame_index=start_frame_index,
            priority=pb.Priority.ValueType(priority),
            resumable=resumable,
            resume_token=resume_token,
        )
        if isinstance(audio, Pcm):
            request.audio_input = pb.AUDIO_INPUT_PCM
            request.encoding = encoding(audio)
            request.sample_rate_hz = audio.rate_hz
            request.channels = audio.n_channels
        elif isinstance(audio, Steps):
            request.audio_input = pb.AUDIO_INPUT_STEPS
        else:
            request.audio_input = pb.AUDIO_INPUT_WINDOWS
        return Session(self._lip_sync, audio, request, self._naming(model_id), self._timeout)

    def lasting_session(
        self,
        model_id: str,
        audio: AudioFormat | None = None,
        *,
        output: Output | None = None,
        pacing: Pacing = Pacing.ASAP,
        idle_frames: bool = False,
        audio_echo: bool = False,
        start_frame_index: int = 0,
        priority: Priority = Priority.DEFAULT,
        retry: Retry | None = None,
    ) -> LastingSession:
        """Configure a session that is opened again when its connection is lost.

        It goes on behind the last frame that came, in the middle of a sentence too; or else at the
        next place on the walk. All but `retry` is as in `session`.
        """

        def make(start: int, resume_token: bytes) -> Session:
            return self.session(
                model_id,
                audio,
                output=output,
                pacing=pacing,
                idle_frames=idle_frames,
                audio_echo=audio_echo,
                start_frame_index=start,
                priority=priority,
                resumable=True,
                resume_token=resume_token,
            )

        return LastingSession(make, audio or PcmS16(), start_frame_index, retry or Retry())

    async def infer(
        self,
        model_id: str,
        samples: Bytes,
        audio: AudioFormat | None = None,
        *,
        first_frame: int = 0,
        frame_count: int = 0,
        end_of_utterance: bool = True,
        start_frame_index: int = 0,
        output: Output | None = None,
        priority: Priority = Priority.DEFAULT,
        timeout: float | None = 30.0,  # noqa: ASYNC109
    ) -> Batch:
        """Make the frames of one piece of speech.

        `samples` are of the form `audio`. `first_frame` is the first frame wanted, counted from the
        start of the samples: what lies before it is context. `frame_count` 0 = all that the audio
        covers. With `end_of_utterance=False` only frames whose audio is complete are made.
        `start_frame_index` is the place of the first frame on the avatar's timeline.
        """
        audio = audio or PcmS16()
        data = bytes(whole_items(audio, samples))
        request = pb.InferBatchCompositeRequest(
            model_id=model_id,
            frame_count=frame_count,
            start_frame_index=start_frame_index,
            output=(output or Output()).to_proto(),
            priority=pb.Priority.ValueType(priority),
        )
        if isinstance(audio, Pcm):
            pcm = pb.Pcm(
                samples=data,
                sample_rate_hz=audio.rate_hz,
                channels=audio.n_channels,
                encoding=encoding(audio),
                first_frame=first_frame,
                end_of_utterance=end_of_utterance,
            )
            request.pcm.CopyFrom(pcm)
        elif isinstance(audio, Steps):
            steps = pb.FeatureSteps(
                data=data, first_frame=first_frame, end_of_utterance=end_of_utterance
            )
            request.steps.CopyFrom(steps)
        else:
            request.windows.CopyFrom(pb.FeatureWindows(data=data))
        metadata = self._naming(model_id)
        answer = await _answer(
            self._lip_sync.InferBatchComposite(request, timeout=timeout, metadata=metadata)
        )
        frames = tuple(frame_from_proto(frame) for frame in answer.frames)
        told = tuple(ServerWarning(w.code, w.text) for w in answer.warnings)
        return Batch(frames, answer.timings, told)

    def _naming(self, model_id: str) -> tuple[tuple[str, str], ...]:
        """Name the model in a call's metadata, by which a proxy can choose a server."""
        # An id that is no header is refused by the server.
        if "x-model-id" in dict(self._metadata) or not (
            model_id.isascii() and model_id.isprintable()
        ):
            return self._metadata
        return (*self._metadata, ("x-model-id", model_id))

    async def infer_utterance(
        self,
        model_id: str,
        samples: Bytes,
        audio: AudioFormat | None = None,
        *,
        batch: int = 32,
        start_frame_index: int = 0,
        output: Output | None = None,
        priority: Priority = Priority.DEFAULT,
        timeout: float | None = 30.0,  # noqa: ASYNC109
    ) -> AsyncIterator[Frame]:
        """Make all frames of an utterance of any length, in calls of `batch` frames.

        They are those of one whole call, bit for bit: `cuts` has the rule. Only `pts_us` and
        `audio_time_us` begin anew with each call.
        """
        audio = audio or PcmS16()
        for cut in cuts(audio, samples, batch):
            answer = await self.infer(
                model_id,
                cut.audio,
                audio,
                first_frame=cut.context,
                frame_count=cut.n_frames,
                end_of_utterance=cut.is_end,
                start_frame_index=start_frame_index + cut.first_frame,
                output=output,
                priority=priority,
                timeout=timeout,
            )
            for frame in answer.frames:
                yield frame

    async def list_models(self) -> list[pb.ModelStats]:
        """Return all configured models and their state, sorted by id."""
        request = pb.ListModelsRequest()
        answer = await _answer(
            self._admin.ListModels(request, timeout=self._timeout, metadata=self._metadata)
        )
        return list(answer.models)

    async def load_model(self, model_id: str) -> pb.ModelStats:
        """Load a model and warm it up; return when it is ready."""
        request = pb.LoadModelRequest(model_id=model_id)
        return (
            await _answer(
                self._admin.LoadModel(request, timeout=self._timeout, metadata=self._metadata)
            )
        ).model

    async def unload_model(self, model_id: str) -> bool:
        """Drop a model from memory; return whether it was loaded."""
        request = pb.UnloadModelRequest(model_id=model_id)
        answer = await _answer(
            self._admin.UnloadModel(request, timeout=self._timeout, metadata=self._metadata)
        )
        return answer.was_loaded

    async def model_stats(self, model_id: str) -> pb.ModelStats:
        """Return state and statistics of one model."""
        request = pb.GetModelStatsRequest(model_id=model_id)
        return (
            await _answer(
                self._admin.GetModelStats(request, timeout=self._timeout, metadata=self._metadata)
            )
        ).model

    async def server_stats(self) -> pb.GetServerStatsResponse:
        """Return the server's counters since its start, and its state."""
        request = pb.GetServerStatsRequest()
        return await _answer(
            self._server.GetServerStats(request, timeout=self._timeout, metadata=self._metadata)
        )


async def _answer(call: Awaitable[_T]) -> _T:
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        raise call_error(error) from None
    # grpcio gives None for a good status without a message, and for a message that is none.
    if answer is None:
        raise CallError(
            grpc.StatusCode.INTERNAL,
            "the answer holds no message: what answers there is no lipsync-server",
        )
    return answer
