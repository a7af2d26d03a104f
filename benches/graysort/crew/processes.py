"""Worker processes, and a coordinator that does not hang when one of them does.

Processes are spawned, not forked: a fork would copy the locks, threads and connections of whatever
file system the caller has open. Each worker has one pipe. Down it go tasks, one at a time; up it
come `OnCapacity`, then for each task any number of `EndpointsChanged` and one `OnDone` or `LeaseIOFailed`.

    what happens             the other side learns by       and
    a task raises            `LeaseIOFailed`                       raises StageError
    a worker dies            end of file on the pipe        raises StageError with the exit code
    a worker hangs           silence > stall_seconds_max    raises StageError
    the coordinator dies     end of file on the pipe        exits

Every StageError stops the whole crew first.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeAlias, cast

from ..errors import StageError
from ..plan import GraySortPlan
from ..workspace import Workspace
from .base import Crew, Progress, ResultT, Task, describe

_STOP_SECONDS_MAX: Final = 5.0


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has its directories open."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The task at hand has transferred so much more."""

    read_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """The task at hand is finished."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The task at hand, or the start of the worker, raised."""

    reason: str
    traceback: str


Message: TypeAlias = Ready | Moved | Done | Failed


def serve(pipe: Connection, plan: GraySortPlan) -> None:
    """Body of a worker process: run tasks until the pipe closes or one of them fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; one decides
    try:
        workspace = Workspace(plan, lambda read, written: pipe.send(Moved(read, written)))
        pipe.send(Ready())
        while (task := _next_task(pipe)) is not None:
            pipe.send(Done(task.run(workspace)))
    except Exception as error:
        with suppress(OSError):  # the coordinator may be what failed
            pipe.send(Failed(describe(error), traceback.format_exc()))


def _next_task(pipe: Connection) -> Task[Any] | None:
    try:
        return cast("Task[Any]", pipe.recv())
    except EOFError:
        return None


@dataclass(slots=True, eq=False)
class _Worker:
    """The coordinator's view of a worker."""

    process: BaseProcess
    pipe: Connection
    part: str
    """What it is doing, for errors."""
    heard_at: float
    """Monotonic seconds of its last message, or of its task if that came later."""
    task_index: int = -1


class ProcessCrew(Crew):
    """One spawned process per worker, kept through all stages of a run."""

    def __init__(self, plan: GraySortPlan, progress: Progress | None) -> None:
        super().__init__(plan, progress)
        Workspace(plan)  # a URL that cannot be opened fails here: once, and as a PlanError
        self._workers: list[_Worker] = []
        try:
            for number in range(plan.workers):
                self._workers.append(_spawn(number, plan))
            starting = set(self._workers)
            while starting:
                starting -= {worker for worker, _ in self._receive(starting)}
        except BaseException:
            self._terminate()
            raise

    def __exit__(self, *exc_info: object) -> None:
        for worker in self._workers:
            worker.pipe.close()
        deadline = time.monotonic() + _STOP_SECONDS_MAX
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        self._terminate()

    def _run(self, tasks: Sequence[Task[ResultT]]) -> list[ResultT]:
        if not self._workers:
            raise RuntimeError("this crew has been stopped: open another")
        results: dict[int, ResultT] = {}
        waiting = deque(enumerate(tasks))
        idle = deque(self._workers)
        busy: set[_Worker] = set()
        try:
            while len(results) < len(tasks):
                while idle and waiting:
                    worker = idle.popleft()
                    busy.add(worker)
                    self._hand(worker, *waiting.popleft())
                for worker, message in self._receive(busy):
                    if isinstance(message, Moved):
                        self._moved(message.read_bytes, message.written_bytes)
                    elif isinstance(message, Done):
                        results[worker.task_index] = cast("ResultT", message.result)
                        busy.remove(worker)
                        idle.append(worker)
        except BaseException:
            self._terminate()
            raise
        return [results[index] for index in range(len(tasks))]

    def _hand(self, worker: _Worker, index: int, task: Task[object]) -> None:
        worker.task_index, worker.part, worker.heard_at = index, task.part, time.monotonic()
        try:
            worker.pipe.send(task)
        except OSError:
            raise self._death_of(worker) from None

    def _receive(self, workers: Collection[_Worker]) -> list[tuple[_Worker, Message]]:
        """Wait for messages of `workers`, at most one of each; `StageError` on bad news."""
        limit = self.plan.stall_seconds_max
        owners = {worker.pipe: worker for worker in workers}
        deadline = min(worker.heard_at for worker in workers) + limit
        received: list[tuple[_Worker, Message]] = []
        for pipe in wait(list(owners), timeout=max(0.0, deadline - time.monotonic())):
            worker = owners[cast("Connection", pipe)]
            try:
                message: Message = worker.pipe.recv()
            except (EOFError, OSError):
                raise self._death_of(worker) from None
            if isinstance(message, Failed):
                error = StageError(self._stage, worker.part, message.reason)
                error.add_note(f"On the worker:\n{message.traceback}")
                raise error
            worker.heard_at = time.monotonic()
            received.append((worker, message))
        for worker in workers:
            if time.monotonic() - worker.heard_at > limit:
                raise StageError(self._stage, worker.part, f"no progress for {limit:g} s")
        return received

    def _death_of(self, worker: _Worker) -> StageError:
        worker.process.join(_STOP_SECONDS_MAX)
        code = worker.process.exitcode
        if code is None:
            how = "has closed its pipe"
        elif code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"has died with exit code {code}"
        return StageError(self._stage, worker.part, f"{worker.process.name} {how}")

    def _terminate(self) -> None:
        """End all workers, whatever they are doing."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS_MAX
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join(_STOP_SECONDS_MAX)
        self._workers = []


def _spawn(number: int, plan: GraySortPlan) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    name = f"graysort worker {number}"
    process = context.Process(target=serve, args=(theirs, plan), name=name, daemon=True)
    process.start()
    theirs.close()  # so that the death of the worker is the end of the file
    return _Worker(process, ours, part=name, heard_at=time.monotonic())
