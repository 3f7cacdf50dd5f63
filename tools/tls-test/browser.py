"""Chromium against an encrypted operations port; used by tls_test.py."""

import json
import os
import pathlib
import subprocess
import re
import time

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

PATIENCE_S = 60
# Chromium takes from its user's database whom to trust and what to show; which certificate to show without asking is for a
# policy to say, and policies are read from here alone.
POLICIES = pathlib.Path("/etc/chromium/policies/managed")


def run(*command):
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


class Browser:
    """A Chromium whose user trusts some authorities, and may have a certificate."""

    def __init__(self, stack, folder, authorities, certificate=None):
        database = folder / ".pki/nssdb"
        database.mkdir(parents=True)
        store = f"sql:{database}"
        run("certutil", "-N", "-d", store, "--empty-password")
        for n, path in enumerate(authorities):
            run("certutil", "-A", "-d", store, "-n", f"authority {n}", "-t", "C,,", "-i", path)
        if certificate:
            chain, key = certificate
            bundle = folder / "client.p12"
            run("openssl", "pkcs12", "-export", "-in", chain, "-inkey", key, "-out", bundle, "-passout", "pass:", "-name", "client")
            run("pk12util", "-d", store, "-i", bundle, "-W", "", "-K", "")
        options = Options()
        options.binary_location = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        for flag in ["headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"]:
            options.add_argument(f"--{flag}")
        for flag in ["disable-component-update", "disable-dev-shm-usage", "autoplay-policy=no-user-gesture-required"]:
            options.add_argument(f"--{flag}")
        options.add_argument(f"--user-data-dir={folder / 'profile'}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver")
        service = Service(driver, env={**os.environ, "HOME": str(folder)})
        self.driver = webdriver.Chrome(options=options, service=service)
        stack.callback(self.driver.quit)

    def open(self, url):
        """The error of Chromium, or nothing. A page of its own shows it where the driver raises none, or one without words."""
        said = ""
        try:
            self.driver.get(url)
        except WebDriverException as error:
            said = (error.msg or type(error).__name__).split("\n")[0]
        shown = re.search(r"\bERR_[A-Z_]+", self.text("body"))
        return shown[0] if shown else said

    def until(self, what, condition):
        given_up = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            if time.monotonic() > given_up:
                raise SystemExit(f"still waiting until {what}: {self.text('body')}")
            time.sleep(0.05)
        return found

    def text(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def attribute(self, selector, name):
        return self.driver.find_element(By.CSS_SELECTOR, selector).get_attribute(name)

    def connect(self):
        """Waits for the page's session. Whether it asks for a key instead."""
        state = lambda: self.attribute("#connection", "data-state")  # noqa: E731
        self.until("the session is open", lambda: state() == "open")

    def speak(self):
        self.driver.find_element(By.CSS_SELECTOR, "[data-sample='welcome.wav']").click()
        self.until("she speaks", lambda: int(self.attribute("#face", "data-audio-time-us") or 0) > 200_000)

    def rests(self):
        return self.attribute("#mood", "data-mood") == "idle"

    def fetch(self, path):
        """Status of a request on a connection of its own choice; 0 if none came about."""
        text = "const done = arguments[1]; fetch(arguments[0], { cache: 'no-store' }).then((r) => done(r.status), () => done(0))"
        return self.driver.execute_async_script(text, path)

    def errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def show_certificates_to(stack, port):
    """Has every Chromium of this machine show its only certificate to this port. Whether that may be said."""
    file = POLICIES / "lipsync-tls-test.json"
    try:
        POLICIES.mkdir(parents=True, exist_ok=True)
        rule = json.dumps({"pattern": f"https://localhost:{port}", "filter": {}})
        file.write_text(json.dumps({"AutoSelectCertificateForUrls": [rule]}))
    except PermissionError:
        return False
    stack.callback(file.unlink)
    return True
