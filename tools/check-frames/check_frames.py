"""Has other people's decoders judge spliced frames: Pillow, ffmpeg and Chromium.

    cargo run --release -p lipsync-compositor --example splice_samples -- /tmp/samples
    python tools/check-frames/check_frames.py /tmp/samples [--chromium /usr/bin/chromium]

For every sample: the restart markers are in order; each decoder gives the same pixels for the spliced
file as for the full encode of the same picture without restart markers; nobody warns; and an XML
parser finds IPTC's digital source type in the XMP packet. Exits with 1 at the first failure.
"""

import argparse
import base64
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import warnings
import xml.etree.ElementTree as ElementTree

from PIL import Image

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
FIELD = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"


def segments(data):
    """Marker and payload of every segment up to the coded data, then the coded data."""
    assert data[:2] == b"\xff\xd8"
    at = 2
    while True:
        marker, length = struct.unpack(">HH", data[at : at + 4])
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xFFDA:
            yield None, data[at:]
            return


def check_markers(path):
    """Returns how many restart markers there are."""
    parts = list(segments(path.read_bytes()))
    found = dict((marker, payload) for marker, payload in parts if marker is not None)
    interval = struct.unpack(">H", found[0xFFDD])[0]
    height, width = struct.unpack(">HH", found[0xFFC0][1:5])
    coded = parts[-1][1]
    markers = re.findall(rb"\xff([^\x00])", coded)
    assert markers[-1] == b"\xd9" and coded.endswith(b"\xff\xd9"), "no end"
    restarts = [marker[0] for marker in markers[:-1]]
    n_mcus = -(-width // 16) * -(-height // 16)
    assert len(restarts) == -(-n_mcus // interval) - 1, "markers are missing"
    assert restarts == [0xD0 + n % 8 for n in range(len(restarts))], "markers out of order"
    return len(restarts)


def check_xmp(path):
    payloads = [payload for marker, payload in segments(path.read_bytes()) if marker == 0xFFE1]
    packets = [payload[len(XMP_NAME) :] for payload in payloads if payload.startswith(XMP_NAME)]
    assert len(packets) == 1, "one XMP packet was expected"
    root = ElementTree.fromstring(packets[0].decode("utf-8-sig").lstrip("\ufeff"))
    values = [element.get(FIELD) for element in root.iter() if element.get(FIELD)]
    assert values == [TRAINED], values


def pillow(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Image.open(path) as image:
            return image.convert("RGB").tobytes()


def ffmpeg(path):
    command = ["ffmpeg", "-v", "warning", "-xerror", "-err_detect", "explode", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "yuvj420p", "-"]
    run = subprocess.run(command, capture_output=True, check=True)
    complaints = [line for line in run.stderr.decode().splitlines() if "deprecated" not in line]
    assert not complaints, complaints
    return run.stdout


# The images are part of the page, so that it is only complete, and dumped, when all are there.
PAGE = """<!doctype html><pre id=out>waiting</pre>%s<script>
function pixels(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}
addEventListener("load", () => {
  try {
    const worst = [];
    for (let n = 0; n < document.images.length; n += 2) {
      const [a, b] = [document.images[n], document.images[n + 1]].map(pixels);
      let most = a.length === b.length ? 0 : 999;
      for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i] - b[i]));
      worst.push(most);
    }
    out.textContent = "DONE " + JSON.stringify(worst);
  } catch (error) { out.textContent = "FAILED " + error; }
});
</script>"""


def chromium(browser, pairs):
    """The largest difference of any channel, for each pair of files."""
    def image(path):
        data = base64.b64encode(path.read_bytes()).decode()
        return f'<img src="data:image/jpeg;base64,{data}">'

    with tempfile.TemporaryDirectory() as folder:
        page = pathlib.Path(folder) / "page.html"
        page.write_text(PAGE % "".join(image(path) for pair in pairs for path in pair))
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu"]
        command += [f"--user-data-dir={folder}/profile", "--virtual-time-budget=60000"]
        command += ["--dump-dom", page.as_uri()]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    result = re.search(r"<pre[^>]*>(.*?)</pre>", run.stdout, re.S)
    text = result.group(1) if result else run.stderr[-500:]
    assert text.startswith("DONE "), text
    return json.loads(text[5:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--skip-chromium", action="store_true")
    arguments = parser.parse_args()
    spliced = sorted(arguments.folder.glob("*_spliced.jpg"))
    pairs = [(path, path.with_name(path.name.replace("spliced", "plain"))) for path in spliced]
    assert pairs, "no samples there"
    for path, plain in pairs:
        n_markers = check_markers(path)
        check_xmp(path)
        assert pillow(path) == pillow(plain), f"{path}: Pillow"
        assert ffmpeg(path) == ffmpeg(plain), f"{path}: ffmpeg"
        print(f"{path.name}: {n_markers} markers in order, marked, Pillow and ffmpeg agree")
    if not arguments.skip_chromium:
        worst = chromium(arguments.chromium, pairs)
        assert not any(worst), f"Chromium: {worst}"
        print(f"Chromium agrees on all {len(worst)}")


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, subprocess.SubprocessError) as error:
        sys.exit(f"failed: {error}")
