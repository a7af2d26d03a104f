"""Machines of a cluster for tests: each with its own file, directory and address, in a network namespace where wanted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

BIN = Path(sys.executable).parent
WAIT_SECONDS = 60.0


class LabMachine:
    """One machine. Its processes run below `fs3 serve --config`."""

    def __init__(self, directory: Path, config: str, prefix: tuple[str, ...] = ()) -> None:
        """`prefix`: what each of its commands is run by, such as `ip netns exec NAME`."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.file = directory / "node.toml"
        self.file.write_text(config)
        self.log = directory / "serve.log"
        self._prefix = prefix
        self._serving: subprocess.Popen[bytes] | None = None
        self._out: IO[bytes] | None = None

    def command(self, *arguments: str) -> list[str]:
        """The command line of an `fs3` command on this machine."""
        return [*self._prefix, sys.executable, "-m", "fs3.cli.main", *arguments]

    def fs3(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run an `fs3` command on this machine; the caller looks at how it went."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=timeout, check=False)

    def must(self, *arguments: str) -> str:
        """Run an `fs3` command on this machine that has to succeed; what it says."""
        done = self.fs3(*arguments)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}\n{self.said()}"
        return done.stdout

    def serve(self) -> None:
        """Start its processes."""
        self._out = self.log.open("ab")
        command = self.command("serve", "--config", str(self.file))
        self._serving = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._out)

    @property
    def pid(self) -> int:
        """Of the supervisor of its processes."""
        assert self._serving is not None
        return self._serving.pid

    def said(self) -> str:
        """What its processes have said."""
        return self.log.read_text() if self.log.exists() else ""

    def wait_said(self, text: str, count: int = 1) -> None:
        """Until its processes have said something so often."""
        wait_until(lambda: self.said().count(text) >= count, lambda: f"no {count} times {text!r} in\n{self.said()}")

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the supervisor and all of its processes, at once: the machine has lost its power."""
        if self._serving is not None:
            for pid in [*self.children(), self.pid]:
                os.kill(pid, signal.SIGKILL)
            self._end(signal.SIGKILL)

    def _end(self, number: int) -> int:
        if self._serving is None:
            return 0
        self._serving.send_signal(number)
        status = self._serving.wait(60)
        self._serving = None
        if self._out is not None:
            self._out.close()
        return status

    def children(self) -> list[int]:
        """Pids of its processes."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in found]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def wait_until(condition: Callable[[], bool], describe: Callable[[], str], seconds: float = WAIT_SECONDS) -> None:
    """Until a condition holds; AssertionError with what the description says when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, describe()
        time.sleep(0.05)
