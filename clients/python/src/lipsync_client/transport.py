"""Failures between client and server, in words that say what to do.

A proxy that refuses a call answers with an HTTP status and a page instead of gRPC. grpcio tells
that in terms of the protocol, which nobody can act on.
"""

import re

import grpc

_HTTP = re.compile(r"Received http2 header with status: (\d+)")
_RESET = re.compile(r"RST_STREAM with error code (\d+)")
_MEANINGS = {
    "400": ("bad request", "it may speak HTTP/1.1 only, where gRPC needs HTTP/2"),
    "401": ("refused", "it wants credentials"),
    "403": ("refused", "it does not let this address in"),
    "404": ("not found", "it has no route for gRPC at this address"),
    "405": ("not allowed", "it has no route for gRPC at this address"),
    "408": (
        "request timeout",
        "raise its limit for reading requests (nginx: client_body_timeout); "
        "a live session may be silent for minutes",
    ),
    "413": (
        "request too large",
        "raise its limit (nginx: client_max_body_size; a live session is one request, so 0 there)",
    ),
    "415": ("unsupported", "it has no route for gRPC at this address"),
    "429": ("too many requests", "it limits their rate or number"),
    "502": (
        "bad gateway",
        "it cannot reach the server, or does not speak HTTP/2 to it (nginx: grpc_pass)",
    ),
    "503": ("unavailable", "no server behind it takes requests"),
    "504": (
        "gateway timeout",
        "raise its time limits (nginx: grpc_read_timeout, grpc_send_timeout; "
        "Envoy: timeout of the route)",
    ),
}


def in_plain_words(code: grpc.StatusCode, message: str) -> tuple[grpc.StatusCode, str]:
    """Return the code and text that a failure should have; what a server says stays as it is."""
    if found := _HTTP.search(message):
        status = found.group(1)
        meaning, advice = _MEANINGS.get(status, ("no gRPC", "it does not pass gRPC on"))
        if status == "413":
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
        text = f"a proxy in front of the server answered {status} ({meaning}): {advice}"
        return code, text
    if found := _RESET.search(message):
        text = (
            f"the call was cut on its way (HTTP/2 reset {found.group(1)}): where the server's log "
            "has nothing, a proxy in front of it did it; raise its time limits (nginx: "
            "grpc_read_timeout, grpc_send_timeout; Envoy: stream_idle_timeout, the route's timeout)"
        )
        return code, text
    if "Failed parsing HTTP/2" in message:
        return code, (
            "what answers at this address speaks no HTTP/2: it is no gRPC server, or wants https://"
        )
    if code is grpc.StatusCode.UNAVAILABLE and (
        "keepalive" in message.lower() or "ping timeout" in message.lower()
    ):
        return code, "the link is dead: the server has answered nothing for as long as it was asked"
    return code, message
