"""A headless Chromium, driven over the DevTools protocol by a pair of pipes: no library, and no port.

Tests that need one ask for the fixture `browser` (tests/conftest.py), which skips them, saying so, where there is none.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ANSWER_SECONDS = 60.0


def find_chromium() -> str | None:
    """Where it is: `FS3_CHROMIUM`, or by one of its names; None where there is none."""
    named = os.environ.get("FS3_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class ChromiumError(Exception):
    """It does not answer, or answers with an error."""


class Chromium:
    """One process with one page; `with` it."""

    def __init__(self, program: str, profile: Path) -> None:
        """`profile`: a directory of its own."""
        self._command = [
            program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--disable-extensions",
            "--disable-sync", "--mute-audio", "--hide-scrollbars", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        self._profile = profile
        self._last = 0
        self._session = ""
        self._waiting = b""
        self.console: list[str] = []
        """Errors and warnings that pages have written, exceptions, and resources that could not be had."""

    def __enter__(self) -> Self:
        down_read, down_write = os.pipe()
        up_read, up_write = os.pipe()
        script = f'exec "$@" 3<&{down_read} 4>&{up_write}'
        log = (self._profile.parent / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *self._command], pass_fds=(down_read, up_write), stdout=log, stderr=log,
            env={**os.environ, "HOME": str(self._profile.parent)}, start_new_session=True,
        )  # fmt: skip
        log.close()
        os.close(down_read)
        os.close(up_write)
        self._to, self._from = down_write, up_read
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Performance"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._session = ""
            self.call("Browser.close")
            self._process.wait(20)
        except (ChromiumError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            os.close(self._to)
            os.close(self._from)

    # --- what tests do ---------------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Go to a page, and wait until all of it is there."""
        answer = self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise ChromiumError(f"{url}: {answer['errorText']}")
        self.wait_for("document.documentElement !== null && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page. Promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise ChromiumError(f"{expression}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What an element says; "" when there is none."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))

    def wait_for(self, expression: str, seconds: float = ANSWER_SECONDS) -> Any:
        """The value of an expression once it is true: a number, a text or a boolean. ChromiumError with what the page says when
        it does not become so."""
        deadline = time.monotonic() + seconds
        while not (found := self.evaluate(expression)):
            if time.monotonic() > deadline:
                said = self.evaluate("document.body.innerText.slice(0, 2000)")
                raise ChromiumError(f"not in {seconds:.0f} s: {expression}\n{said}\n{self.console}")
            time.sleep(0.02)
        return found

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """Give the window a size, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, key: str) -> None:
        """Press and release a key: "Tab", "Enter", "Escape", "ArrowRight"."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """A picture as PNG; `whole`: of the page down to its end."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def heap_bytes(self) -> int:
        """What the page's JavaScript and its elements hold, after a collection."""
        self.call("HeapProfiler.collectGarbage")
        metrics = {each["name"]: each["value"] for each in self.call("Performance.getMetrics")["metrics"]}
        return int(metrics["JSHeapUsedSize"])

    def page_memory_bytes(self) -> int:
        """Memory of the process that shows the page: its own, without what it shares with others of the browser."""
        self.call("HeapProfiler.collectGarbage")
        found = []
        for each in self._renderers():
            lines = (Path("/proc") / str(each) / "smaps_rollup").read_text().splitlines()
            found.append(
                sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) * 1024
            )
        return max(found)

    def _renderers(self) -> list[int]:
        parents: dict[int, int] = {}
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
                if b"--type=renderer" in status.with_name("cmdline").read_bytes():
                    found.append(int(status.parent.name))
            except OSError:
                continue

        def is_own(pid: int) -> bool:
            return pid == self._process.pid or (pid in parents and is_own(parents[pid]))

        return [pid for pid in found if is_own(pid)]

    # --- the protocol ----------------------------------------------------------------------------------------------------

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        deadline = time.monotonic() + ANSWER_SECONDS
        while (answer := self._read(deadline, method)).get("id") != self._last:
            self._note(answer)
        if "error" in answer:
            raise ChromiumError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def _read(self, deadline: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            found = os.read(self._from, 1 << 20) if ready else b""
            if not found:
                raise ChromiumError(f"{method}: {'it has ended' if ready else 'no answer'}")
            self._waiting += found
        message, _, self._waiting = self._waiting.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled" if about["type"] in ("error", "warning", "assert"):
                self.console.append(" ".join(str(each.get("value", each.get("description"))) for each in about["args"]))
            case "Runtime.exceptionThrown":
                self.console.append(str(about["exceptionDetails"].get("exception", {}).get("description", about)))
            case "Log.entryAdded" if about["entry"]["level"] in ("error", "warning"):
                self.console.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
