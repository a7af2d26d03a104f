"""This manager, as the handlers of its requests see it."""

from __future__ import annotations

from typing import Protocol

from fs3.core.membership.events import Event
from fs3.core.membership.manager import Manager
from fs3.ports.rpc import Call


class Primary(Protocol):
    """The one that leads, or stands by."""

    def admit(self, call: Call) -> Manager | None:
        """The machine that a call is for. None: the call is refused, because this manager is not the primary."""
        ...

    def step(self, event: Event) -> None:
        """Step the machine, and carry out what follows."""
        ...
