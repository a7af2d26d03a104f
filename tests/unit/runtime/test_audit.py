from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest

from fs3.base.units import SECOND
from fs3.runtime.audit import AuditLog, refusals_per_second_max
from tests.unit.conftest import LoopClock


class GivenClock(LoopClock):
    """Stands still until it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0

    def now(self) -> int:
        return self.at


def read(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_lines_say_who_what_from_where_and_with_what_result(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log", GivenClock())
    log.record("PutUser", who="root", source="tcp://10.0.0.1:1", about='ann"\n')
    log.record("login", source="tcp://10.0.0.2:1", result="NOT_ADMITTED", why="x" * 2000)
    log.close()
    first, second = read(tmp_path / "audit.log")
    assert first == {
        "time": "1970-01-01T00:00:00.000Z",
        "what": "PutUser",
        "who": "root",
        "from": "tcp://10.0.0.1:1",
        "result": "ok",
        "about": 'ann"\n',
    }
    assert second["why"] == "x" * 512
    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o600


def test_files_turn_over_and_the_oldest_goes(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log", GivenClock(), bytes_max=1000, files_max=3)
    for number in range(40):
        log.record("SetConfig", who=f"user {number}")
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = [line["who"] for file in reversed(files) for line in read(file)]
    assert kept == [f"user {number}" for number in range(40)][-len(kept) :]


def test_a_flood_of_refusals_fills_no_disk_and_is_counted(tmp_path: Path) -> None:
    clock = GivenClock()
    log = AuditLog(tmp_path / "audit.log", clock)
    for _ in range(10_000):
        log.record("login", result="NOT_ADMITTED")
    log.record("PutUser", who="root")
    clock.at = SECOND
    log.record("login", result="NOT_ADMITTED")
    lines = read(tmp_path / "audit.log")
    assert len(lines) == refusals_per_second_max + 2
    assert lines[refusals_per_second_max]["left_out"] == 10_000 - refusals_per_second_max
    assert "left_out" not in lines[-1]


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    for who in ("ann", "bob"):
        log = AuditLog(tmp_path / "audit.log", GivenClock())
        log.record("login", who=who)
        log.close()
    assert [line["who"] for line in read(tmp_path / "audit.log")] == ["ann", "bob"]


def test_a_disk_that_takes_nothing_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(tmp_path / "missing" / "audit.log", GivenClock())
    with caplog.at_level(logging.ERROR, "fs3.audit"):
        log.record("login", who="ann")
        log.record("login", who="ann")
    assert len(caplog.records) == 1
