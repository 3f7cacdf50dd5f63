"""Speaks a WAV file through an avatar and saves the frames as JPEG files.

Plain grpcio and the stubs that grpc_tools makes from the proto file; README.md has the commands.
The default is a live session; --unary asks for batches instead, each with the audio around it.
"""

import argparse
import pathlib
import sys
import time

import grpc
import wav

from lipsync.v1 import lipsync_pb2 as pb
from lipsync.v1 import lipsync_pb2_grpc as rpc

# grpcio takes 4 MiB by default, which is less than an answer of many full frames.
MAX_MESSAGE_BYTES = 50 * 1024 * 1024
CHUNK_SECONDS = 0.2
# Frames of audio on either side of a batch, so that its windows are whole.
CONTEXT_FRAMES = 10


def session_messages(args, samples, rate, channels):
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
        chunk = pb.AudioChunk(segment_id=1, pcm=samples[start : start + step])
        yield pb.StreamCompositeRequest(audio=chunk)
        # As fast as it would be spoken: a server holds only so many seconds of audio.
        if not args.fast:
            time.sleep(CHUNK_SECONDS)
    yield pb.StreamCompositeRequest(end_segment=pb.EndSegment(segment_id=1))


def stream(stub, args, samples, rate, channels):
    """Frames of a live session, as they come."""
    for answer in stub.StreamComposite(session_messages(args, samples, rate, channels)):
        kind = answer.WhichOneof("message")
        if kind == "opened":
            opened = answer.opened
            print(f"{opened.width}x{opened.height}, {opened.fps} frames/s, {opened.audio_kind}")
        elif kind == "frame":
            yield answer.frame
        elif kind == "warning":
            print(f"warning: {answer.warning.text}", file=sys.stderr)


def unary(stub, args, samples, rate, channels, fps):
    """Frames of one request after the other, each with audio around it as context."""
    sample_bytes = 2 * channels
    n_samples = len(samples) // sample_bytes
    n_frames = -(-n_samples * fps // rate)
    for first in range(0, n_frames, args.batch):
        count = min(args.batch, n_frames - first)
        begin = max(0, first - CONTEXT_FRAMES)
        end = first + count + CONTEXT_FRAMES
        request = pb.InferBatchCompositeRequest(
            model_id=args.model,
            pcm=pb.Pcm(
                samples=samples[
                    begin * rate // fps * sample_bytes : end * rate // fps * sample_bytes
                ],
                sample_rate_hz=rate,
                channels=channels,
                first_frame=first - begin,
            ),
            frame_count=count,
            start_frame_index=first,
            output=pb.OutputOptions(format=pb.OUTPUT_FORMAT_JPEG),
        )
        answer = stub.InferBatchComposite(request, timeout=30)
        for warning in answer.warnings:
            print(f"warning: {warning.text}", file=sys.stderr)
        yield from answer.frames


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--addr", default="127.0.0.1:50051", help="the server")
    parser.add_argument("--model", default="mira", help="who speaks")
    parser.add_argument(
        "--audio",
        type=pathlib.Path,
        default=root / "assets/speech/welcome.wav",
        help="what is said: WAV of any plain coding",
    )
    parser.add_argument("--out", type=pathlib.Path, default="out", help="folder for the frames")
    parser.add_argument("--unary", action="store_true", help="batches instead of a session")
    parser.add_argument("--batch", type=int, default=8, help="frames per unary request")
    parser.add_argument("--fast", action="store_true", help="send faster than it is spoken")
    args = parser.parse_args()

    try:
        speech = wav.read_wav(args.audio)
    except (wav.WavError, OSError) as error:
        sys.exit(f"{args.audio}: {error}")
    samples, rate, channels = speech.samples, speech.rate_hz, speech.n_channels
    args.out.mkdir(parents=True, exist_ok=True)
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    started, n_frames = time.monotonic(), 0
    with grpc.insecure_channel(args.addr, options=options) as channel:
        stub = rpc.LipSyncStub(channel)
        try:
            if args.unary:
                admin = rpc.ModelAdminStub(channel)
                loaded = admin.LoadModel(pb.LoadModelRequest(model_id=args.model)).model
                frames = unary(stub, args, samples, rate, channels, loaded.fps or 25)
            else:
                frames = stream(stub, args, samples, rate, channels)
            for frame in frames:
                path = args.out / f"frame_{frame.frame_index:05}.jpg"
                path.write_bytes(frame.data)
                n_frames += 1
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")
    seconds = time.monotonic() - started
    print(f"{n_frames} frames in {args.out} after {seconds:.1f} s")


if __name__ == "__main__":
    main()
