"""WebSocket by hand, on the operations port's /session."""

import base64
import os
import socket
import struct

CONTINUE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def fragment(code, payload=b"", final=True, claims=None):
    """A masked frame (with the mask 0). `claims` is a length in place of the real one."""
    n = len(payload) if claims is None else claims
    head = bytes([(0x80 if final else 0) | code])
    if n < 126:
        head += bytes([0x80 | n])
    elif n < 1 << 16:
        head += bytes([0x80 | 126]) + struct.pack(">H", n)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", n)
    return head + bytes(4) + payload


def connect(port, source="127.0.0.1"):
    """An open WebSocket. Raises OSError where the server does not want it."""
    s = socket.create_connection(("127.0.0.1", port), 5, source_address=(source, 0))
    key = base64.b64encode(os.urandom(16)).decode()
    s.sendall(
        f"GET /session HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    if b" 101 " not in s.recv(4096)[:20]:
        s.close()
        raise ConnectionRefusedError("no WebSocket was opened")
    return s
