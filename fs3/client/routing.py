"""Where a client or a service gets its routing info from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fs3.model.routing import Routing


class RoutingSource(Protocol):
    """The newest routing info this process has, and a way to ask for newer. `MgmtdClient` is the one of production."""

    @property
    def routing(self) -> Routing:
        """The newest snapshot; never blocks. Version 0 before the first one has arrived."""
        ...

    async def refresh(self, newer_than: int) -> Routing:
        """The newest snapshot after trying to get one newer than this version.

        Returns at once when there is one, else after one pull that all waiters share. It does not raise when the manager
        cannot be reached or has nothing newer: the caller looks at the version, and its own deadline decides how long it goes on.
        """
        ...

    def on_change(self, callback: Callable[[Routing], None]) -> None:
        """Call back with every newer snapshot, on the loop, after `routing` shows it."""
        ...


class StaticRouting(RoutingSource):
    """A routing source that holds what it is given: for tests, and for tools that work on a saved snapshot."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._callbacks: list[Callable[[Routing], None]] = []

    @property
    def routing(self) -> Routing:
        """The snapshot last given."""
        return self._routing

    async def refresh(self, newer_than: int) -> Routing:
        """The snapshot last given, whatever its version."""
        return self._routing

    def on_change(self, callback: Callable[[Routing], None]) -> None:
        """Call back at every `set`."""
        self._callbacks.append(callback)

    def set(self, routing: Routing) -> None:
        """Replace the snapshot and call back."""
        self._routing = routing
        for callback in self._callbacks:
            callback(routing)
