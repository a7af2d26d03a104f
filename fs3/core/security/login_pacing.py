"""When a client logs in again whose ticket is refused.

A fresh ticket is refused where its key is not known yet, or when its user was revoked: then logging in at once is right, and the
next ticket is taken. A server that refuses that one as well has something else, and its clients would log in back to back, all of
them, as long as it has. So each further ticket that a server refuses is waited for twice as long as the one before.

Pure: time and chance come in. Servers are paced by themselves: one that refuses everything takes nothing from the others, whose
first refusal is answered at once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fs3.base.backoff import Backoff
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND

pause_first_ns: Final = 200 * MILLISECOND
"""About how long the second ticket in a row is waited for that one server has refused."""
pause_max_ns: Final = 10 * SECOND
"""No ticket is waited for longer."""
refusals_apart_ns: Final = 2 * pause_max_ns
"""A refusal so long after the one before is the first one again."""
servers_max: Final = 256
"""Servers that are paced by themselves, those that have refused last."""


class _Server:
    """What is known of one that has refused."""

    __slots__ = ("due_at", "refused_at", "ticket", "waits")

    def __init__(self) -> None:
        self.waits = Backoff(pause_first_ns, pause_max_ns)
        self.ticket = b""
        """That it refused last."""
        self.due_at = 0
        """When the login is due that this asks for."""
        self.refused_at = 0


class LoginPacing:
    """Of one client."""

    def __init__(self, prng: Prng) -> None:
        """`prng`: of this client alone, so that those of one server do not come in step."""
        self._prng = prng
        self._servers: OrderedDict[str, _Server] = OrderedDict()
        """By where they are, the one that has refused last behind."""

    def on_refused(self, server: str, ticket: bytes, now: int) -> int:
        """A server has refused a ticket. When the login is due that replaces it: `now` or later, never more than `pause_max_ns`.
        However often it refuses the same ticket, that is one refusal."""
        found = self._servers.get(server)
        if found is None or now - found.refused_at >= refusals_apart_ns:
            found = self._servers[server] = _Server()
            found.due_at = now
        elif found.ticket != ticket:
            wait = found.waits.next_ns()
            found.due_at = now + self._prng.between(wait // 2, wait)
        found.ticket, found.refused_at = ticket, now
        self._servers.move_to_end(server)
        if len(self._servers) > servers_max:
            self._servers.popitem(last=False)
        return max(now, found.due_at)
