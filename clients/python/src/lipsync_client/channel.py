"""Make the connection to a server: TLS, timeouts and pings."""

from pathlib import Path

import grpc
import grpc.aio

from .address import parse

MAX_MESSAGE_BYTES = 50 * 1024 * 1024
"""Fits every answer that the default server gives; grpcio's own 4 MiB do not fit 64 full frames."""
PING_INTERVAL_S = 20.0
"""While a call or a session runs and nothing comes in for so long, the server is asked whether it
is there."""
PING_TIMEOUT_S = 10.0
"""How long it may take to answer that."""
ANSWER_TIMEOUT_S = 120.0
"""How long calls without a limit of their own wait, and the opening of a session."""


def open_channel(
    address: str,
    credentials: grpc.ChannelCredentials | None,
    ca: str | Path | bytes | None,
    pings: tuple[float, float],
) -> grpc.aio.Channel:
    """Prepare a connection; TLS where the scheme of `address` or `credentials` ask for it.

    Raises `ValueError` for what is no address, and for a secure channel with nothing to trust.
    """
    target = parse(address)
    interval_s, timeout_s = pings
    options = (
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # Without pings a link that has gone dead is waited on for ever.
        ("grpc.keepalive_time_ms", round(interval_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(timeout_s * 1000)),
        # While another ping waits for its answer (grpc-core measures the line by them) no more is
        # sent: that one's limit, a minute by default, would hold instead.
        ("grpc.http2.ping_timeout_ms", round(timeout_s * 1000)),
        # Only while a call runs: servers of grpc-core and some proxies close idle connections that
        # ping.
        ("grpc.keepalive_permit_without_calls", 0),
        # A session may be silent for minutes; two pings, the default, would be all it had.
        ("grpc.http2.max_pings_without_data", 0),
    )
    if credentials is None and (target.is_secure or ca is not None):
        credentials = grpc.ssl_channel_credentials(_certificates(ca))
    if credentials is None:
        return grpc.aio.insecure_channel(target.target, options=options)
    return grpc.aio.secure_channel(target.target, credentials, options=options)


def _certificates(ca: str | Path | bytes | None) -> bytes | None:
    """PEM of what is trusted; None = what grpcio brings along."""
    if ca is None:
        return None
    pem = ca if isinstance(ca, bytes) else Path(ca).read_bytes()
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise ValueError("no certificate in PEM form is among those to be trusted")
    return pem
