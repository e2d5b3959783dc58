"""A headless Chromium driven over its debugging pipe: enough of the DevTools protocol for one page."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40, "t": 84, "s": 83, "u": 85}


def browser() -> str | None:
    """The path of a Chromium, if this machine has one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab; `log` holds what the page told its console, dialogs included, and `requests` all that it asked for."""

    def __init__(self, path: str, profile: Path, size: tuple[int, int] = (1200, 800)) -> None:
        their_in, self._out = os.pipe()
        self._in, their_out = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
                   "--disable-extensions", "--disable-background-networking", "--remote-debugging-pipe",
                   f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "about:blank"]  # fmt: skip
        # The protocol's ends are file descriptors 3 and 4 of the browser.
        shell = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        self._child = subprocess.Popen(
            ["bash", "-c", shell, "-", str(their_in), str(their_out), path, *options],
            pass_fds=(their_in, their_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(their_in)
        os.close(their_out)
        self._number, self._buffer, self._session = 0, b"", ""
        self.log: list[str] = []
        self.requests: list[str] = []
        target = next(t for t in self("Target.getTargets")["targetInfos"] if t["type"] == "page")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._read(30.0)
            if heard.get("id") == self._number:
                assert "error" not in heard, heard
                return heard["result"]

    def _read(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            assert select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0], "the browser says nothing"
            part = os.read(self._in, 65536)
            assert part, "the browser left"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        heard = json.loads(line)
        if heard.get("method") in ("Page.javascriptDialogOpening", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.log.append(json.dumps(heard["params"]))
        if heard.get("method") == "Network.requestWillBeSent":
            self.requests.append(heard["params"]["request"]["url"])
        return heard

    def open(self, url: str) -> None:
        """Load `url`, or load it again."""
        self("Page.navigate", url="about:blank")
        self("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 20.0) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.ask(expression)):
            assert time.monotonic() < end, f"never true: {expression}; {self.ask('document.body.innerText')}"
            time.sleep(0.01)
        return value

    def press(self, key: str) -> None:
        """A key, as a keyboard sends it."""
        about = {"key": key, "code": key if len(key) > 1 else f"Key{key.upper()}", "windowsVirtualKeyCode": KEYS[key]}
        text = {"text": key} if len(key) == 1 else {}
        self("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self("Input.dispatchKeyEvent", type="keyUp", **about)

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._in)
        os.close(self._out)
