"""When processes are started again, and what is written down of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.cli.directory import ClusterDirectory, acquire_process_lock
from fs3.cli.supervision import (
    RestartPolicy,
    RestartRecord,
    SupervisedProcesses,
    describe_restarts,
    restart_quick_ns,
    restart_wait_first_ns,
    restart_wait_ns_max,
    restarts_quick_max,
)


def test_a_process_that_fails_at_once_is_given_up_after_longer_and_longer_waits() -> None:
    policy = RestartPolicy()
    waits = [policy.next_wait_ns(0) for _ in range(restarts_quick_max + 1)]
    assert waits == [min(restart_wait_first_ns << n, restart_wait_ns_max) for n in range(restarts_quick_max)] + [None]


def test_a_process_that_has_run_for_a_while_is_always_started_again_at_once() -> None:
    policy = RestartPolicy()
    policy.next_wait_ns(0)
    assert {policy.next_wait_ns(restart_quick_ns) for _ in range(3 * restarts_quick_max)} == {restart_wait_first_ns}


def test_who_is_to_run(tmp_path: Path) -> None:
    supervised = SupervisedProcesses(ClusterDirectory(tmp_path))
    assert supervised.names() == []
    for name in ("storage-1", "meta"):
        supervised.add(name)
        supervised.save(name, RestartRecord(3, 1e9, "it broke"))
    assert supervised.names() == ["meta", "storage-1"]
    supervised.remove("meta")
    supervised.remove("meta")
    assert supervised.names() == ["storage-1"]
    assert not supervised.has("meta")
    assert supervised.record("meta").reason == "it broke", "who was stopped is remembered until it is started"
    supervised.add("meta")
    assert supervised.record("meta") == RestartRecord()


def test_a_record_that_is_none(tmp_path: Path) -> None:
    supervised = SupervisedProcesses(ClusterDirectory(tmp_path))
    supervised.add("meta")
    (tmp_path / "supervised" / "meta.json").write_text('{"restarts": "many"}')
    assert supervised.record("meta") == RestartRecord()


def test_in_words() -> None:
    assert describe_restarts(RestartRecord()) == ""
    assert describe_restarts(RestartRecord(1, 1e9, "why")).startswith("was started again once; it ended last at 2001-09-")
    assert describe_restarts(RestartRecord(5, 1e9, "why", given_up=True)).startswith(
        "was started again 5 times, and is given up: `fs3 up` starts it; it ended last at "
    )
    assert describe_restarts(RestartRecord(0, 1e9, "why")).startswith("has ended; it ended last at ")


def test_looking_at_a_lock_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    """And two who look do not take each other for the process."""
    directory = ClusterDirectory(tmp_path)
    directory.lock_path("meta").parent.mkdir()
    directory.lock_path("meta").write_text("1")
    stop = threading.Event()
    seen: set[int | None] = set()

    def look() -> None:
        while not stop.is_set():
            seen.add(directory.running_pid("meta"))

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(200):
            seen.add(directory.running_pid("meta"))
        assert seen == {None}
        acquire_process_lock(directory.lock_path("meta"))
    finally:
        stop.set()
        for looker in lookers:
            looker.join()
    with pytest.raises(FS3Error, match="already served by pid"):
        acquire_process_lock(directory.lock_path("meta"))
