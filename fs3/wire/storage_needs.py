"""What the requests of storage.proto need to be allowed, method by method: the one table that clients and storage nodes read.

A request needs a capability with one right for every content and KVCache namespace that it names. It names them by the ids of
their chunks, or a namespace by its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from fs3.base.ids import NAMESPACE_IDS_END
from fs3.core.security.capability import READ, WRITE, Subject, SubjectKind, subject_key, subject_keys
from fs3.model.chunk import FILLS
from fs3.model.method import Method
from fs3.wire.methods import STORAGE


class Need(NamedTuple):
    """What the requests of one method need."""

    right: int
    """`READ` or `WRITE`, to everything that a request names."""
    keys: Callable[[Any], Iterable[int]]
    """What a request names, by `subject_key`. Raises ValueError for what names nothing that there can be."""
    is_of_services: Callable[[Any], bool]
    """A request that only services and administrators may send, whatever is shown."""


def _never(_: Any) -> bool:
    return False


def _always(_: Any) -> bool:
    return True


def _nothing(_: Any) -> tuple[int, ...]:
    return ()


def _chunks(request: Any) -> set[int]:
    return subject_keys(request.chunks)


def _pages(request: Any) -> set[int]:
    return subject_keys(request.pages.chunks)


def _namespace(request: Any) -> tuple[int]:
    number = request.namespace_id
    if not 0 < number < NAMESPACE_IDS_END:
        raise ValueError(f"{number} is no namespace: users ask about one at a time")
    return (subject_key(Subject(SubjectKind.NAMESPACE, number)),)


def _is_repair(request: Any) -> bool:
    return bool(request.repair_version)


_FILLS = [int(kind) for kind in FILLS]


def _is_of_target(request: Any) -> bool:
    kinds = request.kinds
    return bool(request.from_target) or any(kind in kinds for kind in _FILLS)


OF_SERVICES = Need(READ, _nothing, _always)
NO_NEED = Need(READ, _nothing, _never)

NEEDS: Mapping[Method, Need] = {
    STORAGE.Read: Need(READ, _chunks, _is_repair),
    STORAGE.Update: Need(WRITE, _chunks, _is_of_target),
    STORAGE.Find: Need(READ, _chunks, _never),
    STORAGE.Contains: Need(READ, _chunks, _never),
    STORAGE.ReportBad: Need(READ, _chunks, _never),
    STORAGE.Lease: Need(READ, _pages, _never),
    STORAGE.TouchPages: Need(READ, _pages, _never),
    STORAGE.Pin: Need(WRITE, _pages, _never),
    STORAGE.CacheUsage: Need(READ, _namespace, _never),
    STORAGE.CacheEvents: Need(READ, _namespace, _never),
    STORAGE.ReportLookups: Need(READ, _namespace, _never),
    # A lease is ended by a number that only its holder knows.
    STORAGE.Release: NO_NEED,
    STORAGE.GetSpace: NO_NEED,
    STORAGE.Push: OF_SERVICES,
    STORAGE.ListChunks: OF_SERVICES,
    STORAGE.CompareRanges: OF_SERVICES,
    STORAGE.MergeChannels: OF_SERVICES,
    STORAGE.FinishResync: OF_SERVICES,
    STORAGE.ShareTouches: OF_SERVICES,
    STORAGE.Scrub: OF_SERVICES,
    STORAGE.Resync: OF_SERVICES,
    STORAGE.AcceptLoss: OF_SERVICES,
    # What is read from files is not asked for: capabilities could neither be shown nor revoked.
    STORAGE.LocateBlocks: OF_SERVICES,
}
assert set(NEEDS) == set(STORAGE.methods), "it is not said what a method of the storage service needs"
