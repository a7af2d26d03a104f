"""Short turns on a processor: asked for, kept by later threads, refused where something else was chosen."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import Connection

import pytest

from fs3.drivers.os import short_turns
from fs3.drivers.os.short_turns import current_turn_ns, take_short_turns, turn_ns


def _in_a_process_of_its_own(pipe: Connection, *, is_batch: bool) -> None:
    if is_batch:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    before = current_turn_ns()
    is_taken = take_short_turns()
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(current_turn_ns()))
    thread.start()
    thread.join()
    pipe.send((is_taken, before, current_turn_ns(), later[0], os.getpriority(os.PRIO_PROCESS, 0)))


def asked(*, is_batch: bool = False) -> tuple[bool, int, int, int, int]:
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_in_a_process_of_its_own, args=(its,), kwargs={"is_batch": is_batch})
    process.start()
    its.close()
    told: tuple[bool, int, int, int, int] = mine.recv()
    process.join()
    return told


def test_they_are_asked_for_and_the_rest_stays() -> None:
    is_taken, before, after, later, nice = asked()
    assert nice == os.getpriority(os.PRIO_PROCESS, 0)
    if is_taken and before:  # a system that says how long turns are has changed them
        assert after == later == turn_ns
    else:
        assert after == before


def test_another_class_of_scheduling_is_left_as_it_is() -> None:
    is_taken, before, after, _, _ = asked(is_batch=True)
    assert not is_taken
    assert after == before


def test_a_system_that_does_not_know_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_turns, "_SET", 0)
    assert not take_short_turns()
    monkeypatch.setattr(short_turns, "_GET", 0)
    assert current_turn_ns() == 0
