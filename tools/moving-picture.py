#!/usr/bin/env python3
"""Makes docs/mira.webp, the moving picture of the README, from the server's own frames.

    cargo run --release                                                   # the server, in another terminal
    cargo run --release --example speak -- --quality 95 --out mira.avi    # a film of its frames
    pip install pillow
    python tools/moving-picture.py mira.avi docs/mira.webp

The film holds the server's JPEG frames unchanged. The script makes them smaller and copies the mark of synthetic media
into the new file.
"""
import argparse
import io
import struct

from PIL import Image

FPS = 25


def pictures(avi: bytes):
    """The JPEG files in an AVI of the `speak` example, in order."""
    at = avi.index(b"movi") + 4
    while at + 8 <= len(avi):
        kind, size = avi[at:at + 4], struct.unpack("<I", avi[at + 4:at + 8])[0]
        if kind == b"idx1":
            return
        if kind == b"00dc":
            yield Image.open(io.BytesIO(avi[at + 8:at + 8 + size]))
        at += 8 + size + size % 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", help="the film of the `speak` example")
    parser.add_argument("out", help="the picture, an animated WebP")
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame (default: 1)")
    parser.add_argument("--width", type=int, default=480, help="width of the picture, px (default: 480)")
    parser.add_argument("--quality", type=int, default=75, help="WebP quality, 1 to 100 (default: 75)")
    args = parser.parse_args()

    with open(args.film, "rb") as film:
        frames = list(pictures(film.read()))
    mark = frames[0].info.get("xmp")
    if mark is None:
        parser.error("the frames carry no mark of synthetic media (output.mark_generated)")
    height = args.width * frames[0].height // frames[0].width
    small = [frame.resize((args.width, height), Image.LANCZOS) for frame in frames[::args.every]]
    duration_ms = 1000 * args.every // FPS
    small[0].save(args.out, save_all=True, append_images=small[1:], duration=duration_ms, loop=0, quality=args.quality, method=6, xmp=mark)


if __name__ == "__main__":
    main()
