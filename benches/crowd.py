"""Work done by several forked processes at once, each at its own pace."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, TypeAlias

PATIENCE_S = 120

Work: TypeAlias = Callable[[int], None]
"""Does so many operations."""
Prepare: TypeAlias = Callable[[int], Work]
"""Makes the work of one process, in that process, from the process's number."""


def operations_per_second(processes: int, prepare: Prepare, count: int) -> float:
    """The sum of what so many processes do, `count` operations each; they begin together.

    Raises RuntimeError naming a process that failed.
    """
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(processes)
    pipes: list[Connection] = []
    crowd: list[Any] = []
    try:
        for number in range(processes):
            mine, its = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(its, gate, prepare, number, count), daemon=True)
            process.start()
            its.close()
            pipes.append(mine)
            crowd.append(process)
        return sum(_rate(pipe, number) for number, pipe in enumerate(pipes))
    finally:
        for process in crowd:
            process.kill()
            process.join()


def _rate(pipe: Connection, number: int) -> float:
    if not pipe.poll(PATIENCE_S):
        raise RuntimeError(f"process {number} was not done in {PATIENCE_S} s")
    try:
        answer = pipe.recv()
    except EOFError:
        raise RuntimeError(f"process {number} ended without an answer") from None
    if not isinstance(answer, float):
        raise RuntimeError(f"process {number} failed: {answer}")
    return answer


def _work(pipe: Connection, gate: Barrier, prepare: Prepare, number: int, count: int) -> None:
    try:
        work = prepare(number)
        work(max(1, count // 20))  # warms
        gate.wait(PATIENCE_S)
        began = time.perf_counter()
        work(count)
        pipe.send(count / (time.perf_counter() - began))
    except Exception as why:
        gate.abort()
        pipe.send(f"{type(why).__name__}: {why}")
