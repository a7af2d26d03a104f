"""Written files that are never closed: their last reference goes away, or the program ends.

Builtin files are closed then, with what was written, and code relies on it: `json.dump(x, fs.open(path, "w"))`. So are these.
Only a program that dies of an exception leaves no half files behind: what it had open is dropped, and said."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import sys
import warnings
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from fs3.api.fsspec.base import FS3Base
from fs3.api.fsspec.layers import Layers
from fs3.api.io.blocking import is_current_loop, start_on
from fs3.runtime.exit import ExitStage, run_at_exit
from fs3.runtime.serving import is_serving_thread

UNCLOSED_PATIENCE_S = 60.0
"""How long the thread that drops a file waits for it to be closed, and the end of a program for all that are open. It goes on
without an answer: it may hold what others wait for."""

log = logging.getLogger("fs3.client")


Flush = Callable[[], object]
"""Has what lies around a file write into it what it holds still."""


class Unclosed(Protocol):
    """The outermost object of a file that is written."""

    fs: FS3Base

    def close_unclosed(self, flush: Flush | None = None) -> None:
        """Its last reference is gone, or the program ends."""
        ...


_open: weakref.WeakValueDictionary[int, Unclosed] = weakref.WeakValueDictionary()
"""By their ids: files of fsspec compare and hash by what they have in them."""


def watch(file: Unclosed) -> None:
    """A file that is closed at the end of the program, if it is there still."""
    _open[id(file)] = file


def unwatch(file: Unclosed) -> None:
    """Something around it, or its own end, takes care of that."""
    _open.pop(id(file), None)


def close_dropped(references: int, file: Unclosed) -> None:
    """For `__del__`: the program uses the file no more. `references`: what `sys.getrefcount(self)` says there, before
    `file` is passed, which is one more.

    Where others refer to it still, all of them are garbage that a collection has found, and what lies around the file may be
    among them. A collection finalizes what it finds in the order it was made, so the file comes first: it is closed when the
    collection is over, and what lies around it has written what it held."""
    if references <= _references_alone:
        file.close_unclosed()
        return
    _collected.append(file)
    if _on_collection not in gc.callbacks:
        gc.callbacks.append(_on_collection)


_collected: list[Unclosed] = []


def _on_collection(phase: str, _: object) -> None:
    while phase == "stop" and _collected:
        _collected.pop().close_unclosed()


class _Alone:
    """Sees how many references there are to an object in its `__del__` when it was the last one that went away."""

    count = 0

    def __del__(self) -> None:
        _Alone.count = sys.getrefcount(self)


_Alone()
_references_alone = _Alone.count


def is_dying() -> bool:
    """The program ends by an unhandled exception."""
    return _ending and not hasattr(sys, "ps1") and getattr(sys, "last_value", None) is not None


def say(path: str, what: str, depth: int = 3) -> None:
    """To the log, which unlike a ResourceWarning is shown by default, and as one. `depth`: stack frames up to whom it is
    about."""
    log.warning("%s was not closed: %s", path, what)
    warnings.warn(f"{path!r} was not closed: {what}", ResourceWarning, stacklevel=depth + 1)


def say_lost(path: str, failure: BaseException) -> None:
    """To the log: a file that the program left open could not be closed here either, and there is no caller to raise it to."""
    log.error("%s was not closed, and what was written to it is lost: %s", path, failure)


def finish(loop: asyncio.AbstractEventLoop, path: str, work: Coroutine[Any, Any, None]) -> None:
    """`start`, and wait until it is over; but not on the loop's own thread or one that has to serve it, nor at the end of the
    program, which waits for all files together."""
    ending = start(loop, path, work)
    if ending is None or _ending or is_current_loop(loop) or is_serving_thread():
        return
    try:
        ending.result(UNCLOSED_PATIENCE_S)
    except TimeoutError:
        log.error("%s was not closed: that takes longer than %d s now", path, UNCLOSED_PATIENCE_S)


def start(loop: asyncio.AbstractEventLoop, path: str, work: Coroutine[Any, Any, None]) -> concurrent.futures.Future[None] | None:
    """Run what closes a file on its loop; what goes wrong is logged. None: there is no such loop any more."""
    logged = _logged(path, work)
    try:
        if not loop.is_running():
            raise RuntimeError
        ending = start_on(loop, logged)
    except RuntimeError:
        logged.close()
        work.close()
        log.error("%s was not closed, and its event loop is gone: what was written to it is dropped", path)
        return None
    _endings.add(ending)

    def on_end(_: object) -> None:
        _endings.discard(ending)
        if ending.cancelled():
            work.close()  # where it had not begun
            log.error("%s was not closed, and its event loop has ended: what was written to it is dropped", path)

    ending.add_done_callback(on_end)
    return ending


async def _logged(path: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as failure:
        say_lost(path, failure)


_endings: set[concurrent.futures.Future[None]] = set()
"""Under way."""
_ending = False


def _close_open() -> None:
    global _ending
    _ending = True
    files = list(_open.values())
    layers = Layers() if files and not is_dying() else None
    for file in files:
        file.close_unclosed(None if layers is None else partial(layers.close_around, file))
    late = concurrent.futures.wait(list(_endings), UNCLOSED_PATIENCE_S).not_done
    if late:
        log.error("%d files were not closed: that takes longer than %g s now", len(late), UNCLOSED_PATIENCE_S)


run_at_exit(_close_open, ExitStage.FILES)
