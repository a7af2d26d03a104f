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


class SocketOwner(Protocol):
    """Something with a socket that must not live on in a child."""

    def close_in_child(self) -> None:
        """In the child: close the descriptor and do nothing else, now and later."""
        ...


_owners: weakref.WeakSet[SocketOwner] = weakref.WeakSet()


def register(holder: SocketOwner) -> None:
    """From now on `holder.close_in_child` is called in every child."""
    _owners.add(holder)


def unregister(holder: SocketOwner) -> None:
    """The socket is closed."""
    _owners.discard(holder)


def _after_fork() -> None:
    for holder in list(_owners):
        holder.close_in_child()
    _owners.clear()


os.register_at_fork(after_in_child=_after_fork)
