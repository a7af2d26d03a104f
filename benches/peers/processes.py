"""Processes of a peer, for the length of a `with` block."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

START_S = 60.0
"""How long a peer has until it serves."""
STOP_S = 10.0
"""How long it has to end by itself."""


@contextmanager
def running(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block; what it prints goes to a file."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_served(processes: Sequence[subprocess.Popen[bytes]], ask: Callable[[], object], failure: type[Exception]) -> None:
    """Return once `ask` raises no `failure`. RuntimeError when a process ends, or time does."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        for process in processes:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} has ended with {process.returncode}")
        with suppress(failure):
            ask()
            return
        time.sleep(0.05)
    raise RuntimeError(f"{processes[0].args!r} does not serve")
