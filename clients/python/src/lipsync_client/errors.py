"""Errors as types instead of metadata."""

from dataclasses import dataclass

import grpc
import grpc.aio

from .transport import in_plain_words
from .v1 import details_pb2

_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_DETAILS = "grpc-status-details-bin"
_REQUEST_ID = "x-request-id"
_WRITE_FAILED = "Internal error from Core"
"""What grpcio says of a call that ended under a message on its way out; its own status is lost."""

_ENDED_WHILE_SENDING = (
    "ended while sending, and grpcio has lost why: the server's log has it under the request id; "
    "where that has nothing, a proxy in front of the server ended it "
    "(nginx: client_max_body_size, client_body_timeout)"
)


class LipsyncError(Exception):
    """Any error of this package."""


class ProtocolError(LipsyncError):
    """The server broke the contract. The session is over."""


class SessionClosedError(LipsyncError):
    """The session is over, or `finish` was called. `__cause__` is the reason, if there is one."""


class WrongAudioError(LipsyncError, ValueError):
    """The audio is not in the announced format. Nothing was sent."""


class SessionLostError(LipsyncError):
    """A lasting session is without a connection. Nothing was sent; `__cause__` is the reason."""


class ChunkTooLargeError(LipsyncError, ValueError):
    """A piece of audio is larger than the server will ever hold. Nothing was sent."""

    def __init__(self, chunk_s: float, window_s: float) -> None:
        super().__init__(
            f"a chunk of {chunk_s:.2f} s of audio never fits: the server holds at most "
            f"{window_s:.2f} s (session.max_buffered_audio_s); cut it, or push it with wait=True"
        )
        self.chunk_s = chunk_s
        """Its length, seconds."""
        self.window_s = window_s
        """The most that may be with the server, seconds."""


class WindowFullError(LipsyncError):
    """The server holds as much audio as it may. Nothing was sent."""

    def __init__(self, held_s: float, window_s: float) -> None:
        super().__init__(
            f"{held_s:.2f} s of audio are with the server, and it may hold {window_s:.2f} s: "
            "take events first"
        )
        self.held_s = held_s
        """Audio whose frames have not come back, seconds."""
        self.window_s = window_s
        """The most that may be there, seconds."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field that the server does not accept."""

    field: str
    """Its path in the request, for example `open.sample_rate_hz`."""
    description: str
    """The limit, and what came."""


class CallError(LipsyncError):
    """The server refused a call, ended a session, or was not reached."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        request_id: str | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        """The gRPC status code."""
        self.message = message
        """For people; it names a proxy's refusal, and what to change there."""
        self.request_id = request_id
        """What the server's log calls this request; None when the server was not reached."""
        self.violations = violations
        """The fields that are wrong, with INVALID_ARGUMENT."""
        self.retry_after = retry_after
        """When to try again, seconds; None where that does not help."""

    @property
    def is_final(self) -> bool:
        """Whether another attempt would meet the same refusal."""
        return self.code in _FINAL


class EndedWhileSendingError(CallError):
    """A session ended while a message was on its way to the server, for an unknown reason.

    grpcio loses the status then; `code` is UNKNOWN. The server's log has it under `request_id`.
    """


def call_error(error: grpc.aio.AioRpcError, request_id: str | None = None) -> CallError:
    """Read the details of a failed call; `request_id` came with the headers of a stream."""
    violations: list[FieldViolation] = []
    retry_after: float | None = None
    for metadata in (error.initial_metadata(), error.trailing_metadata()):
        for key, value in metadata or ():
            if key == _REQUEST_ID:
                request_id = value if isinstance(value, str) else value.decode("ascii", "replace")
            elif key == _DETAILS and isinstance(value, bytes):
                violations, retry_after = _read_details(value)
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _WRITE_FAILED:
        return EndedWhileSendingError(
            grpc.StatusCode.UNKNOWN, _ENDED_WHILE_SENDING, request_id=request_id
        )
    code, message = in_plain_words(error.code(), error.details() or "")
    return CallError(
        code,
        message,
        request_id=request_id,
        violations=tuple(violations),
        retry_after=retry_after,
    )


def _read_details(data: bytes) -> tuple[list[FieldViolation], float | None]:
    violations: list[FieldViolation] = []
    retry_after: float | None = None
    try:
        for detail in details_pb2.Status.FromString(data).details:
            if detail.type_url.endswith("/google.rpc.BadRequest"):
                bad = details_pb2.BadRequest.FromString(detail.value)
                violations += [FieldViolation(v.field, v.description) for v in bad.field_violations]
            elif detail.type_url.endswith("/google.rpc.RetryInfo"):
                delay = details_pb2.RetryInfo.FromString(detail.value).retry_delay
                retry_after = delay.seconds + delay.nanos / 1e9
    except ValueError:
        pass  # Details that cannot be read hide no error: the code and the text are there.
    return violations, retry_after
