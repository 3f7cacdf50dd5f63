"""Drives the page in a headless Chromium against a real server.

    python tools/page-test/page_test.py [--server target/release/lipsync-server] [--picture docs/page.jpg] [--axe axe.min.js]

Plays a sample and looks at the pixels of the mouth: it moves while there is speech, in step with it, and
rests in silence. Interrupts, by mouse and by keyboard, speaks through a fake microphone, talks over a sample,
uploads a file, has a text spoken by a service of its own, keeps a clip, reads the charts with keys, lets Tomo speak,
stops the server's process and lets it go on, takes the server away and brings it back, and looks at a phone's screen,
upright and on its side, light and dark. Lets a page of another origin speak (with Node). Fails on any error in the
console and, with --axe, on any finding of axe.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

ROOT = Path(__file__).resolve().parents[2]
SPEECH = ROOT / "assets" / "speech"
PATIENCE_S = 60
FPS = 25
FRAME_MS = 1000 / FPS
# Set from the command line.
AXE, FOREIGN_PORT = None, 0

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


class Voice(BaseHTTPRequestHandler):
    """A text-to-speech service: it says the same sentence whatever the text. A text that says "wait" has to wait."""

    sound = (SPEECH / "umbrella.wav").read_bytes()
    texts = []
    may_go_on = threading.Event()

    def do_POST(self):
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        self.texts.append(text)
        if text == "wait":
            self.may_go_on.wait(PATIENCE_S)
        self.send_response(200)
        self.send_header("content-type", "audio/wav")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.sound)

    def log_message(self, *_arguments):
        pass


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

    def bytes_down(self):
        """Bytes of WebSocket messages that came since the last call."""
        n = 0
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.webSocketFrameReceived":
                n += len(message["params"]["response"]["payloadData"]) * 3 // 4
        return n

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
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
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
    # Of 250, the default, the page's own looks at the server would take most.
    page.script("performance.setResourceTimingBufferSize(100000)")
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


def check_keyboard(page):
    page.click("[data-sample='lips.wav']")
    page.until("she speaks", lambda: page.mood() == "speaking")
    page.find("body").send_keys(Keys.ESCAPE)
    page.until("she rests", lambda: page.mood() == "idle")
    assert page.find("#caption").get_attribute("hidden") is not None, "the sentence is gone with its caption"


def check_bandwidth(page):
    """The faces alone come, once the backgrounds are here."""
    page.until("the faces alone come", lambda: page.script("return window.performance.getEntriesByType('resource')"
               ".filter((e) => e.name.includes('/backgrounds/')).length") >= 190)
    page.bytes_down()
    page.click("[data-sample='welcome.wav']")
    page.until("she speaks", lambda: page.mood() == "speaking")
    began = time.monotonic()
    page.bytes_down()
    page.until("she has spoken", lambda: page.mood() == "idle")
    seconds = time.monotonic() - began
    mbit = page.bytes_down() * 8 / seconds / 1e6
    print(f"  {mbit:.1f} Mbit/s while she speaks")
    assert mbit < 4, "the faces alone come"


def check_whole_frames(page):
    """Where the backgrounds cannot be fetched, whole frames come, and she speaks all the same."""
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/backgrounds/*"]})
    page.driver.refresh()
    page.until("the session is open", lambda: page.find("#connection").get_attribute("data-state") == "open")
    page.until("it is given up", lambda: any("whole frames are used" in e["message"] for e in page.driver.get_log("browser")))
    page.until("the session is open", lambda: page.find("#connection").get_attribute("data-state") == "open")
    page.click("[data-sample='welcome.wav']")
    page.until("she speaks", lambda: page.mood() == "speaking")
    began = time.monotonic()
    page.bytes_down()
    page.until("she has spoken", lambda: page.mood() == "idle")
    print(f"  {page.bytes_down() * 8 / (time.monotonic() - began) / 1e6:.1f} Mbit/s with whole frames")
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.driver.refresh()
    page.until("the session is open", lambda: page.find("#connection").get_attribute("data-state") == "open")
    page.script(WATCH)
    # What was blocked is in the console.
    page.errors()


def check_text(page):
    """A typed text is spoken; Esc interrupts it while it is still made."""
    text = page.find("#text")
    assert page.find("#say").is_displayed()
    text.send_keys("Maybe we should move the umbrella.", Keys.ENTER)
    page.until("she speaks", lambda: page.mood() == "speaking")
    assert page.text("#caption") == "Maybe we should move the umbrella."
    page.until("she has spoken", lambda: page.mood() == "idle")
    text.clear()
    text.send_keys("wait", Keys.ENTER)
    page.until("the service is asked", lambda: "wait" in Voice.texts)
    text.send_keys(Keys.ESCAPE)
    page.until("nobody waits for it", lambda: page.find("#say").get_attribute("aria-busy") is None)
    Voice.may_go_on.set()
    assert page.mood() == "idle"
    print(f"  {len(Voice.texts)} texts")


def check_clip(page, folder):
    """A clip has the picture and the voice."""
    behaviour = {"behavior": "allow", "downloadPath": str(folder)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    page.click("#record")
    page.until("it records", lambda: page.find("#record").get_attribute("aria-pressed") == "true")
    page.click("[data-sample='lips.wav']")
    page.until("she speaks", lambda: page.mood() == "speaking")
    page.until("she has spoken", lambda: page.mood() == "idle")
    page.click("#record")
    clip = page.until("the clip is there", lambda: next((f for f in folder.iterdir() if f.suffix in (".webm", ".mp4")), None))
    data = clip.read_bytes()
    codecs = [c for c in (b"V_VP8", b"A_OPUS", b"avc1", b"mp4a") if c in data]
    print(f"  {clip.name}: {len(data) / 1e3:.0f} kB, {b' '.join(codecs).decode()}")
    assert re.fullmatch(r"mira-\d{4}-\d\d-\d\d-\d{6}\.(webm|mp4)", clip.name)
    assert len(codecs) == 2 and len(data) > 50_000
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in data, "it says how it was made"
    if shutil.which("exiftool"):
        told = subprocess.run(["exiftool", "-a", "-G1", clip], capture_output=True, text=True).stdout
        marks = [" ".join(line.split()) for line in told.splitlines() if "trained" in line.lower()]
        print("  exiftool: " + "; ".join(marks))
        assert marks and "Error" not in told and "Warning" not in told, told


def check_tomo(page):
    """The other avatar has a voice and a name of his own."""
    choose = "const list = document.getElementById('avatar'); list.value = arguments[0]; list.dispatchEvent(new Event('change'))"
    page.script(choose, "tomo")
    page.until("the session is open", lambda: page.find("#connection").get_attribute("data-state") == "open")
    page.click("[data-sample='welcome.wav']")
    page.until("he speaks", lambda: page.mood() == "speaking")
    assert "Tomo" in page.text("#caption"), page.text("#caption")
    fetched = page.script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert any(name.endswith("samples/tomo-welcome.mp3") for name in fetched)
    page.until("he has spoken", lambda: page.mood() == "idle")
    page.script(choose, "mira")
    page.until("the session is open", lambda: page.find("#connection").get_attribute("data-state") == "open")


def check_slow(page, server):
    """A server that falls behind makes frames without the network, and the page says so."""
    page.click("[data-sample='welcome.wav']")
    page.until("she speaks", lambda: page.mood() == "speaking")
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    server.process.send_signal(signal.SIGCONT)
    page.until("it is told", lambda: "too slow" in page.text("#slow"))
    audit(page, "a slow server")
    page.until("it is over", lambda: page.text("#slow") == "")
    page.until("she has spoken", lambda: page.mood() == "idle")


def check_dashboard(page):
    """Charts that can be read with keys and as a table, and what the server has."""
    plots = page.driver.find_elements(By.CSS_SELECTOR, "#charts .plot:not([hidden])")
    names = [plot.find_element(By.CSS_SELECTOR, "h3").text for plot in plots]
    print("  " + ", ".join(names))
    assert {"Frames per second", "Sessions", "Memory of the server", "Traffic"} <= set(names), names
    lines = page.script("return [...document.querySelectorAll('.plot:not([hidden]) .plot-line')].map((l) => l.getAttribute('d'))")
    assert sum(1 for line in lines if line and "L" in line) > 6, lines
    slider = plots[0].find_element(By.CSS_SELECTOR, "[role='slider']")
    slider.send_keys(Keys.ARROW_LEFT)
    before = slider.get_attribute("aria-valuetext")
    slider.send_keys(Keys.HOME)
    after = slider.get_attribute("aria-valuetext")
    print(f"  {before} / {after}")
    assert re.search(r"\d:\d\d.*sent", before) and before != after
    page.click("#numbers summary")
    rows = page.until("there is a table", lambda: page.driver.find_elements(By.CSS_SELECTOR, "#numbers-table tbody tr"))
    print("  " + rows[0].text)
    assert any(row.text.startswith("Frames per second: sent") for row in rows)
    audit(page, "charts and tables")
    page.click("#numbers summary")
    for scale in ("10s", "5m", "1s"):
        page.click(f"[name='scale'][value='{scale}']")
        page.until("it says what it knows", lambda: page.find("#charts").is_displayed() or page.text("#charts-note"))
    page.until("the charts are back", lambda: page.find("#charts").is_displayed())
    assert page.text("#alerts-state"), "alerts, or that there are none"
    models = page.text("#models")
    assert re.search(r"mira ready .* MB", models) and "tomo" in models, models
    workers = page.driver.find_elements(By.CSS_SELECTOR, "#workers-table tbody tr")
    # Of the four that are configured no more than there are cores.
    assert len(workers) == min(4, len(os.sched_getaffinity(0))), len(workers)
    print("  " + page.text("#alerts-state") + "; " + models.split("\n")[1])


def check_latency(page):
    found = {name: page.text(f"#{name}") for name in ("first-frame", "on-screen", "interruption")}
    print("  " + ", ".join(f"{name} {ms} ms" for name, ms in found.items()))
    assert all(ms.isdigit() for ms in found.values()), found


def check_hang(page, server):
    """A server that hangs closes nothing."""
    status = lambda: page.find("#connection").get_attribute("data-state")
    stopped = time.monotonic()
    server.process.send_signal(signal.SIGSTOP)
    try:
        page.until("the hang is told", lambda: status() == "lost")
        took = time.monotonic() - stopped
        page.until("the figures are called old", lambda: "Figures as of" in page.text("#stale"))
        print(f"  told after {took:.1f} s, figures called old after {time.monotonic() - stopped:.1f} s: {page.text('#stale')}")
        assert took < 3, took
        assert "stale" in page.find("#panel").get_attribute("class")
        audit(page, "a stale page")
    finally:
        server.process.send_signal(signal.SIGCONT)
    page.until("it is back", lambda: status() == "open")
    page.until("the figures are new", lambda: page.text("#stale") == "")


def check_choices(page):
    """Volume and microphone."""
    page.script("const v = document.getElementById('volume'); v.value = 30; v.dispatchEvent(new Event('input'))")
    # The fake microphone is one of three.
    assert page.find("#microphones-choice").is_displayed()
    choices = page.driver.find_elements(By.CSS_SELECTOR, "#microphones option")
    print("  " + ", ".join(choice.text for choice in choices))
    assert len(choices) > 1


def check_foreign(driver, server):
    """A page of another origin speaks: the example of the JavaScript client, on a port of its own."""
    if not shutil.which("node"):
        print("  skipped: Node is not here")
        return
    environment = {**os.environ, "PORT": str(FOREIGN_PORT)}
    serve = subprocess.Popen(["node", ROOT / "clients/js/example/serve.mjs"], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        address = serve.stdout.readline().strip()
        driver.get(f"{address}?server={server.url}")
        page = Page(driver)
        page.until("it is connected", lambda: page.text("#state") == "Connected")
        page.click("#speak")
        page.until("she speaks", lambda: int(page.find("#face").get_attribute("data-audio-time-us") or 0) > 1_000_000)
        page.click("#interrupt")
        page.until("she rests", lambda: page.find("#face").get_attribute("data-audio-time-us") == "")
        errors = page.errors()
        assert not errors, errors
    finally:
        serve.terminate()
        serve.wait(PATIENCE_S)


def audit(page, what):
    """What axe finds wrong for people who read, hear or steer differently."""
    if not AXE:
        return
    page.script(AXE)
    found = page.driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => done(violations), (e) => done(String(e)))"
    )
    assert found == [], f"axe, {what}: {[(f['id'], [n['html'] for n in f['nodes']]) for f in found]}"
    print(f"  axe finds nothing: {what}")


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


def check_dark(page, path):
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    audit(page, "dark")
    save(page, path)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def check_landscape(page, path):
    """A phone on its side: the face and what one can do are on the screen together."""
    size = {"width": 844, "height": 390, "deviceScaleFactor": 2, "mobile": True}
    size["screenOrientation"] = {"type": "landscapePrimary", "angle": 90}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.script("window.scrollTo(0, 0)")
    wide = page.script("return document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, f"{wide} px wider than the screen"
    for selector in ("#face", "#microphone", "#interrupt", "#record", "#text", "[data-sample='welcome.wav']", "#avatar"):
        bottom = page.script("return document.querySelector(arguments[0]).getBoundingClientRect().bottom", selector)
        assert bottom <= 390, f"{selector} ends at {bottom} px"
    audit(page, "landscape")
    save(page, path)
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


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
    audit(page, "phone")
    save(page, path)
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def save(page, path):
    if path is None:
        return
    store(Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB"), path)


def store(picture, path):
    picture.save(path, **({"quality": 82, "optimize": True} if path.suffix == ".jpg" else {}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--server", default=str(ROOT / "target" / "release" / "lipsync-server"))
    parser.add_argument("--picture", type=Path, help="where to put a picture of the page")
    parser.add_argument("--phone-picture", type=Path, help="the same of a phone's screen")
    parser.add_argument("--landscape-picture", type=Path, help="the same of a phone on its side")
    parser.add_argument("--dark-picture", type=Path, help="the same in the dark")
    parser.add_argument("--axe", type=Path, help="axe.min.js of the package axe-core")
    arguments = parser.parse_args()
    global AXE, FOREIGN_PORT
    AXE = arguments.axe.read_text() if arguments.axe else None
    port, FOREIGN_PORT = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        microphone = Path(folder) / "microphone.wav"
        write_microphone(microphone)
        voice = ThreadingHTTPServer(("127.0.0.1", 0), Voice)
        threading.Thread(target=voice.serve_forever, daemon=True).start()
        settings = {
            "LIPSYNC_OPERATIONS__ALLOWED_ORIGINS": f"http://localhost:{FOREIGN_PORT}",
            "LIPSYNC_OPERATIONS__TEXT_TO_SPEECH_URL": f"http://127.0.0.1:{voice.server_port}/",
        }
        server = Server(arguments.server, port, settings)
        driver = start_browser(Path(folder) / "profile", microphone)
        try:
            driver.get(server.url)
            page = Page(driver)
            print("connection")
            rest = check_connection(page)
            audit(page, "at rest")
            print("bandwidth")
            check_bandwidth(page)
            print("sample")
            check_sample(page, rest)
            print("interruption")
            check_interruption(page)
            print("keyboard")
            check_keyboard(page)
            print("latency")
            check_latency(page)
            print("hang")
            check_hang(page, server)
            print("panel")
            check_panel(page)
            print("dashboard")
            check_dashboard(page)
            print("text")
            check_text(page)
            print("clip")
            check_clip(page, Path(folder))
            print("slow")
            check_slow(page, server)
            print("Tomo")
            check_tomo(page)
            print("upload")
            check_upload(page)
            print("microphone")
            check_microphone(page)
            print("choices")
            check_choices(page)
            take_picture(page, arguments.picture)
            print("phone")
            check_phone(page, arguments.phone_picture)
            print("landscape, dark")
            check_landscape(page, arguments.landscape_picture)
            check_dark(page, arguments.dark_picture)
            errors = page.errors()
            assert not errors, errors
            print("whole frames")
            check_whole_frames(page)
            print("another origin")
            check_foreign(driver, server)
            driver.get(server.url)
            page.until("the session is open", lambda: page.find("#connection").get_attribute("data-state") == "open")
            page.script(WATCH)
            print("return")
            server = check_return(page, server, arguments.server, port)
        finally:
            driver.quit()
            server.stop()
    print("all is well")


if __name__ == "__main__":
    sys.exit(main())
