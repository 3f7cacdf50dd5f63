"""Writes what OpenCV makes of pictures that are turned, exotic or malformed, as goldens for the tests.

    pip install -r requirements.txt pillow==13.0.0
    python pictures.py ../../crates/compositor/tests/golden

`exif.txt` has, a line each, bytes to be put into a JPEG or PNG file, where, and which orientation `imread`
then used; and the pixels of a PNG of 3x2 in each orientation. `pictures/` has files and their pixels, RGB.
"""

import io
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms

WIDTH, HEIGHT = 24, 16


def read(data):
    """RGB of a file in memory as `cv2.imread` gives it; None where it refuses."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if picture is None else picture[:, :, ::-1]


def ramp():
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x * 10, y * 15, x * y], axis=2).astype(np.uint8)


def chunk(name, data, damage=0):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ damage)


def png(bits, colour, rows, extra=b"", size=(WIDTH, HEIGHT)):
    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg(picture, **options):
    out = io.BytesIO()
    picture.save(out, "JPEG", **options)
    return out.getvalue()


# --- orientation


def tiff(entries, order=b"MM", mark=42, offset=8):
    e = ">" if order != b"II" else "<"
    data = order + struct.pack(e + "HI", mark, offset) + bytes(max(offset - 8, 0)) + struct.pack(e + "H", len(entries))
    for tag, kind, count, value in entries:
        data += struct.pack(e + "HHI", tag, kind, count) + value
    return data + struct.pack(e + "I", 0)


def short(value, order=b"MM"):
    return struct.pack(">HH" if order != b"II" else "<HH", value, 0)


def long(value, order=b"MM"):
    return struct.pack(">I" if order != b"II" else "<I", value)


def one(value, order=b"MM", kind=3, count=1, **rest):
    return tiff([(0x112, kind, count, short(value, order))], order, **rest)


def app1(data, name=b"Exif\0\0"):
    return b"\xff\xe1" + struct.pack(">H", len(name + data) + 2) + name + data


def orientations():
    """Name, format, where, bytes."""
    bodies = {f"{n} {o.decode()}": one(n, o) for n in range(10) for o in (b"MM", b"II")}
    bodies |= {
        "long MM": tiff([(0x112, 4, 1, long(6))]),
        "long II": tiff([(0x112, 4, 1, long(6, b"II"))], b"II"),
        "byte MM": tiff([(0x112, 1, 1, bytes([6, 0, 0, 0]))]),
        "byte II": tiff([(0x112, 1, 1, bytes([6, 0, 0, 0]))], b"II"),
        "type 0": one(6, kind=0),
        "count 0": one(6, count=0),
        "count 2": one(6, count=2),
        "65542": tiff([(0x112, 4, 1, long(65542))]),
        "mark 43": one(6, mark=43),
        "directory at 20": one(6, offset=20),
        "directory outside": one(6)[:4] + long(5000) + one(6)[8:],
        "directory at 0": one(6)[:4] + long(0) + one(6)[8:],
        "more entries": tiff([(0x100, 4, 1, long(7))] * 3 + [(0x112, 3, 1, short(6))]),
        "twice": tiff([(0x112, 3, 1, short(3)), (0x112, 3, 1, short(6))]),
        "cut in the entry": one(6)[:15],
        "cut before the value": one(6)[:18],
        "cut after the value": one(6)[:20],
        "no next directory": one(6)[:22],
        "order XX": b"XX" + one(6)[2:],
        "unknown type before": tiff([(0x101, 99, 1, short(1)), (0x112, 3, 1, short(6))]),
        "text outside before": tiff([(0x10F, 2, 100, long(9999)), (0x112, 3, 1, short(6))]),
        "ratio outside before": tiff([(0x11A, 5, 1, long(9999)), (0x112, 3, 1, short(6))]),
        "ratio outside after": tiff([(0x112, 3, 1, short(6)), (0x11A, 5, 1, long(9999))]),
        "too many entries": b"MM\0*\0\0\0\x08\0\x09" + one(6)[10:],
        "second directory": tiff([(0x100, 3, 1, short(1))])[:-4] + long(26) + one(6)[8:],
        "sub-directory": tiff([(0x8769, 4, 1, long(26))]) + one(6)[8:],
        "empty": b"",
    }
    for name, body in bodies.items():
        yield name, "jpeg", "start", app1(body)
        yield name, "png", "start", chunk(b"eXIf", body)
    xmp = app1(b"abcd", b"http://ns.adobe.com/xap/1.0/\0")
    for name, where, data in [
        ("3 and 6", "start", app1(one(3)) + app1(one(6))),
        ("XMP and 6", "start", xmp + app1(one(6))),
        ("short and 6", "start", b"\xff\xe1\0\4ab" + app1(one(6))),
        ("broken and 6", "start", app1(one(6, mark=43)) + app1(one(6))),
        ("other and 6", "start", app1(tiff([(0x100, 3, 1, short(9))])) + app1(one(6))),
        ("wrong zero", "start", app1(one(6), b"Exif\0\1")),
        ("lower case", "start", app1(one(6), b"exif\0\0")),
        ("fill bytes", "start", b"\xff\xff" + app1(one(6))),
        ("APP2", "start", b"\xff\xe2" + app1(one(6))[2:]),
        ("behind the frame header", "scan", app1(one(6))),
        ("behind the scan", "end", app1(one(6))),
    ]:
        yield name, "jpeg", where, data
    for name, where, data in [
        ("3 and 6", "start", chunk(b"eXIf", one(3)) + chunk(b"eXIf", one(6))),
        ("checksum wrong", "start", chunk(b"eXIf", one(6), 1)),
        ("named", "start", chunk(b"eXIf", b"Exif\0\0" + one(6))),
        ("behind the pixels", "end", chunk(b"eXIf", one(6))),
    ]:
        yield name, "png", where, data


def turned(picture, n):
    return {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, -1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture, 1),
    }[n]


def insert(file, kind, where, data):
    if kind == "png":
        at = 33 if where == "start" else len(file) - 12
    else:
        at = {"start": 2, "scan": file.find(b"\xff\xda"), "end": len(file) - 2}[where]
    return file[:at] + data + file[at:]


def write_exif(path):
    plain = {
        "jpeg": jpeg(Image.fromarray(ramp()), quality=95, subsampling=0),
        "png": png(8, 2, ramp()),
    }
    lines = []
    for name, kind, where, data in orientations():
        upright, found = read(plain[kind]), read(insert(plain[kind], kind, where, data))
        n = [n for n in range(1, 9) if np.array_equal(turned(upright, n), found)]
        assert len(n) == 1, (name, kind)
        lines.append(f"{kind}\t{where}\t{n[0]}\t{data.hex()}\t{name}")
    small = np.arange(1, 19, dtype=np.uint8).reshape(2, 3, 3)
    for n in range(1, 9):
        found = read(png(8, 2, small, chunk(b"eXIf", one(n)), (3, 2)))
        lines.append(f"pixels\t{found.shape[1]}\t{n}\t{found.tobytes().hex()}\t3x2, 1 to 18")
    path.write_text("\n".join(lines) + "\n")


# --- formats


def files():
    random = np.random.default_rng(1)

    def noise(n, kind="u1"):
        top = np.iinfo(np.dtype(kind)).max
        return random.integers(0, top + 1, (HEIGHT, n)).astype(kind)

    palette = chunk(b"PLTE", noise(3)[:16].tobytes())
    ramps = ramp()
    picture = Image.fromarray(ramps)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    profile = chunk(b"iCCP", b"lab\0\0" + zlib.compress(lab))
    return {
        "rgb16.png": png(16, 2, noise(3 * WIDTH, ">u2")),
        "grey16.png": png(16, 0, noise(WIDTH, ">u2")),
        "grey_alpha8.png": png(8, 4, noise(2 * WIDTH)),
        "grey_alpha16.png": png(16, 4, noise(2 * WIDTH, ">u2")),
        "rgba8.png": png(8, 6, noise(4 * WIDTH)),
        "rgba16.png": png(16, 6, noise(4 * WIDTH, ">u2")),
        "grey1.png": png(1, 0, noise(WIDTH // 8)),
        "grey2.png": png(2, 0, noise(WIDTH // 4)),
        "grey4.png": png(4, 0, noise(WIDTH // 2)),
        "palette4.png": png(4, 3, noise(WIDTH // 2), palette),
        "palette_trns.png": png(4, 3, noise(WIDTH // 2), palette + chunk(b"tRNS", bytes(range(0, 160, 10)))),
        "rgb_trns.png": png(8, 2, ramps, chunk(b"tRNS", bytes(6))),
        "grey_trns.png": png(8, 0, ramps[:, :, 0], chunk(b"tRNS", bytes(2))),
        "gamma.png": png(8, 2, ramps, chunk(b"gAMA", struct.pack(">I", 100000))),
        "profile.png": png(8, 2, ramps, profile),
        "baseline.jpg": jpeg(picture, quality=95, subsampling=0),
        "half.jpg": jpeg(picture, quality=95, subsampling=2),
        "progressive.jpg": jpeg(picture, quality=95, subsampling=0, progressive=True),
        "grey.jpg": jpeg(picture.convert("L"), quality=95),
        "cmyk.jpg": jpeg(picture.convert("CMYK"), quality=95),
        "adobe_rgb.jpg": jpeg(picture, quality=95, keep_rgb=True),
        "profile.jpg": jpeg(picture, quality=95, subsampling=0, icc_profile=lab),
    }


def write_files(folder):
    folder.mkdir(exist_ok=True)
    for name, data in files().items():
        (folder / name).write_bytes(data)
        (folder / f"{name}.rgb").write_bytes(read(data).tobytes())


if __name__ == "__main__":
    golden = Path(sys.argv[1])
    write_exif(golden / "exif.txt")
    write_files(golden / "pictures")
