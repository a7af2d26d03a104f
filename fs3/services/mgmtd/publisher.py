"""The routing info as it goes out, encoded once for all who ask for the same."""

from __future__ import annotations

from fs3.base.limits import routing_message_bytes_max
from fs3.model.cluster import ManagerInfo, RoutingUpdate
from fs3.model.routing import Delta, Routing
from fs3.services.mgmtd.candidate import Candidate
from fs3.wire.mgmtd import EncodedRouting, routing_to_pb
from fs3.wire.routing_parts import split_routing


class RoutingPublisher:
    """Makes the updates of one cluster. The whole routing info is encoded once per version, because every new client asks for it.

    Contract for the service: `forget` before anything is encoded after the list of managers, or the primary, has changed.
    """

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._full: EncodedRouting | None = None
        self._full_parts: list[EncodedRouting] | None = None
        self._full_version = 0

    def managers(self) -> tuple[ManagerInfo, ...]:
        """Every manager, and which of them is the primary as far as this one knows."""
        record = self._candidate.record
        primary = record.holder.name if record is not None and record.holder is not None else None
        return tuple(ManagerInfo(known.name, known.endpoints, known.name == primary) for known in self._candidate.managers)

    def encode(self, delta: Delta, cluster: bytes) -> EncodedRouting:
        """One update, made anew."""
        return routing_to_pb(RoutingUpdate(delta, cluster, self.managers()))

    def encode_message(self, update: EncodedRouting, routing: Routing) -> EncodedRouting:
        """An update as one message; where it is too large for that, one that leaves a gap: the client then reads it in parts."""
        if update.ByteSize() <= routing_message_bytes_max:
            return update
        return self.encode(Delta.empty(routing.version), routing.cluster)

    def split_full(self, routing: Routing) -> list[EncodedRouting]:
        """All of `routing` in parts, as `encode_full`."""
        if self._full_parts is None or self._full_version != routing.version:
            self._full_parts = split_routing(self.encode_full(routing))
        return self._full_parts

    def encode_full(self, routing: Routing) -> EncodedRouting:
        """All of `routing`, which nothing may change afterwards: the same object goes to every client."""
        if self._full is None or self._full_version != routing.version:
            self._full_parts = None
            self._full = self.encode(routing.to_full_delta(), routing.cluster)
            self._full_version = routing.version
        return self._full

    def forget(self) -> None:
        """What was encoded is not true any more."""
        self._full = None
        self._full_parts = None
