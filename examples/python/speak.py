"""Speaks a WAV file through an avatar and saves the frames as JPEG files.

Plain grpcio and the stubs that grpc_tools makes from the proto file; README.md has the commands.
The default is a live session; --unary asks for batches instead, each with the audio around it.
"""

import argparse
import os
import pathlib
import sys
import threading
import time

import grpc
import wav

from lipsync.v1 import lipsync_pb2 as pb
from lipsync.v1 import lipsync_pb2_grpc as rpc

CHUNK_SECONDS = 0.2
OPTIONS = [
    # grpcio takes 4 MiB by default, which is less than an answer of many full frames.
    ("grpc.max_receive_message_length", 50 * 1024 * 1024),
    # A link that has gone dead is noticed; without these, what runs on it waits for ever.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
]
# Models that take samples have 25 frames a second.
FPS = 25
# A batch sends so many frames of audio before and after those that it wants ...
CONTEXT_LEFT, CONTEXT_RIGHT = 10, 11


def cut_alignment(rate):
    """... and its audio begins at a multiple of so many: then its frames are those of one call."""
    return 5 if rate % 5 == 0 else FPS


class Window:
    """How much audio is with the server: what was sent and has not come back as frames."""

    def __init__(self):
        self.changed = threading.Condition()
        self.sent_s = self.shown_s = 0.0
        self.limit_s = None  # Not known before the server has opened the session.
        self.is_over = False

    def note(self, **values):
        """Sets fields, and wakes who waits."""
        with self.changed:
            vars(self).update(values)
            self.changed.notify_all()

    def wait_for_room(self, seconds):
        """Waits until so much more may be sent; False when the session is over."""
        with self.changed:
            self.changed.wait_for(
                lambda: (
                    self.is_over
                    or (
                        self.limit_s is not None
                        and self.sent_s + seconds - self.shown_s <= self.limit_s
                    )
                )
            )
            self.sent_s += seconds
            return not self.is_over


def session_messages(args, window, samples, rate, channels):
    """All that a client says in a session of one segment."""
    yield pb.StreamCompositeRequest(
        open=pb.OpenSession(
            model_id=args.model,
            audio_input=pb.AUDIO_INPUT_PCM,
            sample_rate_hz=rate,
            channels=channels,
            output=pb.OutputOptions(format=pb.OUTPUT_FORMAT_JPEG),
        )
    )
    step = int(rate * CHUNK_SECONDS) * channels * 2
    for start in range(0, len(samples), step):
        # A server holds only so many seconds of audio; more would end the session.
        if not window.wait_for_room(CHUNK_SECONDS):
            return
        chunk = pb.AudioChunk(segment_id=1, pcm=samples[start : start + step])
        yield pb.StreamCompositeRequest(audio=chunk)
        if not args.fast:
            time.sleep(CHUNK_SECONDS)
    yield pb.StreamCompositeRequest(end_segment=pb.EndSegment(segment_id=1))


def stream(stub, args, samples, rate, channels):
    """Frames of a live session, as they come."""
    window = Window()
    try:
        for answer in stub.StreamComposite(session_messages(args, window, samples, rate, channels)):
            kind = answer.WhichOneof("message")
            if kind == "opened":
                opened = answer.opened
                print(f"{opened.width}x{opened.height}, {opened.fps} frames/s, {opened.audio_kind}")
                window.note(limit_s=opened.max_buffered_audio_s)
            elif kind == "frame":
                window.note(shown_s=answer.frame.audio_time_us / 1e6)
                yield answer.frame
            elif kind == "warning":
                print(f"warning: {answer.warning.text}", file=sys.stderr)
    finally:
        window.note(is_over=True)


def unary(stub, args, samples, rate, channels):
    """Frames of one request after the other, each with audio around it as context."""
    sample_bytes = 2 * channels
    n_samples = len(samples) // sample_bytes
    n_frames = -(-n_samples * FPS // rate)
    grid = cut_alignment(rate)
    for first in range(0, n_frames, args.batch):
        count = min(args.batch, n_frames - first)
        begin = max(0, first - CONTEXT_LEFT) // grid * grid
        end = min(n_samples, (first + count + CONTEXT_RIGHT) * rate // FPS)
        request = pb.InferBatchCompositeRequest(
            model_id=args.model,
            pcm=pb.Pcm(
                samples=samples[begin * rate // FPS * sample_bytes : end * sample_bytes],
                sample_rate_hz=rate,
                channels=channels,
                first_frame=first - begin,
                end_of_utterance=end == n_samples,
            ),
            frame_count=count,
            start_frame_index=first,
            output=pb.OutputOptions(format=pb.OUTPUT_FORMAT_JPEG),
        )
        answer = stub.InferBatchComposite(request, timeout=30)
        if answer is None:  # So grpcio says that the status was good, and the message none.
            sys.exit("the answer holds no message: what answers there is no lipsync-server")
        for warning in answer.warnings:
            print(f"warning: {warning.text}", file=sys.stderr)
        yield from answer.frames


def connect(address, ca):
    """TLS for https://host:port; in clear for http://host:port and host:port."""
    scheme, separator, target = address.strip().rpartition("://")
    # A forgotten slash must not turn TLS into clear text to a host called `https`.
    if not separator and target.lower().startswith(("http:", "https:")):
        sys.exit(f"--addr {address}: two slashes follow a scheme")
    if separator and scheme.lower() not in ("http", "https"):
        sys.exit(f"--addr: {scheme}:// is not spoken here, only http:// and https://")
    target = target.removesuffix("/")
    if not target or "/" in target or "@" in target:
        sys.exit(f"--addr {address}: expected a host and a port, without user and path")
    is_secure = scheme.lower() == "https"
    if ":" not in target.rpartition("]")[2]:
        # grpcio would take 443 in clear, too.
        target += {"https": ":443", "http": ":80"}.get(scheme.lower(), ":50051")
    if not is_secure:
        return grpc.insecure_channel(target, OPTIONS)
    trusted = pathlib.Path(ca).read_bytes() if ca else None
    if trusted is not None and b"-----BEGIN CERTIFICATE-----" not in trusted:
        sys.exit(f"--ca {ca}: there is no certificate in PEM form in it")
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(trusted), OPTIONS)


def positive(text):
    """A number of frames, at least one."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def home_path(text):
    """Expand `~`, which the shell leaves alone in `--out=~/x`."""
    return pathlib.Path(text).expanduser()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument(
        "--addr", default="127.0.0.1:50051", help="the server: host:port, or https://host:port"
    )
    parser.add_argument(
        "--ca",
        type=home_path,
        default=os.environ.get("LIPSYNC_CA") or None,
        help="certificates (PEM) that https trusts instead of those of grpcio [LIPSYNC_CA]",
    )
    parser.add_argument("--model", default="mira", help="who speaks")
    parser.add_argument(
        "--audio",
        type=home_path,
        default=root / "assets/speech/welcome.wav",
        help="what is said: WAV of any plain coding",
    )
    parser.add_argument("--out", type=home_path, default="out", help="folder for the frames")
    parser.add_argument("--unary", action="store_true", help="batches instead of a session")
    parser.add_argument("--batch", type=positive, default=8, help="frames per unary request")
    parser.add_argument("--fast", action="store_true", help="send faster than it is spoken")
    args = parser.parse_args()

    try:
        speech = wav.read_wav(args.audio)
    except (wav.WavError, OSError) as error:
        sys.exit(f"{args.audio}: {error}")
    started = time.monotonic()
    try:
        n_frames = save_frames(args, speech.samples, speech.rate_hz, speech.n_channels)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    except OSError as error:
        # A folder or a disk that takes no files, or certificates that cannot be read.
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    seconds = time.monotonic() - started
    print(f"{n_frames} frames in {args.out} after {seconds:.1f} s")
    if n_frames == 0:
        sys.exit("no frame came")


def save_frames(args, samples, rate, channels):
    """Has the samples spoken, and gives the number of frames that were written."""
    args.out.mkdir(parents=True, exist_ok=True)
    n_frames = 0
    with connect(args.addr, args.ca) as channel:
        stub = rpc.LipSyncStub(channel)
        if args.unary:
            admin = rpc.ModelAdminStub(channel)
            admin.LoadModel(pb.LoadModelRequest(model_id=args.model), timeout=120)
            frames = unary(stub, args, samples, rate, channels)
        else:
            frames = stream(stub, args, samples, rate, channels)
        for frame in frames:
            path = args.out / f"frame_{frame.frame_index:05}.jpg"
            path.write_bytes(frame.data)
            n_frames += 1
    return n_frames


if __name__ == "__main__":
    main()
