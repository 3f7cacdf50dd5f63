"""The normal client, a process of its own: an open loop of small requests of several kinds.

Usage: honest.py PORT OPERATIONS_PORT SECONDS KIND,... [MODEL [CA]]; prints JSON: kind -> n, ok, p50, p99, max (ms) and errors.
"""

import collections
import json
import math
import pathlib
import sys
import threading
import time

import children
import server

# Requests a second of each kind.
RATES = {"infer": 12, "back": 6, "stats": 8, "session": 2, "livez": 4, "readyz": 4}
TIMEOUT_S = 5


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1] if ordered else None


class Calls:
    """One method for each kind of request; it raises when the answer is not the right one."""

    def __init__(self, port, operations, model, ca=None):
        import grpc

        sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "clients/python/src"))
        from lipsync_client.v1 import lipsync_pb2, lipsync_pb2_grpc

        # After the imports, which would keep a core from the server, and before the channel, whose threads inherit it.
        children.go_first()
        self.pb, self.operations, self.model = lipsync_pb2, operations, model
        address, options = f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1)]
        if ca:
            trusted = grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes())
            channel = grpc.secure_channel(address, trusted, options)
        else:
            channel = grpc.insecure_channel(address, options)
        self.lipsync, self.admin = (
            lipsync_pb2_grpc.LipSyncStub(channel),
            lipsync_pb2_grpc.ServerAdminStub(channel),
        )

    def infer(self):
        """One frame of one window of silence, without the audio encoder, only the face."""
        request = self.pb.InferBatchCompositeRequest(
            model_id=self.model,
            windows=self.pb.FeatureWindows(data=bytes(32 * 16 * 16 * 4)),
            output=self.pb.OutputOptions(region_only=True),
        )
        assert len(self.lipsync.InferBatchComposite(request, timeout=TIMEOUT_S).frames) == 1

    def back(self):
        request = self.pb.GetBackgroundRequest(model_id=self.model, background_indices=[0, 1, 2, 3])
        assert len(self.lipsync.GetBackground(request, timeout=TIMEOUT_S).frames) == 4

    def stats(self):
        self.admin.GetServerStats(self.pb.GetServerStatsRequest(), timeout=TIMEOUT_S)

    def session(self):
        """A short conversation: 0.2 s of silence, five frames back."""
        pb = self.pb
        requests = [
            pb.StreamCompositeRequest(
                open=pb.OpenSession(model_id=self.model, sample_rate_hz=16000)
            ),
            pb.StreamCompositeRequest(audio=pb.AudioChunk(segment_id=1, pcm=bytes(6400))),
            pb.StreamCompositeRequest(end_segment=pb.EndSegment(segment_id=1)),
        ]
        kinds = [
            m.WhichOneof("message")
            for m in self.lipsync.StreamComposite(iter(requests), timeout=TIMEOUT_S)
        ]
        assert kinds.count("frame") == 5 and "segment_end" in kinds, kinds

    def livez(self):
        assert b" 200 " in server.http_get(self.operations, "/livez", TIMEOUT_S)[:20]

    def readyz(self):
        assert b" 200 " in server.http_get(self.operations, "/readyz", TIMEOUT_S)[:20]


class Loop(threading.Thread):
    """Starts a request of one kind at every tick, whether or not the last one is answered."""

    def __init__(self, kind, call, seconds):
        super().__init__(daemon=True)
        self.call, self.rate, self.seconds = call, RATES[kind], seconds
        self.n, self.times_ms, self.errors = 0, [], collections.Counter()
        self.start()

    def one(self, due):
        try:
            self.call()
            self.times_ms.append((time.monotonic() - due) * 1e3)
        except Exception as error:
            code = getattr(error, "code", None)
            what = (
                f"{code().name}: {error.details()[:80]}"
                if code
                else f"{type(error).__name__} {error}"[:100]
            )
            self.errors[what] += 1

    def run(self):
        start, requests = time.monotonic(), []
        for k in range(int(self.seconds * self.rate)):
            due = start + k / self.rate
            time.sleep(max(0, due - time.monotonic()))
            requests.append(threading.Thread(target=self.one, args=(due,), daemon=True))
            requests[-1].start()
            self.n += 1
        for request in requests:
            request.join(TIMEOUT_S + 2)

    def figures(self):
        times = list(self.times_ms)
        return {
            "n": self.n,
            "ok": len(times),
            "p50": percentile(times, 50),
            "p99": percentile(times, 99),
            "max": max(times, default=None),
            "errors": dict(self.errors.most_common(3)),
        }


def main(port, operations, seconds, kinds, model="mira", ca=None):
    calls = Calls(int(port), int(operations), model, ca)
    loops = {kind: Loop(kind, getattr(calls, kind), float(seconds)) for kind in kinds.split(",")}
    for loop in loops.values():
        loop.join()
    print(json.dumps({kind: loop.figures() for kind, loop in loops.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
