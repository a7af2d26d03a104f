"""The event loop of simulation ring 2: asyncio on virtual time. A seed decides everything, and decides the same every time.

`SimLoop` is an asyncio loop without a selector. Time is an integer number of nanoseconds that stands still while callbacks run
and jumps to the next timer when none is ready. What wants a socket, a thread or a subprocess gets an error, because that would
bring the world in.

**Order.** Ready callbacks run in the order in which they were scheduled, as asyncio promises; code may rely on it (a lane of the
network does) and a loop that permuted them would find mistakes that no real loop can make. What a real system does not promise
is how long things take, so that is where a seed chooses: every frame, every disk access, every commit and every executor job
takes a drawn time, and two that are under way at once finish in either order.

**Processes.** A callback belongs to the `Process` in whose context it was scheduled (a context variable, inherited by tasks and
timers as any other). A process can be paused: its callbacks are put aside until it goes on, as after SIGSTOP. And it can be
killed: its callbacks are never called again, no `finally` runs, nobody is told; as after SIGKILL or a loss of power.

**The same in every process.** Tasks and futures hash by their number, so a set of them has one order everywhere; `TaskGroup`
and `asyncio.wait` iterate over such sets. `fingerprint` mixes the time, the task number and the name of every callback.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import logging
import sys
import warnings
from asyncio import base_events
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import Context, ContextVar
from typing import Any, Final, NoReturn, TypeVar, cast
from zlib import crc32

from fs3.base.prng import Prng
from fs3.base.units import MICROSECOND, MILLISECOND, SECOND

T = TypeVar("T")

TURN_NS: Final = 1 * MICROSECOND
"""What a turn of the loop costs: without it, code that polls with `sleep(0)` would wait for ever for a time that stands still."""
EXECUTOR_NS_MIN: Final = 20 * MICROSECOND
EXECUTOR_NS_MAX: Final = 2 * MILLISECOND
STACK_FRAMES_MAX: Final = 12
"""Of each task in a report."""
_CLOSES_MAX: Final = 100

_MASK = (1 << 64) - 1
_MULTIPLIER = 0x9E3779B97F4A7C15

_process: ContextVar[SimProcess | None] = ContextVar("fs3_sim_process", default=None)


class Deadlock(RuntimeError):
    """Nothing is ready, and no timer is left that could change that. Says where every task waits."""


class SimProcess:
    """What lives and dies together: the tasks, timers and callbacks of one simulated process."""

    def __init__(self, name: str, *, is_of_last_release: bool = False) -> None:
        self.name = name
        self.is_of_last_release = is_of_last_release
        self.is_alive = True
        self.is_running = True
        """Neither killed nor paused."""
        self._deferred: list[asyncio.Handle] = []

    def __repr__(self) -> str:
        state = "runs" if self.is_running else "is paused" if self.is_alive else "is dead"
        return f"<Process {self.name} {state}>"

    def context(self) -> Context:
        """A context in which everything belongs to this process."""
        context = Context()
        context.run(_process.set, self)
        return context


def current_process() -> SimProcess | None:
    """The process whose code is running. None: the simulation's own."""
    return _process.get()


class SimTask(asyncio.Task[T]):
    """A task that knows its number and its process."""

    number: int
    process: SimProcess | None

    def __init__(self, coro: Coroutine[Any, Any, T], *, loop: SimLoop, **options: Any) -> None:
        context: Context | None = options.get("context")
        self.number = loop.next_number()
        self.process = _process.get() if context is None else context.get(_process)
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number


class _SimFuture(asyncio.Future[T]):
    """A future that hashes by its number."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimLoop(base_events.BaseEventLoop):
    """One run. Not reusable: make another for another run. Use `running` to have what it leaves behind cleaned up."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.now = 0
        """Nanoseconds since the run began."""
        self.steps = 0
        """Callbacks that were called."""
        self.fingerprint = 0x243F6A8885A308D3
        self.unhandled_errors: list[str] = []
        """What went wrong where nobody waited for it. A run with any has failed."""
        self.on_step: Callable[[int, str, str], None] | None = None
        """Told (time, process, callback) before each step."""
        self._prng = Prng(seed ^ 0x10095)
        self._timers: list[tuple[int, int, asyncio.TimerHandle]] = []
        self._timers_made = 0
        self._numbers = 0
        self._names: dict[str, int] = {}
        self._killed_tasks: list[SimTask[Any]] = []
        self._is_disposed = False
        self.set_task_factory(_make_task)  # type: ignore[arg-type]
        self.set_exception_handler(_on_unhandled)

    # --- time and scheduling ------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds, exact to the nanosecond for the first hundred days."""
        return self.now / SECOND

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """See `AbstractEventLoop.call_soon`. First come, first served."""
        handle = asyncio.Handle(callback, args, self, context)
        if not self._is_disposed:
            self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """The same: there are no threads. (The finalizer of an async generator comes this way.)"""
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See `AbstractEventLoop.call_later`; `delay` is rounded to nanoseconds."""
        return self._call_at_ns(self.now + max(0, round(delay * SECOND)), callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See `AbstractEventLoop.call_at`."""
        return self._call_at_ns(max(self.now, round(when * SECOND)), callback, args, context)

    def _call_at_ns(
        self, when: int, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when / SECOND, callback, args, self, context)
        if not self._is_disposed:
            self._timers_made += 1
            heapq.heappush(self._timers, (when, self._timers_made, timer))
        return timer

    def _run_once(self) -> None:
        """One turn: jump to the next timer when nothing is ready, then call what is ready."""
        ready = self._ready  # type: ignore[attr-defined]
        timers = self._timers
        if not ready:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise Deadlock(f"nothing is ready at {self.now} ns and no timer is left\n{self.report()}")
            self.now = max(self.now, timers[0][0])
        now = self.now
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            if not timer.cancelled():
                ready.append(timer)
        value = self.fingerprint
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_process)
            if process is not None and not process.is_running:
                if process.is_alive:
                    process._deferred.append(handle)
                continue
            callback = handle._callback
            owner = getattr(callback, "__self__", None)
            code = owner.number if type(owner) is SimTask else self._code(callback)
            value = ((value ^ (now << 20) ^ code) * _MULTIPLIER) & _MASK
            value ^= value >> 29
            self.steps += 1
            if self.on_step is not None:
                self.on_step(now, process.name if process is not None else "", _describe(callback))
            handle._run()
        self.fingerprint = value
        self.now += TURN_NS

    def _code(self, callback: Any) -> int:
        name = _name(callback)
        code = self._names.get(name)
        if code is None:
            code = self._names[name] = crc32(name.encode()) | 1 << 40
        return code

    def next_number(self) -> int:
        """A number for a task or a future."""
        self._numbers += 1
        return self._numbers

    def create_future(self) -> asyncio.Future[Any]:
        """See `AbstractEventLoop.create_future`."""
        future: _SimFuture[Any] = _SimFuture(loop=self)
        future.number = self.next_number()
        return future

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Call `func` here, after as long as a thread might take to get to it."""
        future = cast("asyncio.Future[T]", self.create_future())

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as problem:
                future.set_exception(problem)
            else:
                future.set_result(result)

        self.call_later(self._prng.between(EXECUTOR_NS_MIN, EXECUTOR_NS_MAX) / SECOND, work)
        return future

    # --- processes ----------------------------------------------------------------------------------------------------

    def spawn(self, process: SimProcess, work: Coroutine[Any, Any, T]) -> SimTask[T]:
        """Start a task that belongs to a process."""
        return cast("SimTask[T]", self.create_task(work, context=process.context()))

    def pause(self, process: SimProcess) -> None:
        """As SIGSTOP does."""
        process.is_running = False

    def resume(self, process: SimProcess) -> None:
        """As SIGCONT does: everything that was put aside runs now, in its order."""
        if process.is_alive and not process.is_running:
            process.is_running = True
            aside, process._deferred = process._deferred, []
            self._ready.extend(aside)  # type: ignore[attr-defined]

    def kill(self, process: SimProcess) -> None:
        """As SIGKILL does. Its tasks stay where they are for the rest of the run, so that nothing of them runs by accident."""
        if not process.is_alive:
            return
        process.is_alive = process.is_running = False
        process._deferred.clear()
        for task in self.list_tasks():
            if task.process is process:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                self._killed_tasks.append(task)

    # --- reports ------------------------------------------------------------------------------------------------------

    def list_tasks(self) -> list[SimTask[Any]]:
        """Tasks that have not ended, by number; those of killed processes too."""
        return sorted(cast("set[SimTask[Any]]", asyncio.all_tasks(self)), key=lambda task: task.number)

    def report(self, tasks: Iterable[asyncio.Task[Any]] | None = None) -> str:
        """Where these tasks wait: every one of a living process when none are named."""
        lines = []
        chosen = self.list_tasks() if tasks is None else [task for task in self.list_tasks() if task in set(tasks)]
        for task in chosen:
            if task.process is None or task.process.is_alive:
                owner = f" of {task.process.name}" if task.process is not None else ""
                lines.append(f"task {task.number}{owner}:")
                lines += [f"    {frame}" for frame in _stack(task.get_coro())]
        return "\n".join(lines)

    # --- the end ------------------------------------------------------------------------------------------------------

    def dispose(self) -> None:
        """Let go of everything that is left, quietly: whoever is still waiting waits for nothing."""
        self._is_disposed = True
        for task in [*self.list_tasks(), *self._killed_tasks]:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            for _ in range(_CLOSES_MAX):
                # One that awaits in a `finally` has to be told again.
                try:
                    coroutine.close()
                except RuntimeError:
                    continue
                except BaseException:
                    break
                break
        self._killed_tasks.clear()
        self._timers.clear()
        self._ready.clear()  # type: ignore[attr-defined]
        self.close()

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who could be woken."""


@contextlib.contextmanager
def _sink_for_stragglers() -> Iterator[None]:
    """What a coroutine begins in a `finally` while it is thrown away goes to a loop that runs nothing and goes away itself.

    Without one, asyncio makes a loop for it that lives as long as the process, and keeps everything of the run.
    """
    sink = SimLoop(0)
    sink.dispose()
    asyncio._set_running_loop(sink)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


@contextlib.contextmanager
def open_loop(seed: int) -> Iterator[SimLoop]:
    """A loop for one run. The garbage collector rests meanwhile: what it would finalize, and when, is no part of the seed.

    Afterwards what was left behind is cleared away without a word: whoever made it must not hold on to it.
    """
    loop = SimLoop(seed)
    hook, collecting = sys.unraisablehook, gc.isenabled()
    gc.disable()
    gc.freeze()  # so that only what the run itself leaves behind is looked through in the end
    try:
        yield loop
    finally:
        sys.unraisablehook = lambda _: None
        disabled_level = logging.root.manager.disable
        logging.disable()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with _sink_for_stragglers():
                    loop.dispose()
                    del loop
                    gc.collect()
        finally:
            sys.unraisablehook = hook
            logging.disable(disabled_level)
            gc.unfreeze()
            if collecting:
                gc.enable()


def _make_task(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], **options: Any) -> SimTask[T]:
    return SimTask(coro, loop=cast("SimLoop", loop), **options)


def _on_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, SimLoop)
    if loop._is_disposed:
        return
    problem = context.get("exception")
    where = ""
    if problem is not None and problem.__traceback__ is not None:
        last = problem.__traceback__
        while last.tb_next is not None:
            last = last.tb_next
        code = last.tb_frame.f_code
        where = f" in {code.co_qualname} ({_short(code.co_filename)}:{last.tb_lineno})"
    loop.unhandled_errors.append(f"{context.get('message')}: {type(problem).__name__}: {problem}{where}")


def _name(callback: Any) -> str:
    """Of a function, a method, or what `functools.partial` wraps."""
    while (inner := getattr(callback, "func", None)) is not None:
        callback = inner
    return getattr(callback, "__qualname__", None) or type(callback).__name__


def _describe(callback: Any) -> str:
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, SimTask):
        coroutine: Any = owner.get_coro()
        return f"task {owner.number} {getattr(coroutine, '__qualname__', '')}"
    return _name(callback)


def _stack(coroutine: Any) -> list[str]:
    """What awaits what, outermost first."""
    frames: list[str] = []
    while coroutine is not None and len(frames) < STACK_FRAMES_MAX:
        for kind in ("cr", "ag", "gi"):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                frames.append(f"{_short(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_qualname}")
                coroutine = getattr(coroutine, f"{kind}_await", None) or getattr(coroutine, f"{kind}_yieldfrom", None)
                break
        else:
            frames.append(f"for {type(coroutine).__name__}")
            break
    return frames


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 3)[-3:])


def _forbid(name: str) -> Callable[..., NoReturn]:
    def forbidden(self: SimLoop, *_: object, **__: object) -> NoReturn:
        raise RuntimeError(f"loop.{name} reaches for the world outside; simulated code gets it through its ports")

    return forbidden


for _method in (
    "add_reader", "add_signal_handler", "add_writer", "connect_accepted_socket", "connect_read_pipe", "connect_write_pipe",
    "create_connection", "create_datagram_endpoint", "create_server", "create_unix_connection", "create_unix_server",
    "getaddrinfo", "getnameinfo", "sendfile", "sock_accept", "sock_connect", "sock_recv", "sock_recv_into", "sock_recvfrom",
    "sock_sendall", "sock_sendfile", "sock_sendto", "start_tls", "subprocess_exec", "subprocess_shell",
):  # fmt: skip
    setattr(SimLoop, _method, _forbid(_method))
