"""Requests for the routing info: once, in parts, and as a stream."""

from __future__ import annotations

from fs3.base.status import Code
from fs3.core.membership.manager import Manager
from fs3.model.cluster import GetRouting
from fs3.ports.rpc import Bindings, Call
from fs3.services.mgmtd.primary import Primary
from fs3.services.mgmtd.publisher import RoutingPublisher
from fs3.services.mgmtd.watchers import Watchers
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import EncodedRouting
from fs3.wire.mgmtd_queries import get_routing_from_pb
from fs3.wire.routing_parts import split_routing


class RoutingHandlers:
    """Answers with what is published."""

    def __init__(self, primary: Primary, publisher: RoutingPublisher, watchers: Watchers) -> None:
        self._primary = primary
        self._publisher = publisher
        self._watchers = watchers

    def bindings(self) -> Bindings:
        """One handler for every method of the group."""
        return {
            MGMTD.GetRouting: self._get_routing,
            MGMTD.ReadRouting: self._read_routing,
            MGMTD.WatchRouting: self._watch_routing,
        }

    def encode_message(self, manager: Manager, request: GetRouting) -> EncodedRouting:
        """What leads a client to the published routing info, as one message; see `RoutingPublisher.encode_message`."""
        return self._publisher.encode_message(self._encode(manager, request), manager.published)

    def _get_routing(self, call: Call) -> None:
        manager = self._primary.admit(call)
        if manager is not None:
            call.reply(self.encode_message(manager, get_routing_from_pb(call.request)))

    def _read_routing(self, call: Call) -> None:
        manager = self._primary.admit(call)
        if manager is not None:
            for part in self._encode_parts(manager, get_routing_from_pb(call.request)):
                if not call.send(part):
                    call.fail(Code.BUSY, "the client does not take the routing info")
                    return
            call.reply(None)

    def _watch_routing(self, call: Call) -> None:
        manager = self._primary.admit(call)
        if manager is not None:
            request = get_routing_from_pb(call.request)
            first = self._encode_parts(manager, request) if request.in_parts else [self.encode_message(manager, request)]
            self._watchers.add(call, first, in_parts=request.in_parts)

    def _encode_parts(self, manager: Manager, request: GetRouting) -> list[EncodedRouting]:
        update = self._encode(manager, request)
        return split_routing(update) if update.from_version else self._publisher.split_full(manager.published)

    def _encode(self, manager: Manager, request: GetRouting) -> EncodedRouting:
        """What leads a client to the published routing info: a delta when there is one, else the whole."""
        delta = manager.since(request.known_version if request.cluster in (b"", manager.cluster) else 0)
        if delta.from_version:
            return self._publisher.encode(delta, manager.cluster)
        return self._publisher.encode_full(manager.published)
