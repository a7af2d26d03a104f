"""Requests of callers that block: asked on their own thread, without the event loop.

See `fs3.client.direct_channels`. It is for requests that change nothing, at the service that this client talks to anyway. An
answer is an answer, and so is a refusal that asking again would not change; for anything else the request begins anew on the
loop, which waits, asks again, and knows the other services.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from fs3.base.errors import FS3Error, error
from fs3.base.limits import meta_read_hedge_ns
from fs3.base.status import Retry
from fs3.client.connector import Connector
from fs3.client.direct_channels import DirectChannels, NodeChannels
from fs3.client.meta.owners import directory_of
from fs3.client.meta.selector import MetaSelector
from fs3.model.requests import Request
from fs3.ports.clock import Clock
from fs3.wire.meta_verbs import verb_of

R = TypeVar("R")
_NOWHERE = memoryview(bytearray())


class DirectRequests:
    """The direct requests of one client; may be called from any thread but that of its loop."""

    def __init__(self, nodes: MetaSelector, connector: Connector, clock: Clock, caller: Any) -> None:
        """`caller`: who asks, as it is on the wire. A service that says nothing for as long as the loop would wait before it asks
        another one is left to the loop."""
        self._nodes = nodes
        self._now = clock.now
        self._caller = caller
        self._channels = DirectChannels(connector, clock, meta_read_hedge_ns)

    def with_caller(self, caller: Any) -> DirectRequests:
        """The same, for another one who asks; they are closed together."""
        view = copy.copy(self)
        view._caller = caller
        return view

    def ask(self, request: Request[R]) -> R | None:
        """The answer to a request that changes nothing. None: not done, and nothing is known. Raises FS3Error for a refusal that
        stands, with the path as its filename."""
        channels = self._channels.take(self._now())
        if channels is None:
            return None
        try:
            return self._ask(request, channels)
        finally:
            self._channels.give(channels)

    def _ask(self, request: Request[R], channels: NodeChannels) -> R | None:
        node = self._nodes.current_node(directory_of(request) if self._nodes.has_owners() else None)
        if node is None:
            return None
        verb = verb_of(request)
        message = verb.request_to_pb(request, self._caller, 0)
        try:
            channel = channels.channel(node)
            if channel is None:
                return None
            reply, _ = channel.call(verb.method, message, _NOWHERE)
        except FS3Error as refusal:
            if refusal.code.retry is Retry.NEVER:
                raise error(refusal.code, refusal.strerror or "", request.error_path or None) from None
            self._channels.pause()
            return None
        except (OSError, ValueError):
            self._channels.pause()
            return None
        return verb.answer.from_pb(reply)

    def close(self) -> None:
        """Ask nothing more; a request that waits for its answer is broken off, and is not done."""
        self._channels.close()
