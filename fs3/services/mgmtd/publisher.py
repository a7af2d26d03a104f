"""The routing info as it goes out, encoded once for all who ask for the same."""

from __future__ import annotations

from fs3.model.cluster import ManagerInfo, RoutingUpdate
from fs3.model.routing import Delta, Routing
from fs3.services.mgmtd.candidate import Candidate
from fs3.wire.mgmtd import EncodedRouting, routing_to_pb


class RoutingPublisher:
    """Makes the updates of one cluster. The whole routing info is encoded once per version, because every new client asks for it.

    Contract for the service: `forget` before anything is encoded after the list of managers, or the primary, has changed.
    """

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._full: EncodedRouting | None = None
        self._full_version = 0

    def managers(self) -> tuple[ManagerInfo, ...]:
        """Every manager, and which of them is the primary as far as this one knows."""
        record = self._candidate.record
        primary = record.holder.name if record is not None and record.holder is not None else None
        return tuple(ManagerInfo(known.name, known.endpoints, known.name == primary) for known in self._candidate.managers)

    def encode(self, delta: Delta, cluster: bytes) -> EncodedRouting:
        """One update, made anew."""
        return routing_to_pb(RoutingUpdate(delta, cluster, self.managers()))

    def encode_full(self, routing: Routing) -> EncodedRouting:
        """All of `routing`, which nothing may change afterwards: the same object goes to every client."""
        if self._full is None or self._full_version != routing.version:
            self._full = self.encode(routing.to_full_delta(), routing.cluster)
            self._full_version = routing.version
        return self._full

    def forget(self) -> None:
        """What was encoded is not true any more."""
        self._full = None
