"""A load in a process of its own, so that nothing its caller does can slow it down: for process tests, benches and the demo."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from fs3.sim.load import LoadOptions
from fs3.sim.oracle import Books, enter, records

READY_SECONDS = 60.0


class LoadProcess:
    """Runs `fs3.sim.load` for the length of a `with` block; `books` is what it has written down so far.

    with LoadProcess(cluster.url, path / "journal", registers=8) as load:
        ...
        books = load.stop()
    """

    def __init__(self, url: str, journal: Path, **options: float | str) -> None:
        """`options`: those of `fs3.sim.load.LoadOptions`."""
        self.books = Books()
        self.options = LoadOptions(**options)  # type: ignore[arg-type]
        self.journal = journal
        self._command = [sys.executable, "-m", "fs3.sim.load", url, str(journal)]
        for name, value in options.items():
            self._command += [f"--{name.replace('_', '-')}", str(value)]
        self._process: subprocess.Popen[bytes] | None = None
        self._offset = 0
        self._said = journal.with_name(journal.name + ".said")

    def __enter__(self) -> Self:
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(self._command, stdout=said, stderr=said)
        try:
            self.wait(lambda books: books.count("ready") > 0, READY_SECONDS, "the load to begin")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def refresh(self) -> Books:
        """What the journal says by now."""
        if self.journal.exists():
            for record, behind in records(self.journal, self._offset):
                enter(self.books, record)
                self._offset = behind
        return self.books

    def wait(self, condition: Callable[[Books], bool], seconds: float, what: str) -> Books:
        """Until the journal says something. TimeoutError naming it; RuntimeError when the load has ended before."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while not condition(self.refresh()):
            if self._process.poll() is not None:
                self.refresh()
                said = self._said.read_text()[-2000:]
                raise RuntimeError(f"the load ended while {what} was waited for: {self.books.wrong} {said}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not after {seconds:.0f} s; lately failed: {self.books.failed[-3:]}")
            time.sleep(0.02)
        return self.books

    def wait_progress(self, kind: str, count: int, seconds: float) -> Books:
        """Until so many more operations of a kind have begun and ended well from now on."""
        now = time.monotonic_ns()

        def enough(books: Books) -> bool:
            return sum(what == kind and begin > now for what, begin, _ in reversed(books.timeline[-20_000:])) >= count

        return self.wait(enough, seconds, f"{count} more of {kind}")

    def stop(self, seconds: float = 90.0) -> Books:
        """Let it finish what is under way, and read the rest of its journal. RuntimeError when it failed, unless a read was
        wrong, which the books say."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the load does not end: {self.refresh().failed[-3:]}") from None
        self.refresh()
        if self._process.returncode and not self.books.wrong:
            raise RuntimeError(f"the load failed: {self._said.read_text()[-2000:]}")
        return self.books
