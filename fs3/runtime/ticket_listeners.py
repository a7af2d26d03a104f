"""Connections that show a ticket, and are to show the next one when there is one: what all sources of tickets share."""

from __future__ import annotations

from fs3.ports.security import EndSubscription, OnTicket


class TicketListeners:
    """Callbacks, in the order in which they came."""

    def __init__(self) -> None:
        self._callbacks: dict[int, OnTicket] = {}
        self._last = 0

    def subscribe(self, on_ticket: OnTicket) -> EndSubscription:
        """See `TicketSource`."""
        self._last += 1
        number = self._last
        self._callbacks[number] = on_ticket

        def end() -> None:
            self._callbacks.pop(number, None)

        return end

    def tell(self) -> None:
        """There is another ticket."""
        for callback in list(self._callbacks.values()):
            callback()
