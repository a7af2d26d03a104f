"""Missing directories are made by the call that needs them, also while other clients remove them for being empty."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fs3.api.client import Client, parent_of
from fs3.base.errors import NotFound

T = TypeVar("T")

Action = Callable[[], Coroutine[Any, Any, T]]
"""What needs a directory. It is called again after the directory was made."""

parent_attempts_max = 64
"""How often the directory of one name is made again after somebody has removed it."""


async def with_parents(
    client: Client,
    target: str,
    action: Action[T],
    attempts: int = parent_attempts_max,
    *,
    source: str = "",
) -> T:
    """What `action` returns, which needs the directory of `target`: made whenever it is missing.

    `source`: what the action takes; NotFound naming it when it is that which is missing.
    """
    for _ in range(attempts):
        try:
            return await action()
        except NotFound:
            if source:
                await client.lstat(source)
            await client.makedirs(parent_of(target), exist_ok=True)
    return await action()
