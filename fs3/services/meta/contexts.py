"""What each operation is told of the world, for all handlers of one service."""

from __future__ import annotations

from fs3.base.ids import ClientId, TableId
from fs3.client.routing import RoutingSource
from fs3.core.meta.context import NO_TALLY, LayoutDefaults, OpContext
from fs3.core.security.client_owners import owner_of
from fs3.core.security.identity import user_of
from fs3.model.requests import Caller
from fs3.model.routing import Routing
from fs3.model.trace import CallSpan
from fs3.ports.clock import Clock
from fs3.ports.rpc import Call
from fs3.services.meta.config import MetaConfig
from fs3.services.meta.duties.last_seen import LastSeenDuty
from fs3.wire.malformed import malformed
from fs3.wire.meta import caller_from_pb


def caller_of(call: Call) -> Caller:
    """Who asks: in a cluster with security the one that the connection has proved, and else whom the request names. Raises
    InvalidArgument for what identifies no client."""
    caller = caller_from_pb(call.request.caller)
    principal = call.auth.principal
    if principal is None:
        return caller
    user = user_of(principal, caller.user, call.method.rights)
    owner = owner_of(principal)
    return Caller(caller.client, user, caller.request_seq, caller.repeated, caller.open_contents, owner)


class RequestContexts:
    """Makes the context of a request from its caller, the clock, and the routing of this moment."""

    def __init__(self, clock: Clock, routing: RoutingSource, config: MetaConfig, last_seen: LastSeenDuty) -> None:
        self._clock = clock
        self._routing = routing
        self._config = config
        self._last_seen = last_seen
        self.tally = NO_TALLY
        """Whose tally new ids are drawn from."""
        self._defaults: tuple[Routing | None, LayoutDefaults] = (None, LayoutDefaults())
        """Of the routing that was seen last: they are worked out once per version of it, not once per request."""

    def set_config(self, config: MetaConfig) -> None:
        """From now on, new files are made as this says."""
        self._config = config
        self._defaults = (None, LayoutDefaults())

    def context_of(self, caller: Caller, span: CallSpan | None = None, *, mutates: bool) -> OpContext:
        """The context of one request, and its span. A client that asks for a change is alive, which is noted.

        Raises InvalidArgument for a change without a number.
        """
        routing = self._routing.routing
        if not mutates:
            defaults = self._layout_defaults(routing)
            wall, owner = self._clock.wall(), caller.owner
            return OpContext(caller.user, wall, caller.client, 0, routing, defaults, tally=self.tally, span=span, owner=owner)
        seq = caller.request_seq
        if not seq:
            raise malformed("caller.request_seq", "0, but the request changes something and may have to be repeated")
        self._last_seen.record(caller.client)
        defaults = self._layout_defaults(routing)
        contents = frozenset(caller.open_contents)
        wall = self._clock.wall()
        return OpContext(
            caller.user, wall, caller.client, seq, routing, defaults, caller.repeated, contents, self.tally, span, caller.owner
        )

    def record_heartbeat(self, client: ClientId) -> None:
        """The client is alive."""
        self._last_seen.record(client)

    def _layout_defaults(self, routing: Routing) -> LayoutDefaults:
        seen, defaults = self._defaults
        if seen is not routing:
            table = self._config.table or min(routing.tables, default=0)
            defaults = LayoutDefaults(TableId(table), self._config.chunk_size, self._config.stripe, self._config.inline_bytes)
            self._defaults = (routing, defaults)
        return defaults
