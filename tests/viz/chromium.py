"""A headless Chromium, driven over its debugging pipe: real clicks and keys, screenshots, what it fetches.

The protocol (https://chromedevtools.github.io/devtools-protocol/) is JSON with zero bytes between messages;
the browser reads from descriptor 3 and writes to descriptor 4. The standard library is all that is needed.
"""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TIMEOUT = 60.0
ALT, CONTROL, META, SHIFT = 1, 2, 4, 8  # modifiers of the protocol


def find_chromium() -> str | None:
    """Return the path of the browser: that in ATTNLIB_TEST_CHROMIUM, or the first of its usual names."""
    return os.environ.get("ATTNLIB_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab: `call` methods of the protocol, or what the other methods make of them."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._received = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(900, 800)

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method and wait for its result; events that come meanwhile are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + TIMEOUT
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._reader], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"the browser said nothing for {TIMEOUT:.0f} s"
            block = os.read(self._reader, 1 << 16)
            assert block, "the browser has gone"
            self._received += block
        message, self._received = self._received.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, path: Path) -> None:
        """Load a file and wait until all of it is there."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def use_colours(self, scheme: str) -> None:
        """Prefer "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript; the page's security policy does not bind it."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def place(self, selector: str, number: int = 0) -> tuple[float, float, float, float]:
        """Return left, top, width and height of an element, scrolled into view, in CSS pixels."""
        found = self.evaluate(
            f"""(() => {{
                const element = document.querySelectorAll({json.dumps(selector)})[{number}];
                element.scrollIntoView({{block: "nearest"}});
                const box = element.getBoundingClientRect();
                return [box.left, box.top, box.width, box.height];
            }})()"""
        )
        left, top, width, height = found
        return left, top, width, height

    def point(self, selector: str, number: int = 0) -> tuple[float, float]:
        """Move the mouse to the middle of an element."""
        left, top, width, height = self.place(selector, number)
        x, y = left + width / 2, top + height / 2
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        return x, y

    def click(self, selector: str, number: int = 0, *, times: int = 1) -> None:
        """Click an element once, or twice as a double-click."""
        x, y = self.point(selector, number)
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)

    def leave(self) -> None:
        """Move the mouse into a corner where nothing is."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a named key, such as "Tab", "Enter" or "ArrowDown", or "Space"."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32, "End": 35, "Home": 36, "ArrowLeft": 37}
        code |= {"ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        common: dict[str, Any] = {
            "key": " " if key == "Space" else key,
            "code": key,
            "windowsVirtualKeyCode": code[key],
            "modifiers": modifiers,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self) -> bytes:
        """Return what is seen as a PNG."""
        self.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def pixels(self) -> NDArray[np.float32]:
        """Return what is seen, (height, width, 3), from 0 to 1."""
        from matplotlib.image import imread

        image: NDArray[np.float32] = imread(io.BytesIO(self.screenshot()))[..., :3]
        return image

    def complaints(self) -> list[str]:
        """Return errors of scripts, and whatever the console was told, since the page was opened."""
        self.evaluate("0")  # what was said before is here now
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in kinds]

    def requests(self) -> list[str]:
        """Return the addresses of all that was asked for since the page was opened, itself included."""
        self.evaluate("0")
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]


@contextmanager
def browser(program: str, folder: Path) -> Iterator[Page]:
    """Start a browser that keeps its files in `folder`, and end it."""
    command = [
        program,
        "--headless=new",
        "--no-sandbox",  # which root may not have
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--no-default-browser-check",
        "--remote-debugging-pipe",
        f"--user-data-dir={folder}",
        "about:blank",
    ]
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # Above the two descriptors that they become, so that the first does not overwrite the second.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs_in, theirs_out)]

    def connect() -> None:
        for end, descriptor in zip(ends, (3, 4), strict=True):
            os.dup2(end, descriptor)

    process = subprocess.Popen(
        command,
        close_fds=False,  # Python's descriptors close themselves; 3 and 4 must not
        preexec_fn=connect,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (theirs_in, theirs_out, *ends):
        os.close(end)
    try:
        page = Page(ours_in, ours_out)
        yield page
        page._session = None
        page.call("Browser.close")
        process.wait(timeout=TIMEOUT)
    finally:
        process.kill()
        process.wait()
        os.close(ours_in)
        os.close(ours_out)
