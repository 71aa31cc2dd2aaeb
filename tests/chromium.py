"""Open a page in Chromium and return what its console says, over the DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.sync.client import connect

START_S = 30.0
PAGE_S = 20.0
_NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Opened:
    """A page that was loaded.

    Attributes:
        console: Messages of its console and errors of the browser about it.
        requests: What it asked for, itself included.
        seconds: From the request for it until everything was loaded and drawn.
        text: What a reader sees.
        values: Results of the expressions that were evaluated in it.
        picture: A picture of it as PNG.
    """

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    seconds: float = 0.0
    text: str = ""
    values: list[Any] = field(default_factory=list)
    picture: bytes = b""


def open_page(url: str, *expressions: str, dark: bool = False, width: int = 1200) -> Opened:
    """Open a page; the test is skipped where there is no Chromium."""
    with _browser() as port:
        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PAGE_S) as answer:
            (tab,) = [each for each in json.load(answer) if each["type"] == "page"]
        with connect(tab["webSocketDebuggerUrl"], max_size=None, open_timeout=PAGE_S) as socket:
            return _Tab(socket).open(url, expressions, dark, width)


class _Tab:
    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._number = 0
        self._loaded = False
        self._opened = Opened()

    def open(self, url: str, expressions: tuple[str, ...], dark: bool, width: int) -> Opened:
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._loaded = False
        start = time.monotonic()
        self._call("Page.navigate", url=url)
        while not self._loaded:
            self._take(start + PAGE_S)
        # Answered when the page has been laid out and drawn.
        picture = self._call("Page.captureScreenshot", captureBeyondViewport=False)
        self._opened.seconds = time.monotonic() - start
        self._opened.picture = base64.b64decode(picture["data"])
        text, *values = (self._evaluate(each) for each in ("document.body.innerText", *expressions))
        self._opened.text, self._opened.values = text, values
        return self._opened

    def _evaluate(self, expression: str) -> Any:
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def _call(self, method: str, **params: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = self._take(time.monotonic() + PAGE_S)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def _take(self, until: float) -> Any:
        message = json.loads(self._socket.recv(timeout=max(0.0, until - time.monotonic())))
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.consoleAPICalled":
                self._opened.console.append(f"{params['type']}: {params['args']}")
            case "Runtime.exceptionThrown":
                self._opened.console.append(f"exception: {params['exceptionDetails']['text']}")
            case "Log.entryAdded":
                self._opened.console.append(f"{params['entry']['level']}: {params['entry']['text']}")
            case "Network.requestWillBeSent":
                self._opened.requests.append(params["request"]["url"])
        return message


@contextmanager
def _browser() -> Iterator[int]:
    """A browser without a window; yields the port of its DevTools."""
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("chromium is not installed")
    with TemporaryDirectory(prefix="nm-chromium-", ignore_cleanup_errors=True) as profile:
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
        ports = ("--remote-debugging-port=0", f"--user-data-dir={profile}")
        process = subprocess.Popen(
            [program, *options, *ports, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield _port(Path(profile) / "DevToolsActivePort", process)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"chromium ended with {process.returncode}"
        lines = file.read_text().splitlines() if file.is_file() else []
        if len(lines) > 1:
            return int(lines[0])
        time.sleep(0.02)
    raise AssertionError(f"chromium did not open its DevTools within {START_S:g} s")
