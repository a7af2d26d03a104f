"""Sockets and forked children.

A child made by fork has a copy of every descriptor. A copy that stays open keeps a connection alive after the parent has closed
it, and a port taken after the parent has died; one that is used mixes two processes' frames in one stream. So the copies are
closed at once in the child, without touching what is shared with the parent: the stream (no shutdown) and the loop's epoll set
(no deregistration).
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class HoldsSocket(Protocol):
    """Something with a socket that must not live on in a child."""

    def drop_copy(self) -> None:
        """In the child: close the descriptor and do nothing else, now and later."""
        ...


_holders: weakref.WeakSet[HoldsSocket] = weakref.WeakSet()


def register(holder: HoldsSocket) -> None:
    """From now on `holder.drop_copy` is called in every child."""
    _holders.add(holder)


def unregister(holder: HoldsSocket) -> None:
    """The socket is closed."""
    _holders.discard(holder)


def _after_fork() -> None:
    for holder in list(_holders):
        holder.drop_copy()
    _holders.clear()


os.register_at_fork(after_in_child=_after_fork)
