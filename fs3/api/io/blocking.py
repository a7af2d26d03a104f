"""Coroutines run from threads that are not the event loop's."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any, TypeVar

from fs3.base.errors import error
from fs3.base.status import Code

T = TypeVar("T")

INTERRUPT_PATIENCE_S = 5.0
"""How long an interrupted call waits for its coroutine to end."""


def run_on(loop: asyncio.AbstractEventLoop | None, coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that runs on the loop of another thread.

    When the waiting is interrupted (Ctrl-C), the coroutine is cancelled and its end waited for, so that it does not touch the
    caller's buffers any more. RuntimeError on that loop's own thread, which would wait for itself, when it is closed, and when
    there is none.
    """
    if loop is None:
        coroutine.close()
        raise RuntimeError("this instance was made with asynchronous=True: use its coroutines")
    try:
        refuse_own_thread(loop)
    except RuntimeError:
        coroutine.close()
        raise
    result: concurrent.futures.Future[T] = concurrent.futures.Future()
    started: list[asyncio.Task[T]] = []

    def begin() -> None:
        task = loop.create_task(coroutine)
        started.append(task)
        task.add_done_callback(finish)

    def finish(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            result.set_exception(error(Code.CANCELLED, "the operation was cancelled"))
        elif (failure := task.exception()) is not None:
            result.set_exception(failure)
        else:
            result.set_result(task.result())

    try:
        loop.call_soon_threadsafe(begin)
    except RuntimeError:
        coroutine.close()
        raise
    try:
        return result.result()
    except BaseException:
        if not result.done():
            loop.call_soon_threadsafe(lambda: started[0].cancel())  # after `begin`, in the order of the calls
            concurrent.futures.wait((result,), INTERRUPT_PATIENCE_S)
        raise


def start_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Begin a coroutine on a loop of any thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop)


def refuse_own_thread(loop: asyncio.AbstractEventLoop) -> None:
    """RuntimeError on the loop's own thread, where what blocks would wait for itself."""
    if is_current_loop(loop):
        raise RuntimeError("a blocking call was made on the event loop's own thread; use the coroutine instead")


def is_current_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """The caller runs on this loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
