"""A headless Chromium, driven over WebDriver's HTTP interface.

It needs nothing but Chromium and its driver (Debian: apt install chromium chromium-driver).
"""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = None if CHROMIUM and DRIVER else "there is no chromium with chromedriver"

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ARROW_RIGHT = "\ue014"
TAB = "\ue004"
ENTER = "\ue007"


class Browser:
    """A window; use it in a `with` statement.

    Args:
        profile: New folder for the browser's own files.
        size: Width and height of the window.
        dark: Whether it asks for dark pages.
    """

    def __init__(self, profile, *, size=(1280, 900), dark=False):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._process = subprocess.Popen(
            [DRIVER, f"--port={self._port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        arguments = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--disable-dev-shm-usage", f"--user-data-dir={profile}"),
            f"--window-size={size[0]},{size[1]}",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        ]
        capabilities = {
            "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self._session = ""
        for attempt in range(100):
            try:
                made = self._post("", {"capabilities": {"alwaysMatch": capabilities}})
                break
            except (urllib.error.URLError, ConnectionError):  # it has not begun to listen
                if attempt == 99:
                    self._process.kill()
                    raise
                time.sleep(0.1)
        self._session = f"/{made['sessionId']}"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        try:
            self._request("DELETE", "")
        finally:
            self._process.terminate()
            self._process.wait()

    def open(self, path):
        self._post("/url", {"url": f"file://{path}"})

    def run(self, script, *arguments):
        """What a piece of JavaScript returns."""
        return self._post("/execute/sync", {"script": script, "args": list(arguments)})

    def press(self, *keys):
        """Presses keys one after the other, wherever the focus is."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})

    def drag(self, start, end):
        """Presses the mouse at a point of the window, and lets it go at another."""

        def move(point):
            return {"type": "pointerMove", "duration": 50, "x": int(point[0]), "y": int(point[1])}

        steps = [move(start), {"type": "pointerDown", "button": 0}, move(end)]
        steps.append({"type": "pointerUp", "button": 0})
        self._post("/actions", {"actions": [{"type": "pointer", "id": "m", "actions": steps}]})

    def console(self):
        """Messages that are worse than a note, so far."""
        entries = self._post("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self):
        """Addresses that pages asked a network for, so far."""
        entries = self._post("/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [m for m in messages if m["method"] == "Network.requestWillBeSent"]
        addresses = [m["params"]["request"]["url"] for m in sent]
        return [a for a in addresses if a.startswith(("http", "ws", "ftp"))]

    def picture(self):
        """The window as PNG."""
        return base64.b64decode(self._request("GET", "/screenshot"))

    def _post(self, path, body):
        return self._request("POST", path, body)

    def _request(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/session{self._session}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
