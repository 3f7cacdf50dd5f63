"""What becomes of the statuses of calls, without a server."""

import grpc
import grpc.aio

from lipsync_client import EndedWhileSendingError
from lipsync_client.errors import call_error


def failed(details: str) -> grpc.aio.AioRpcError:
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, none, none, details=details)


def test_a_status_that_grpcio_lost_is_not_the_servers() -> None:
    lost = call_error(failed("Internal error from Core"), "r1")
    assert isinstance(lost, EndedWhileSendingError)
    assert (lost.code, lost.request_id) == (grpc.StatusCode.UNKNOWN, "r1")
    told = call_error(failed("internal error"), "r2")
    assert not isinstance(told, EndedWhileSendingError)
    assert (told.code, told.message) == (grpc.StatusCode.INTERNAL, "internal error")
