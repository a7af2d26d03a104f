"""How a file learns that an exception leaves the `with` block it was opened for, so that what was written to it is dropped."""

from __future__ import annotations

import dis
import logging
import sys
from types import FrameType

from fsspec.core import OpenFile

_LEAVES_BY_EXCEPTION = dis.opmap["WITH_EXCEPT_START"]
"""The instruction that calls `__exit__` with an exception."""

log = logging.getLogger("fs3.client")


def block_exception(file: object, caller: FrameType | None) -> type[BaseException] | None:
    """The exception that leaves a `with` block around `file`, where that is why `caller` flushes or closes it.

    A file's own `__exit__` is told. Two others are as well, but just flush and close what they hold: that of fsspec's OpenFile,
    which is found among the callers, and the one of io's text wrappers and buffers. That one is not written in Python and has no
    frame, so the nearest caller is the function with the block, at the instruction that leaves it.

    An exception that is being handled says nothing by itself: files are closed in `except` blocks and in what other objects do at
    the end of their own blocks, for good reasons.
    """
    if caller is not None and caller.f_code.co_code[caller.f_lasti] == _LEAVES_BY_EXCEPTION:
        failure = sys.exception()
        return None if failure is None else type(failure)
    while caller is not None:
        if caller.f_code is OpenFile.__exit__.__code__:
            reason, *_ = caller.f_locals.get("args") or (None,)
            if any(one is file for one in caller.f_locals["self"].fobjects):
                return None if reason is None else type(reason) if isinstance(reason, BaseException) else reason
        caller = caller.f_back
    return None


def say_dropped(path: str, reason: type[BaseException]) -> None:
    """Tell that the rule was applied: the code that handles the exception may not expect the file to be gone."""
    log.warning("%s: an exception (%s) left its `with` block, and what was written to it is dropped", path, reason.__name__)
