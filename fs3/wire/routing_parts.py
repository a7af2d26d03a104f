"""Routing info and status that are larger than a message: cut into parts that, merged, are the whole again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fs3.base.limits import routing_part_bytes
from fs3.wire.mgmtd import EncodedRouting
from fs3.wire.pb import mgmtd_pb2 as pb

EncodedStatus = pb.GetStatusReply
"""A status as it goes out, or the parts of one that have arrived."""

_LARGE = ("nodes", "chains", "tables")
"""What an update may have much of."""

_STATUS_TARGETS = 2048
"""Targets in one part of a status."""


def split_routing(update: EncodedRouting) -> list[EncodedRouting]:
    """An update in parts, each but the last marked so; itself when it is small."""
    if update.ByteSize() <= routing_part_bytes:
        return [update]
    part = EncodedRouting()
    for name in update.DESCRIPTOR.fields_by_name:
        if name not in _LARGE:
            _copy(update, part, name)
    parts, size = [part], part.ByteSize()
    for name in _LARGE:
        for item in getattr(update, name):
            size += item.ByteSize() + 4
            if size > routing_part_bytes:
                part = EncodedRouting(cluster_id=update.cluster_id, version=update.version, from_version=update.from_version)
                parts.append(part)
                size = part.ByteSize() + item.ByteSize()
            getattr(part, name).append(item)
    for part in parts[:-1]:
        part.more = True
    return parts


def _copy(source: Any, into: Any, name: str) -> None:
    """One field of a message; what a repeated one has is appended."""
    value = getattr(source, name)
    if hasattr(value, "extend"):
        getattr(into, name).extend(value)
    else:
        setattr(into, name, value)


class RoutingParts:
    """Puts the parts of updates together as they arrive, in their order."""

    def __init__(self) -> None:
        self._begun: EncodedRouting | None = None

    def add(self, part: EncodedRouting) -> EncodedRouting | None:
        """The update that this part completes; None: more parts of it are to come."""
        if self._begun is None:
            if not part.more:
                return part
            self._begun = EncodedRouting()
        self._begun.MergeFrom(part)
        if part.more:
            return None
        update, self._begun = self._begun, None
        return update


def split_status(status: EncodedStatus) -> Iterator[EncodedStatus]:
    """The answer to GetStatus in parts."""
    first = EncodedStatus()
    for name in status.DESCRIPTOR.fields_by_name:
        if name not in ("routing", "targets"):
            _copy(status, first, name)
    yield first
    for part in split_routing(status.routing):
        yield EncodedStatus(routing=part)
    for begin in range(0, len(status.targets), _STATUS_TARGETS):
        yield EncodedStatus(targets=status.targets[begin : begin + _STATUS_TARGETS])
