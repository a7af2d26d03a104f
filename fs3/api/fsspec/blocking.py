"""The blocking methods of the filesystem, each beside the coroutine it runs.

fsspec makes such methods too, out of the same coroutines. Its own raise a TimeoutError without errno, name or words in the place
of every error that is a TimeoutError, and leave the coroutine running when the caller is interrupted.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fsspec.spec import AbstractFileSystem

from fs3.api.io.blocking import run_on
from fs3.base.errors import error
from fs3.base.status import Code

Method = Callable[..., Any]


def blocking(coroutine: Method) -> Method:
    """The blocking twin of a coroutine method. With `timeout`, in seconds, it is cancelled after so long: DeadlineExceeded."""
    name = coroutine.__name__

    @functools.wraps(coroutine)
    def call(self: Any, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        work = getattr(self, name)(*args, **kwargs)
        return run_on(self.loop, _run_within(timeout, work) if timeout else work)

    call.__name__ = name.removeprefix("_")
    return call


def add_blocking_twins(kind: type[AbstractFileSystem]) -> None:
    """Give a class those of all the coroutines that fsspec makes some of, unless it has written its own."""
    for name in dir(kind):
        twin = name[1:]
        if not name.startswith("_") or name.startswith("__") or not hasattr(AbstractFileSystem, twin):
            continue
        if inspect.iscoroutinefunction(getattr(kind, name)) and getattr(kind, twin) is getattr(AbstractFileSystem, twin):
            setattr(kind, twin, blocking(getattr(kind, name)))


async def _run_within(seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise error(Code.DEADLINE, f"not done within {seconds:g} s") from None
        raise
