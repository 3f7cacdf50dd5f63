"""An agent that speaks sentence by sentence, is interrupted, and goes on.

espeak-ng is the voice; `--say` and `--interrupt-after` make the conversation. Frames are counted
and, with `--out`, saved as JPEG files.
"""

import argparse
import asyncio
import pathlib
import sys
import time

from lipsync_client import (
    Cleared,
    Client,
    Frame,
    LipsyncError,
    Pacing,
    PcmS16,
    SegmentEnd,
    ServerWarning,
    Session,
    read_wav,
)

RATE_HZ = 22_050
"""What espeak-ng speaks."""
SENTENCES = [
    "Hello, I am a face that was drawn by a program.",
    "What you hear is made at this moment, and what you see follows the sound.",
    "When you interrupt me, I stop at once.",
]


async def synthesise(sentence: str) -> bytes:
    """Speak a sentence into 16-bit samples."""
    espeak = await asyncio.create_subprocess_exec(
        "espeak-ng", "--stdout", sentence, stdout=asyncio.subprocess.PIPE
    )
    sound, _ = await espeak.communicate()
    # espeak-ng cannot know the length when it writes the header.
    wav = read_wav(sound)
    assert (wav.rate_hz, wav.n_channels) == (RATE_HZ, 1)
    return wav.samples


async def speak(session: Session, sentences: list[str], interrupt_after: float | None) -> None:
    """Say everything; after `interrupt_after` seconds stop and say something else."""

    async def say(what: list[str]) -> None:
        for sentence in what:
            await session.push_audio(await synthesise(sentence))
            await session.end_segment()

    if interrupt_after is None:
        await say(sentences)
    else:
        talking = asyncio.create_task(say(sentences))
        await asyncio.sleep(interrupt_after)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        await session.clear()
        await say(["Yes?"])
    await session.finish()


async def watch(session: Session, out: pathlib.Path | None) -> int:
    """Take what the server sends; return the number of frames."""
    started, n_frames = time.monotonic(), 0
    async for event in session:
        at = time.monotonic() - started
        match event:
            case Frame():
                n_frames += 1
                if out is not None:
                    (out / f"frame_{event.pts_us // 1000:08}.jpg").write_bytes(event.data)
            case SegmentEnd(segment_id, n):
                print(f"{at:6.2f} s  sentence {segment_id} was said: {n} frames")
            case Cleared(last_pts_us, _):
                print(f"{at:6.2f} s  interrupted; the last frame was at {last_pts_us} us")
            case ServerWarning(code, text):
                print(f"{at:6.2f} s  {code}: {text}", file=sys.stderr)
    return n_frames


def home_path(text: str) -> pathlib.Path:
    """Expand `~`, which the shell leaves alone in `--out=~/x`."""
    return pathlib.Path(text).expanduser()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--addr", default="127.0.0.1:50051", help="the server")
    parser.add_argument("--model", default="mira", help="who speaks")
    parser.add_argument("--say", action="append", help="a sentence; may be repeated")
    parser.add_argument("--interrupt-after", type=float, metavar="SECONDS")
    parser.add_argument("--out", type=home_path, help="folder for the frames")
    args = parser.parse_args()
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    async with Client(args.addr) as client:
        session = client.session(args.model, PcmS16(RATE_HZ), pacing=Pacing.REALTIME)
        async with session, asyncio.TaskGroup() as tasks:
            tasks.create_task(speak(session, args.say or SENTENCES, args.interrupt_after))
            n_frames = await watch(session, args.out)
    print(f"{n_frames} frames")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except* LipsyncError as group:
        sys.exit("\n".join(str(error) for error in group.exceptions))
