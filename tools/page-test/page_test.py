"""Drives the page in a headless Chromium against a real server.

    python tools/page-test/page_test.py [--server target/release/lipsync-server] [--picture docs/page.jpg]

Plays a sample and looks at the pixels of the mouth: it moves while there is speech, in step with it, and
rests in silence. Interrupts, speaks through a fake microphone, talks over a sample, uploads a file, takes
the server away and brings it back, and looks at a phone's screen. Fails on any error in the console.
"""

import argparse
import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

ROOT = Path(__file__).resolve().parents[2]
SPEECH = ROOT / "assets" / "speech"
PATIENCE_S = 60
FPS = 25
FRAME_MS = 1000 / FPS

# Once a drawn frame: what the frame says of itself, and how dark the inside of Mira's mouth is.
WATCH = """
const face = document.getElementById("face");
const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const [x, y, w, h] = [570, 405, 140, 75];
Object.assign(pen.canvas, { width: w, height: h });
window.seen = [];
let last;
const look = () => {
  const { ptsUs, audioTimeUs, segmentId, generated } = face.dataset;
  if (ptsUs !== undefined && ptsUs !== last) {
    last = ptsUs;
    pen.drawImage(face, x, y, w, h, 0, 0, w, h);
    const { data } = pen.getImageData(0, 0, w, h);
    let dark = 0;
    for (let i = 0; i < data.length; i += 4) if (data[i] + data[i + 1] + data[i + 2] < 270) dark += 1;
    window.seen.push({ at: performance.now(), ptsUs: +ptsUs, audioTimeUs: audioTimeUs === "" ? null : +audioTimeUs,
      segmentId: +segmentId, generated: +generated, dark });
  }
  requestAnimationFrame(look);
};
look();
"""


class Server:
    """A server process on ports of its own; `port` is that of the page."""

    def __init__(self, binary, port, settings=()):
        environment = {
            **os.environ,
            **dict(settings),
            "LIPSYNC_SERVER__PORT": "127.0.0.1:0",
            "LIPSYNC_OPERATIONS__PORT": f"127.0.0.1:{port}",
        }
        self.process = subprocess.Popen(
            [binary], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        for line in self.process.stdout:
            if found := re.search(r"page +(http://\S+)", line):
                self.url = found[1]
                return
        raise RuntimeError("the server did not start")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)


class Page:
    """What a person can see and do."""

    def __init__(self, driver):
        self.driver = driver

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector):
        self.find(selector).click()

    def text(self, selector):
        return self.find(selector).text

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def until(self, what, condition):
        given_up = time.monotonic() + PATIENCE_S
        while True:
            if value := condition():
                return value
            if time.monotonic() > given_up:
                self.driver.save_screenshot(str(Path(tempfile.gettempdir()) / "page_test_failure.png"))
                raise AssertionError(f"still waiting until {what}: {self.state()}")
            time.sleep(0.05)

    def state(self):
        return self.script(
            "return { connection: document.getElementById('connection').textContent,"
            " mood: document.getElementById('mood-text').textContent,"
            " notice: document.getElementById('notice-text').textContent,"
            " caption: document.getElementById('caption').textContent,"
            " face: { ...document.getElementById('face').dataset } }"
        )

    def mood(self):
        return self.find("#mood").get_attribute("data-mood")

    def seen(self):
        return self.script("return window.seen")

    def forget_seen(self):
        self.script("window.seen = []")

    def errors(self):
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def start_browser(profile, microphone):
    options = Options()
    options.binary_location = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    for flag in [
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-dev-shm-usage",
        "autoplay-policy=no-user-gesture-required",
        "use-fake-ui-for-media-stream",
        "use-fake-device-for-media-stream",
        f"use-file-for-fake-audio-capture={microphone}",
        f"user-data-dir={profile}",
        "hide-scrollbars",
        "window-size=1280,920",
    ]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver"))
    return webdriver.Chrome(options=options, service=service)


def loudness(name):
    """Root mean square of a sample under each video frame."""
    with wave.open(str(SPEECH / name)) as wav:
        rate = wav.getframerate()
        samples = np.frombuffer(wav.readframes(wav.getnframes()), np.int16) / 32768
    step = rate // FPS
    frames = np.pad(samples, (0, -len(samples) % step)).reshape(-1, step)
    return np.sqrt((frames**2).mean(axis=1))


def write_microphone(path):
    """A sentence between pauses, for ever: what the fake microphone hears."""
    with wave.open(str(SPEECH / "umbrella.wav")) as wav:
        parameters, speech = wav.getparams(), wav.readframes(wav.getnframes())
    pause = bytes(2 * 2 * parameters.framerate)
    with wave.open(str(path), "wb") as wav:
        wav.setparams(parameters)
        wav.writeframes(pause + speech + pause)


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_connection(page):
    page.until("the session is open", lambda: page.find("#connection").get_attribute("data-state") == "open")
    page.script(WATCH)
    page.until("idle frames come", lambda: len(page.seen()) > 2 * FPS)
    idle = page.seen()
    assert all(frame["audioTimeUs"] is None and not frame["generated"] for frame in idle), idle[-1]
    return np.std([frame["dark"] for frame in idle])


def check_sample(page, rest):
    """The mouth moves with the voice, and rests after it. `rest` is how much its darkness varies by itself."""
    page.forget_seen()
    page.click("[data-sample='welcome.wav']")
    page.until("she speaks", lambda: page.mood() == "speaking")
    page.until("she has spoken", lambda: page.mood() == "idle")
    frames = [frame for frame in page.seen() if frame["audioTimeUs"] is not None]
    loud = loudness("welcome.wav")
    places = [round(frame["audioTimeUs"] * FPS / 1e6) for frame in frames]
    dark = np.array([frame["dark"] for frame in frames], float)
    print(f"  {len(frames)} of {len(loud)} frames shown, darkness {dark.min():.0f} to {dark.max():.0f}", end="")
    assert places == sorted(places), "in order"
    # A machine that is busy may not draw every one.
    assert len(set(places)) > 0.6 * len(loud), "the machine is too busy for this test"
    # A mouth opens a little before its sound and closes after it: smooth both over 3 frames.
    smooth = np.convolve(loud, np.ones(3) / 3, "same")[places]
    moves, step = np.std(dark), np.corrcoef(smooth, dark)[0, 1]
    print(f", moves {moves:.1f} (at rest {rest:.1f}), correlation with the voice {step:.2f}")
    assert moves > 4 * max(rest, 1), "the mouth moves while she speaks"
    assert step > 0.3, "in step with the voice"
    # The time between two pictures is the voice's time between them; but where the machine was late.
    at = np.diff([frame["at"] for frame in frames])
    voice = np.diff([frame["audioTimeUs"] / 1e3 for frame in frames])
    assert np.mean(np.abs(at - voice) < FRAME_MS) > 0.9, "at the pace of the voice"
    page.forget_seen()
    page.until("she rests", lambda: len(page.seen()) > FPS)
    after = page.seen()
    assert np.std([frame["dark"] for frame in after]) < moves / 4, "the mouth rests in silence"


def check_interruption(page):
    page.click("[data-sample='lips.wav']")
    page.until("she speaks", lambda: page.mood() == "speaking")
    page.until("some of it is seen", lambda: int(page.find("#face").get_attribute("data-audio-time-us") or 0) > 400_000)
    page.forget_seen()
    page.script("window.clicked = performance.now(); document.getElementById('interrupt').click()")
    page.until("she rests", lambda: page.mood() == "idle" and len(page.seen()) > FPS)
    late = [f for f in page.seen() if f["audioTimeUs"] is not None and f["at"] > page.script("return window.clicked")]
    # One picture may be on its way to the screen.
    print(f"  {len(late)} frames of it after the click")
    assert len(late) <= 1
    assert not page.find("#interrupt").is_enabled()


def check_panel(page):
    page.click("[data-sample='umbrella.wav']")
    page.until("frames are counted", lambda: float(page.text("#fps")) > 0)
    page.until("workers are busy", lambda: int(page.text("#busy")) > 0)
    page.until("the cache is hit", lambda: page.text("#hits") not in ("–", "0"))
    assert int(page.text("#sessions")) == 1
    stages = page.find("#stages").text.split("\n")
    assert "Network" in stages, stages
    assert re.search(r"mira\n?.*ready", page.text("#models"), re.S), page.text("#models")
    print("  " + ", ".join(f"{a} {b}" for a, b in zip(stages[::2], stages[1::2])))
    page.until("she has spoken", lambda: page.mood() == "idle")


def check_microphone(page):
    page.click("#microphone")
    page.until("it listens", lambda: page.mood() == "listening")
    page.until("she says what it hears", lambda: page.mood() == "speaking")
    page.until("and stops", lambda: page.mood() == "listening")
    # Talking over a sample.
    page.click("[data-sample='welcome.wav']")
    first = page.until("she speaks", lambda: page.find("#face").get_attribute("data-segment-id"))
    page.until("she is interrupted", lambda: int(page.find("#face").get_attribute("data-segment-id") or 0) > int(first))
    page.click("#microphone")
    page.until("it is off", lambda: page.mood() == "idle")


def check_upload(page):
    page.find("#file").send_keys(str(SPEECH / "heldout" / "weather.wav"))
    page.until("she speaks", lambda: page.mood() == "speaking")
    assert page.text("#caption") == "weather.wav"
    page.until("she has spoken", lambda: page.mood() == "idle")
    with tempfile.NamedTemporaryFile(suffix=".wav") as broken:
        broken.write(b"no sound")
        broken.flush()
        page.find("#file").send_keys(broken.name)
        page.until("it says so", lambda: "no sound" in page.text("#trouble"))


def check_return(page, server, binary, port):
    server.stop()
    page.until("the loss is told", lambda: page.find("#notice").is_displayed())
    print("  " + page.text("#notice-text"))
    server = Server(binary, port, {"LIPSYNC_SESSION__IDLE_TIMEOUT_S": "3"})
    page.until("it is back", lambda: page.find("#connection").get_attribute("data-state") == "open")
    assert not page.find("#notice").is_displayed()
    page.forget_seen()
    page.until("idle frames come", lambda: len(page.seen()) > FPS)
    # Nobody speaks: the server takes the place back, and the page does not ask for it by itself.
    page.until("it is told", lambda: page.find("#retry").is_displayed())
    print("  " + page.text("#notice-text"))
    page.click("#retry")
    page.until("it is back", lambda: page.find("#connection").get_attribute("data-state") == "open")
    return server


def take_picture(page, path):
    """While she speaks, of all that were taken the one with the widest mouth."""
    if path is None:
        return
    page.click("[data-sample='welcome.wav']")
    page.until("she speaks", lambda: page.mood() == "speaking")
    face = page.find("#face").rect
    scale = face["width"] / 1280
    left, top = face["x"] + 570 * scale, face["y"] + 405 * scale
    mouth = tuple(round(v) for v in (left, top, left + 140 * scale, top + 75 * scale))
    best, widest = None, -1
    while page.mood() == "speaking":
        picture = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
        wide = int((np.asarray(picture.crop(mouth), int).sum(axis=2) < 270).sum())
        if wide > widest:
            best, widest = picture, wide
    store(best, path)


def check_phone(page, path):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.click("[data-sample='lips.wav']")
    page.until("she speaks", lambda: page.mood() == "speaking")
    wide = page.script("return document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, f"{wide} px wider than the screen"
    for button in page.driver.find_elements(By.CSS_SELECTOR, "button, select, .file"):
        if button.is_displayed():
            assert button.size["height"] >= 40, "large enough for a finger"
    save(page, path)
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def save(page, path):
    if path is None:
        return
    store(Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB"), path)


def store(picture, path):
    picture.save(path, **({"quality": 88, "optimize": True} if path.suffix == ".jpg" else {}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--server", default=str(ROOT / "target" / "release" / "lipsync-server"))
    parser.add_argument("--picture", type=Path, help="where to put a picture of the page")
    parser.add_argument("--phone-picture", type=Path, help="the same of a phone's screen")
    arguments = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        microphone = Path(folder) / "microphone.wav"
        write_microphone(microphone)
        server = Server(arguments.server, port)
        driver = start_browser(Path(folder) / "profile", microphone)
        try:
            driver.get(server.url)
            page = Page(driver)
            print("connection")
            rest = check_connection(page)
            print("sample")
            check_sample(page, rest)
            print("interruption")
            check_interruption(page)
            print("panel")
            check_panel(page)
            print("upload")
            check_upload(page)
            print("microphone")
            check_microphone(page)
            take_picture(page, arguments.picture)
            print("phone")
            check_phone(page, arguments.phone_picture)
            errors = page.errors()
            assert not errors, errors
            print("return")
            server = check_return(page, server, arguments.server, port)
        finally:
            driver.quit()
            server.stop()
    print("all is well")


if __name__ == "__main__":
    sys.exit(main())
