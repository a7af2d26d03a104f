"""The question for what happened to a cluster, and its answer."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.model.event import ClusterEvent
from fs3.wire.pb import mgmtd_pb2 as pb

_FIELDS = ClusterEvent.__struct_fields__


def list_events_to_pb(after: int, limit: int) -> pb.ListEventsRequest:
    """ListEvents: events behind number `after`, the newest `limit` of them (0: as many as the manager likes)."""
    return pb.ListEventsRequest(after=after, limit=limit)


def list_events_from_pb(message: pb.ListEventsRequest) -> tuple[int, int]:
    """(after, limit) of ListEvents."""
    return message.after, message.limit


def events_to_pb(events: Sequence[ClusterEvent]) -> pb.ListEventsReply:
    """The answer."""
    return pb.ListEventsReply(events=[pb.ClusterEvent(**{name: getattr(event, name) for name in _FIELDS}) for event in events])


def events_from_pb(message: pb.ListEventsReply) -> list[ClusterEvent]:
    """The answer."""
    return [ClusterEvent(*(getattr(event, name) for name in _FIELDS)) for event in message.events]
