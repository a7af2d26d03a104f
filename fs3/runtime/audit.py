"""The audit log of a service process: one JSON object per line, of who did what from where, and what came of it.

    {"time": "2026-01-31T12:00:00.123Z", "what": "login", "who": "ann", "from": "10.0.0.1:4711", "result": "ok"}

Secrets are in no line. Files are made for their owner alone, turn over at `audit_bytes_max`, and the oldest goes. What is refused
is written up to a rate: a flood fills no disk, and the next line tells how many were left out.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from fs3.base.units import MIB, MILLISECOND, SECOND
from fs3.ports.clock import Clock

log = logging.getLogger("fs3.audit")

audit_bytes_max = 16 * MIB
"""Of one file."""
audit_files_max = 8
"""The one that is written and those before it."""
refusals_per_second_max = 50
_TEXT_MAX = 512
"""Characters of one value; what is longer is cut."""
_MODE = 0o600


class Audit(Protocol):
    """Where events for the audit log go."""

    def record(self, what: str, *, who: str = "", source: str = "", result: str = "ok", **details: str | int) -> None:
        """Something was done, or refused. `who` asked for it from `source`; `result`: "ok", or the name of a code."""
        ...


class NoAudit:
    """Of a process that keeps no audit log."""

    def record(self, what: str, *, who: str = "", source: str = "", result: str = "ok", **details: str | int) -> None:
        """See `Audit`."""


class AuditLog:
    """Writes to one file. A disk that takes nothing is told of in the log once, and stops no service."""

    def __init__(self, file: Path, clock: Clock, *, bytes_max: int = audit_bytes_max, files_max: int = audit_files_max) -> None:
        """The file is opened with the first line."""
        self._file = file
        self._clock = clock
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._descriptor = -1
        self._bytes = 0
        self._second = 0
        """Which second of the clock refusals are counted in."""
        self._refusals = 0
        self._left_out = 0
        self._has_failed = False

    def record(self, what: str, *, who: str = "", source: str = "", result: str = "ok", **details: str | int) -> None:
        """See `Audit`."""
        if result != "ok" and not self._may_write_refusal():
            self._left_out += 1
            return
        at_ms = self._clock.wall() // MILLISECOND
        moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry: dict[str, str | int] = {"time": moment, "what": what, "who": who, "from": source, "result": result, **details}
        if self._left_out:
            entry["left_out"], self._left_out = self._left_out, 0
        line = json.dumps({key: value[:_TEXT_MAX] if isinstance(value, str) else value for key, value in entry.items()})
        try:
            self._write(line.encode() + b"\n")
            self._has_failed = False
        except OSError as problem:
            if not self._has_failed:
                log.error("the audit log cannot be written: %s", problem)
            self._has_failed = True

    def close(self) -> None:
        """Nothing more is written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _may_write_refusal(self) -> bool:
        second = self._clock.now() // SECOND
        if second != self._second:
            self._second, self._refusals = second, 0
        self._refusals += 1
        return self._refusals <= refusals_per_second_max

    def _write(self, line: bytes) -> None:
        if self._descriptor >= 0 and self._bytes + len(line) > self._bytes_max:
            self.close()
            self._turn_over()
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._file, flags, _MODE)
            self._bytes = os.fstat(self._descriptor).st_size
        self._bytes += os.write(self._descriptor, line)

    def _turn_over(self) -> None:
        for number in range(self._files_max - 1, 0, -1):
            former = self._file_of(number - 1)
            if former.exists():
                former.replace(self._file_of(number))

    def _file_of(self, number: int) -> Path:
        return self._file if number == 0 else self._file.with_name(f"{self._file.name}.{number}")
