"""Which processes of a local cluster are to run, and what became of those that ended by themselves.

    DIR/supervised/<name>        there while the process is to run: made when it is started, removed when it is stopped or killed
                                 on purpose, or given up
    DIR/supervised/<name>.json   how often it was started again since, and why: a `RestartRecord`

The supervisor (`fs3.cli.supervisor`) starts again who is to run and does not.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import msgspec

from fs3.base.backoff import Backoff
from fs3.base.units import MILLISECOND, SECOND
from fs3.cli.directory import ClusterDirectory
from fs3.runtime.private_files import open_private

restart_wait_first_ns = 250 * MILLISECOND
restart_wait_ns_max = 8 * SECOND
restart_quick_ns = 60 * SECOND
"""A process that ends sooner after its start than this has ended quickly."""
restarts_quick_max = 5
"""After so many restarts that all ended quickly, the process is given up."""


class RestartRecord(msgspec.Struct, frozen=True):
    """What became of a process that ended by itself, since it was last started on purpose."""

    restarts: int = 0
    """How often it was started again."""
    ended_at: float = 0.0
    """When it ended last, in seconds since 1970; to be read by people."""
    reason: str = ""
    """Why it ended last, as far as that is known."""
    given_up: bool = False
    """It is not started again until a person does."""


def describe_restarts(record: RestartRecord) -> str:
    """ "was started again 2 times; it ended last at 2026-01-31 12:00:00: REASON"; empty when it never ended by itself."""
    if not record.ended_at:
        return ""
    times = "once" if record.restarts == 1 else f"{record.restarts} times"
    started = f"was started again {times}" if record.restarts else "has ended"
    given_up = ", and is given up: `fs3 up` starts it" if record.given_up else ""
    ended = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.ended_at))
    return f"{started}{given_up}; it ended last at {ended}: {record.reason}"


class RestartPolicy:
    """When one process that has ended by itself is started again: after waits that double while it goes on ending quickly."""

    def __init__(self) -> None:
        self._backoff = Backoff(restart_wait_first_ns, restart_wait_ns_max)
        self._quick = 0

    def next_wait_ns(self, ran_ns: int) -> int | None:
        """The wait before it is started again, after it ran for so long; None when it is given up."""
        if ran_ns >= restart_quick_ns:
            self._backoff.reset()
            self._quick = 0
        self._quick += 1
        return None if self._quick > restarts_quick_max else self._backoff.next_ns()


class SupervisedProcesses:
    """The files of a cluster's directory that say who is to run. Each is written by one side only, so none needs a lock."""

    def __init__(self, directory: ClusterDirectory) -> None:
        self._home = directory.path / "supervised"

    def add(self, name: str) -> None:
        """A process was started on purpose: it is to run from now on, and what was before does not count."""
        self._home.mkdir(mode=0o700, exist_ok=True)
        self._record_path(name).unlink(missing_ok=True)
        self._path(name).touch(mode=0o600)

    def remove(self, name: str) -> None:
        """A process is stopped on purpose, or given up. Nothing happens when it was not to run."""
        self._path(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Who is to run, in order."""
        try:
            return sorted(entry for entry in os.listdir(self._home) if not entry.endswith((".json", ".new")))
        except OSError:
            return []

    def has(self, name: str) -> bool:
        """Whether a process is to run."""
        return self._path(name).exists()

    def record(self, name: str) -> RestartRecord:
        """What became of a process; an empty record when nothing did, or when it cannot be read."""
        try:
            return msgspec.json.decode(self._record_path(name).read_bytes(), type=RestartRecord)
        except (OSError, msgspec.MsgspecError):
            return RestartRecord()

    def save(self, name: str, record: RestartRecord) -> None:
        """Replace a record. On a disk that is full the old one stays, and processes are started again all the same."""
        path = self._record_path(name)
        new = path.with_suffix(".new")
        with contextlib.suppress(OSError):
            with os.fdopen(open_private(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as out:
                out.write(msgspec.json.encode(record))
            os.replace(new, path)

    def _path(self, name: str) -> Path:
        return self._home / name

    def _record_path(self, name: str) -> Path:
        return self._home / f"{name}.json"
