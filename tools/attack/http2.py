"""HTTP/2 by hand: frames that no library would send, within or without the windows that the server gives."""

import select
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0,
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    9,
)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_SETTING = {"streams": 3, "window": 4, "frame": 5}


def frame(kind, flags, stream, payload=b""):
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes([kind, flags])
        + struct.pack(">I", stream)
        + payload
    )


def settings(**values):
    return frame(
        SETTINGS, 0, 0, b"".join(struct.pack(">HI", _SETTING[k], v) for k, v in values.items())
    )


def window_update(stream, n):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", n))


def literal(name, value):
    """A header field in HPACK: literal, not indexed, no Huffman code."""

    def text(s):
        s = s if isinstance(s, bytes) else s.encode()
        n = len(s)
        if n < 127:
            return bytes([n]) + s
        head, n = [127], n - 127
        while n >= 128:
            head.append(n % 128 + 128)
            n //= 128
        return bytes([*head, n]) + s

    return b"\x00" + text(name) + text(value)


def request_headers(path, extra=()):
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
    fields += [("content-type", "application/grpc"), ("te", "trailers"), *extra]
    return b"".join(literal(name, value) for name, value in fields)


def message(body):
    """A gRPC message: no compression, length, body."""
    return struct.pack(">BI", 0, len(body)) + body


class Connection:
    """One connection. `pump` reads what has come, answers SETTINGS and PING, and counts windows and ended streams."""

    def __init__(self, port, source="127.0.0.1", receive_buffer=None, **values):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind((source, 0))
        self.socket.settimeout(5)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.next, self.closed = b"", 1, False
        self.window, self.initial, self.windows = 65535, 65535, {}
        self.ended, self.blocks, self.received = {}, {}, 0
        self.socket.sendall(PREFACE + settings(**values))

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def call(self, path, body=None, extra=(), end=True):
        """Opens a stream; sends `body` (already framed, small) if there is one. Returns the stream's number."""
        stream, self.next = self.next, self.next + 2
        self.windows[stream] = self.initial
        out = frame(HEADERS, END_HEADERS, stream, request_headers(path, extra))
        if body is not None:
            out += frame(DATA, END_STREAM if end else 0, stream, body)
            self.window -= len(body)
            self.windows[stream] -= len(body)
        self.send(out)
        return stream

    def pump(self, timeout=0.0):
        """Handles what arrives until nothing does for `timeout`."""
        while not self.closed and select.select([self.socket], [], [], timeout)[0]:
            try:
                part = self.socket.recv(1 << 18)
            except OSError:
                part = b""
            if not part:
                self.closed = True
                return
            self.buffer += part
            self._frames()
            timeout = 0.0

    def _frames(self):
        pos = 0
        while len(self.buffer) - pos >= 9:
            n = int.from_bytes(self.buffer[pos : pos + 3], "big")
            if len(self.buffer) - pos < 9 + n:
                break
            kind, flags = self.buffer[pos + 3], self.buffer[pos + 4]
            stream = int.from_bytes(self.buffer[pos + 5 : pos + 9], "big") & 0x7FFFFFFF
            self._handle(kind, flags, stream, self.buffer[pos + 9 : pos + 9 + n])
            pos += 9 + n
        self.buffer = self.buffer[pos:]

    def _handle(self, kind, flags, stream, payload):
        if kind == WINDOW_UPDATE:
            n = int.from_bytes(payload, "big")
            if stream == 0:
                self.window += n
            elif stream in self.windows:
                self.windows[stream] += n
        elif kind == SETTINGS and not flags & ACK:
            for i in range(0, len(payload), 6):
                key, value = struct.unpack(">HI", payload[i : i + 6])
                if key == _SETTING["window"]:
                    change, self.initial = value - self.initial, value
                    self.windows = {k: v + change for k, v in self.windows.items()}
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.closed = True
        elif kind in (HEADERS, CONTINUATION):
            self.blocks[stream] = self.blocks.get(stream, 0) + len(payload)
        self.received += len(payload) if kind == DATA else 0
        if kind == RST_STREAM or (kind in (HEADERS, DATA) and flags & END_STREAM):
            self.ended[stream] = time.monotonic()
            self.windows.pop(stream, None)

    def upload(self, stream, data, until, end=False):
        """Sends `data` within the windows; stops when the stream ends, or no window comes before `until`."""
        view, pos = memoryview(data), 0
        while (
            pos < len(view)
            and not self.closed
            and stream not in self.ended
            and time.monotonic() < until
        ):
            n = min(16384, len(view) - pos, self.window, self.windows.get(stream, 0))
            if n <= 0:
                self.pump(0.1)
                continue
            last = end and pos + n == len(view)
            self.send(frame(DATA, END_STREAM if last else 0, stream, bytes(view[pos : pos + n])))
            pos, self.window = pos + n, self.window - n
            self.windows[stream] = self.windows.get(stream, 0) - n
            self.pump()
        return pos

    def flood(self, data, until):
        """Sends `data` over and over as fast as it is taken, and reads what comes. Returns how often it was sent."""
        self.socket.setblocking(False)
        n, rest = 0, memoryview(data)
        while not self.closed and time.monotonic() < until:
            readable, writable, _ = select.select([self.socket], [self.socket], [], 0.2)
            try:
                if readable and not self.socket.recv(1 << 18):
                    self.closed = True
                if writable:
                    rest = rest[self.socket.send(rest) :]
                    if not rest:
                        n, rest = n + 1, memoryview(data)
            except BlockingIOError:
                continue
            except OSError:
                self.closed = True
        return n

    def close(self):
        self.socket.close()
