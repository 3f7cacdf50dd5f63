"""How the client reaches a server: addresses, TLS, and links that go dead."""

import asyncio
from pathlib import Path

import grpc
import pytest
from links import CA, TLS, link
from speech import frames, rest

from lipsync_client import CallError, Client, SessionClosedError
from lipsync_client.address import parse
from lipsync_client.transport import in_plain_words

PATIENCE_S = 60.0
PINGS = (0.5, 3.0)


@pytest.mark.parametrize(
    ("text", "target", "is_secure"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051", False),
        ("localhost", "localhost:50051", False),
        ("[::1]", "[::1]:50051", False),
        ("http://faces.example", "faces.example:80", False),
        ("grpc://faces.example:7/", "faces.example:7", False),
        ("https://faces.example", "faces.example:443", True),
        ("HTTPS://[::1]:7", "[::1]:7", True),
        ("Grpcs://faces.example:7", "faces.example:7", True),
        ("dns:///faces.example:7", "dns:///faces.example:7", False),
        ("unix:/run/lipsync", "unix:/run/lipsync", False),
    ],
)
def test_what_people_write(text: str, target: str, is_secure: bool) -> None:
    address = parse(text)
    assert (address.target, address.is_secure) == (target, is_secure)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no host"),
        (":50051", "no host"),
        ("https:faces.example:7", "two slashes"),
        ("httpss://faces.example", "scheme"),
        ("fe80::1:50051", "brackets"),
        ("faces.example:0", "port"),
        ("faces.example:", "port"),
        ("http://faces.example/lipsync", "no path"),
        ("https://me:word@faces.example", "user name"),
    ],
)
async def test_nothing_else_is_taken_for_an_address(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Client(text)


async def test_https_is_tls_for_calls_and_sessions(server: str, speech: bytes) -> None:
    async with link(server, tls=True) as near:
        for address in (f"https://{near.address}", f"HTTPS://{near.address}/"):
            async with Client(address, ca=CA) as client:
                assert (await client.infer("mira", speech[:3_200])).frames
                async with client.session("mira") as session:
                    await session.push_audio(speech[:3_200])
                    await session.finish()
                    assert frames(await rest(session))
        async with Client(near.address, ca=CA.read_bytes()) as client:
            assert await client.list_models()


async def test_a_secure_scheme_never_falls_back(server: str, tmp_path: Path) -> None:
    for scheme in ("https", "HTTPS", "grpcs"):
        async with Client(f"{scheme}://{server}", ca=CA) as client:
            with pytest.raises(CallError) as refused:
                await client.server_stats()
            assert refused.value.code is grpc.StatusCode.UNAVAILABLE
    async with (
        link(server, tls=True) as near,
        Client(f"https://{near.address}", ca=TLS / "other-ca.pem") as client,
    ):
        with pytest.raises(CallError) as refused:
            await client.server_stats()
        assert refused.value.code is grpc.StatusCode.UNAVAILABLE
    empty = tmp_path / "none.pem"
    empty.write_text("hello")
    with pytest.raises(ValueError, match="PEM"):
        Client("https://localhost", ca=empty)


async def test_a_link_that_goes_dead_ends_sessions_and_calls(server: str, speech: bytes) -> None:
    async with (
        link(server) as near,
        Client(near.address, pings=PINGS) as client,
        client.session("mira") as session,
    ):
        await session.push_audio(speech)
        await anext(session)
        near.die()
        call = asyncio.create_task(client.server_stats())
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(CallError) as ended:
                await rest(session)
            assert ended.value.code is grpc.StatusCode.UNAVAILABLE
            assert "dead" in ended.value.message
            with pytest.raises(SessionClosedError):
                await session.push_audio(speech)
            with pytest.raises(CallError) as ended:
                await call
        assert ended.value.code is grpc.StatusCode.UNAVAILABLE


async def test_what_never_answers_is_not_waited_for(server: str) -> None:
    async with link(server) as near, Client(near.address, answer_timeout=0.5) as client:
        near.die()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(CallError) as late:
                await client.list_models()
            assert late.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
            with pytest.raises(CallError) as late:
                async with client.session("mira"):
                    pass
            assert late.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("http", "advice"),
    [
        (413, "client_max_body_size"),
        (502, "grpc_pass"),
        (504, "grpc_read_timeout"),
        (418, "does not pass gRPC on"),
    ],
)
async def test_a_proxy_that_refuses_is_named(http: int, advice: str) -> None:
    _, text = in_plain_words(grpc.StatusCode.UNKNOWN, f"Received http2 header with status: {http}")
    assert str(http) in text
    assert advice in text


def test_a_reset_names_the_limits_of_proxies() -> None:
    reset = "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"
    code, text = in_plain_words(grpc.StatusCode.INTERNAL, reset)
    assert code is grpc.StatusCode.INTERNAL
    assert "reset 2" in text
    assert "stream_idle_timeout" in text


async def test_a_peer_that_is_no_grpc_server_is_called_so() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(24)
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as peer:
        port = peer.sockets[0].getsockname()[1]
        async with Client(f"127.0.0.1:{port}") as client:
            with pytest.raises(CallError, match="no gRPC server, or wants https://"):
                await asyncio.wait_for(client.list_models(), PATIENCE_S)


async def test_a_good_status_without_a_message_is_an_error() -> None:
    async def silent(_request: bytes, _context: object) -> bytes:
        return b""

    def unreadable(_answer: bytes) -> bytes:
        return b"\xff\xff"

    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        silent, response_serializer=unreadable
    )
    handler = grpc.method_handlers_generic_handler("lipsync.v1.ModelAdmin", {"ListModels": method})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Client(f"127.0.0.1:{port}") as client:
            with pytest.raises(CallError, match="holds no message"):
                await asyncio.wait_for(client.list_models(), PATIENCE_S)
    finally:
        await server.stop(None)


def test_what_a_server_says_is_left_alone() -> None:
    said = (grpc.StatusCode.UNAVAILABLE, "the queue is full")
    assert in_plain_words(*said) == said
