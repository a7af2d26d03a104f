"""The tests say how much room they need, notice what they leave, and keep no blocks of one that has failed."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fs3.base.units import GIB, MIB
from tests.space import (
    KEPT_FILE_BYTES_MAX,
    LEFT_BYTES_MAX,
    PART_BYTES_MIN,
    WORKER_BYTES_MAX,
    SpaceGuard,
    explain_shortage,
    occupied_bytes,
    remove_bulk,
)
from tests.tidy.source import ROOT


def test_two_workers_stay_under_seven_gib() -> None:
    assert 2 * WORKER_BYTES_MAX <= 7 * GIB


@pytest.mark.parametrize(
    ("free", "workers", "is_whole", "says"),
    [
        (2 * WORKER_BYTES_MAX, 2, True, ""),
        (2 * WORKER_BYTES_MAX - 1, 2, True, "the tests need 7.0 GiB in /somewhere"),
        (WORKER_BYTES_MAX, 0, True, ""),
        (PART_BYTES_MIN, 8, False, ""),
        (PART_BYTES_MIN - 1, 1, False, "set TMPDIR"),
    ],
)
def test_a_shortage_is_explained(free: int, workers: int, is_whole: bool, says: str) -> None:
    found = explain_shortage(free, workers, Path("/somewhere"), is_whole=is_whole)
    assert says in found
    assert bool(found) == bool(says)


def write(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def test_holes_occupy_nothing(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 * GIB)
    write(tmp_path / "d" / "dense", 3 * MIB)
    assert 3 * MIB <= occupied_bytes(tmp_path) < 4 * MIB


def test_of_a_failed_test_the_log_stays(tmp_path: Path) -> None:
    blocks = write(tmp_path / "cluster" / "storage-1" / "blocks-64k", 4096)
    large = write(tmp_path / "cluster" / "ballast", KEPT_FILE_BYTES_MAX + 4096)
    log = write(tmp_path / "cluster" / "log" / "storage-1.log", 5000)
    remove_bulk(tmp_path)
    assert [path.exists() for path in (blocks, large, log)] == [False, False, True]


class Factory:
    """Directories below one."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def getbasetemp(self) -> Path:
        return self._base

    def mktemp(self, name: str) -> Path:
        (self._base / name).mkdir()
        return self._base / name


@pytest.fixture
def session() -> pytest.Session:
    return cast(pytest.Session, SimpleNamespace(testsfailed=0))


@pytest.fixture
def guard(tmp_path: Path, session: pytest.Session) -> SpaceGuard:
    return SpaceGuard(cast(pytest.TempPathFactory, Factory(tmp_path)), session)


def test_what_is_lent_is_gone_afterwards(tmp_path: Path, guard: SpaceGuard) -> None:
    with guard.lend("one") as directory:
        write(directory / "blocks-64k", LEFT_BYTES_MAX + MIB)
        with pytest.raises(AssertionError, match=r"are left in .*: one/blocks-64k"):
            guard.check_left()
    guard.check_left()
    assert list(tmp_path.iterdir()) == []


def test_what_the_session_shares_is_no_leftover(tmp_path: Path, guard: SpaceGuard) -> None:
    with guard.lend("cluster", shared=True) as directory:
        write(directory / "blocks-64k", LEFT_BYTES_MAX + MIB)
        guard.check_left()
        write(tmp_path / "forgotten", LEFT_BYTES_MAX + MIB)
        with pytest.raises(AssertionError, match="forgotten"):
            guard.check_left()


def test_only_what_has_been_left_since_is_a_leftover(tmp_path: Path, guard: SpaceGuard) -> None:
    write(tmp_path / "earlier", LEFT_BYTES_MAX - MIB)
    before = guard.occupied()
    write(tmp_path / "small", 2 * MIB)
    guard.check_left(before)
    write(tmp_path / "large", LEFT_BYTES_MAX)
    with pytest.raises(AssertionError, match=r"are left in .*large"):
        guard.check_left(before)


def test_directories_of_several_tests_are_lent() -> None:
    """What a test makes with `tmp_path_factory` itself stays until the session ends, and adds up over its modules."""
    call = "factory" + ".mktemp("
    own = [path.name for path in (ROOT / "tests").rglob("*.py") if call in path.read_text()]
    assert own == ["space.py"]


def test_what_a_shared_cluster_gives_back_meanwhile_is_no_leftover(
    tmp_path: Path, guard: SpaceGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with guard.lend("cluster", shared=True) as directory:
        blocks = write(directory / "blocks-64k", LEFT_BYTES_MAX + MIB)

        def look(*arguments: Any, **named: Any) -> int:
            found = occupied_bytes(*arguments, **named)
            blocks.unlink(missing_ok=True)
            return found

        monkeypatch.setattr("tests.space.occupied_bytes", look)
        guard.check_left()
        assert not blocks.exists(), "nothing was looked at"


def test_what_is_left_is_named_without_what_is_shared(tmp_path: Path, guard: SpaceGuard) -> None:
    with guard.lend("cluster", shared=True) as directory:
        write(directory / "blocks-64k", 2 * MIB)
        write(tmp_path / "forgotten", LEFT_BYTES_MAX + MIB)
        with pytest.raises(AssertionError) as caught:
            guard.check_left()
    assert "forgotten" in str(caught.value)
    assert "cluster/" not in str(caught.value)


def test_logs_of_a_time_in_which_a_test_failed_stay(guard: SpaceGuard, session: pytest.Session) -> None:
    with guard.lend("one") as directory:
        write(directory / "blocks-64k", LEFT_BYTES_MAX + MIB)
        write(directory / "log", 100)
        session.testsfailed += 1
    assert [path.name for path in directory.iterdir()] == ["log"]
    guard.check_left()


def test_more_than_a_worker_has_is_noticed(tmp_path: Path, guard: SpaceGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.space.WORKER_BYTES_MAX", 1 * MIB)
    write(tmp_path / "small", 1000)
    guard.check_peak()
    write(tmp_path / "large", 2 * MIB)
    with pytest.raises(AssertionError, match=r"the tests occupy .*large 2.0 MiB"):
        guard.check_peak()
