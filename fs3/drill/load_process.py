"""A load in a process of its own, so that nothing its caller does can slow it down: for process tests, benches and the demo."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from fs3.drill.journal import Journal, apply_record, read_records
from fs3.drill.load import LoadOptions

READY_SECONDS = 60.0


class LoadProcess:
    """Runs `fs3.drill.load` for the length of a `with` block; `journal` is what it has written down so far.

    with LoadProcess(cluster.url, path / "journal", registers=8) as load:
        ...
        journal = load.stop()
    """

    def __init__(
        self,
        url: str,
        journal_path: Path,
        *,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        **options: float | str,
    ) -> None:
        """`environment`: of the process, instead of this one's. `prefix`: what it is run by, which has to become it, such as
        `ip netns exec NAME`. `options`: those of `fs3.drill.load.LoadOptions`."""
        self._environment = environment
        self.journal = Journal()
        self.options = LoadOptions(**options)  # type: ignore[arg-type]
        self.journal_path = journal_path
        self._command = [*prefix, sys.executable, "-P", "-m", "fs3.drill.load", url, str(journal_path)]
        for name, value in options.items():
            self._command += [f"--{name.replace('_', '-')}", str(value)]
        self._process: subprocess.Popen[bytes] | None = None
        self._offset = 0
        self._output_path = journal_path.with_name(journal_path.name + ".said")

    def __enter__(self) -> Self:
        self.journal_path.parent.mkdir(parents=True, exist_ok=True)
        with self._output_path.open("wb") as said:
            self._process = subprocess.Popen(self._command, stdout=said, stderr=said, env=self._environment)
        try:
            self.wait_until(lambda journal: journal.count("ready") > 0, READY_SECONDS, "the load to begin")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def refresh(self) -> Journal:
        """What the journal says by now."""
        if self.journal_path.exists():
            for record, behind in read_records(self.journal_path, self._offset):
                apply_record(self.journal, record)
                self._offset = behind
        return self.journal

    def wait_until(self, condition: Callable[[Journal], bool], seconds: float, what: str) -> Journal:
        """Until the journal says something. TimeoutError naming it; RuntimeError when the load has ended before."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while not condition(self.refresh()):
            if self._process.poll() is not None:
                self.refresh()
                said = self._output_path.read_text()[-2000:]
                raise RuntimeError(f"the load ended while {what} was waited for: {self.journal.wrong} {said}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not after {seconds:.0f} s; lately failed: {self.journal.failed[-3:]}")
            time.sleep(0.02)
        return self.journal

    def wait_progress(self, kind: str, count: int, seconds: float) -> Journal:
        """Until so many more operations of a kind have begun and ended well from now on."""
        now = time.monotonic_ns()

        def enough(journal: Journal) -> bool:
            return sum(what == kind and begin > now for what, begin, _ in reversed(journal.timeline[-20_000:])) >= count

        return self.wait_until(enough, seconds, f"{count} more of {kind}")

    def stop(self, seconds: float = 90.0) -> Journal:
        """Let it finish what is under way, and read the rest of its journal. RuntimeError when it failed, unless a read was
        wrong, which the journal say."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the load does not end: {self.refresh().failed[-3:]}") from None
        self.refresh()
        if self._process.returncode and not self.journal.wrong:
            raise RuntimeError(f"the load failed: {self._output_path.read_text()[-2000:]}")
        return self.journal
