"""Driving a coroutine that never waits for anything."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that does not suspend, without an event loop; its exceptions pass through.

    Operations on metadata are such coroutines on an embedded engine. RuntimeError when it does suspend after all: it was
    then handed something that waits, and could not be finished here.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError(f"{getattr(coroutine, '__qualname__', coroutine)} suspended where nothing may wait")
