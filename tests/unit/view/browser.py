"""A headless Chromium, driven over a pipe by its DevTools protocol: no driver, no port."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
SECONDS = 30.0  # until something that should come has come

KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "/": 191, "u": 85, "Escape": 27, "Enter": 13}


def executable() -> str | None:
    """Where one is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page. Notes what it asked for, what the console said, and what it was answered."""

    def __init__(self, folder: Path, width: int, height: int):
        self.requests, self.console, self.status = [], [], {}
        read_theirs, write_ours = os.pipe()
        read_ours, write_theirs = os.pipe()
        self._numbers, self._buffer = itertools.count(1), b""
        self._read, self._write = read_ours, write_ours

        def as_they_expect_it():  # 3 to read from, 4 to write to
            theirs = os.dup(read_theirs), os.dup(write_theirs)
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self._process = subprocess.Popen(
            [executable(), "--headless", "--no-sandbox", "--remote-debugging-pipe",
             f"--user-data-dir={folder}/profile", f"--window-size={width},{height}",
             "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
             "--disable-component-update", "--no-first-run", "about:blank"],
            pass_fds=(3, 4), preexec_fn=as_they_expect_it, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_theirs)
        os.close(write_theirs)
        self._session = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        os.close(self._read)
        os.close(self._write)

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)
        self.wait_until("document.readyState === 'complete'")

    def run(self, script: str):
        """The value of an expression in the page."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_until(self, script: str) -> None:
        """Until an expression is true, though pages come and go meanwhile."""
        self._until(lambda: self._true(script), script)

    def go(self, script: str, to: str) -> None:
        """Do something that leads to a page whose path and query have a text."""
        self.run(f"window.before = true; {script}; 0")
        self.wait_until(
            f"!window.before && document.readyState === 'complete' && "
            f"(location.pathname + location.search).includes({json.dumps(to)})"
        )

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "char", "keyUp") if len(key) == 1 else ("rawKeyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=KEYS[key],
                **({"text": key} if kind == "char" else {}),
            )  # fmt: skip

    def show_as(self, scheme: str = "light", media: str = "") -> None:
        """As who prefers a colour scheme has it; with `media` print as it is printed."""
        preferred = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", media=media, features=[preferred])

    def resize(self, width: int, height: int = 900) -> None:
        """Another window, which has no pixels of its own."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def shot(self, path: Path) -> None:
        data = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(data["data"]))

    def _true(self, script: str) -> bool:
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        return found.get("result", {}).get("value") is True

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < end, f"not within {SECONDS} s: {what}"
            time.sleep(0.05)

    def _call(self, method: str, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                # a page that is left while it is asked has no answer
                return answer.get("result", {})
            self._note(answer.get("method"), answer.get("params", {}))

    def _next(self) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], SECONDS)
            assert ready, "the browser does not answer"
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser ended"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def _note(self, method: str | None, params: dict) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.responseReceived":
            self.status[params["response"]["url"]] = params["response"]["status"]
        elif method == "Log.entryAdded":
            self.console.append(params["entry"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled":
            self.console.append(params)
