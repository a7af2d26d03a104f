"""What is asked of nodes that have KVCache pages, and what they are told: leases, pins, touches, usage, what lookups found, and
events, to and from protobuf.

Questions about pages travel as those for their presence do (`fs3.wire.storage_presence`). What arrives is checked here, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fs3.base.errors import error
from fs3.base.ids import CHUNK_ID_BYTES, NAMESPACE_IDS_END, ChainId, ChunkId
from fs3.base.limits import (
    keys_per_find_max,
    page_event_wait_ms_max,
    page_events_per_reply_max,
    page_lease_ms_max,
    pin_ms_max,
    reported_lookups_max,
    usage_rows_max,
)
from fs3.base.status import Code
from fs3.core.kvcache.events import Cursor, EventBatch, PageChange, PageEvent
from fs3.model.page_usage import CacheCounters, LookupCounters, NamespaceUsage, PinKind, UsagePage
from fs3.wire.malformed import malformed
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import split_ids
from fs3.wire.storage_presence import (
    ContainsColumns,
    Presence,
    contains_reply_from_pb,
    contains_reply_to_pb,
    contains_request_from_pb,
    contains_request_to_pb,
)

page_event_epoch_bytes_max = 64
_CHANGES = {int(change): change for change in PageChange}
_KINDS = {int(kind): kind for kind in PinKind}
_COUNTERS = CacheCounters.__struct_fields__
_LOOKUPS = LookupCounters.__struct_fields__


class LeaseAnswer(NamedTuple):
    """What a head says to a lookup with a lease."""

    presence: Presence
    leased: bool
    """The pages that are there are leased."""


class EventsQuestion(NamedTuple):
    """Which events a listener wants."""

    namespace_id: int
    cursors: dict[ChainId, Cursor]
    wait_ms: int


class ChainAnswer(NamedTuple):
    """What a node says of the events of one chain."""

    code: Code
    """OK, or why they are not told here."""
    batch: EventBatch


# --- leases ----------------------------------------------------------------------------------------------------------


def lease_request_to_pb(columns: ContainsColumns, lease_id: int, lease_ms: int) -> pb.LeaseRequest:
    """The message of a lookup with a lease."""
    return pb.LeaseRequest(pages=contains_request_to_pb(columns), lease_id=lease_id, lease_ms=lease_ms)


def lease_request_from_pb(request: pb.LeaseRequest) -> ContainsColumns:
    """The pages of a request. Raises INVALID naming the column, also for a duration that no lease may have."""
    if not 1 <= request.lease_ms <= page_lease_ms_max:
        raise malformed("lease_ms", f"{request.lease_ms}; 1 to {page_lease_ms_max} are allowed")
    return contains_request_from_pb(request.pages)


def lease_reply_to_pb(answer: LeaseAnswer, *, routing_version: int) -> pb.LeaseReply:
    """The answer."""
    return pb.LeaseReply(pages=contains_reply_to_pb(answer.presence, routing_version=routing_version), leased=answer.leased)


def lease_reply_from_pb(reply: pb.LeaseReply, count: int) -> LeaseAnswer:
    """The answer about `count` pages. Raises PROTOCOL when it is not about so many."""
    return LeaseAnswer(contains_reply_from_pb(reply.pages, count), reply.leased)


def release_request_to_pb(lease_ids: Sequence[int]) -> pb.ReleaseRequest:
    """The message that ends leases."""
    return pb.ReleaseRequest(lease_ids=lease_ids)


def release_request_from_pb(request: pb.ReleaseRequest) -> Sequence[int]:
    """The leases to be ended. Raises INVALID for too many."""
    if len(request.lease_ids) > keys_per_find_max:
        raise malformed("lease_ids", f"{len(request.lease_ids)} elements, at most {keys_per_find_max} are allowed")
    return request.lease_ids[:]


def release_reply_to_pb(released: int) -> pb.ReleaseReply:
    """The answer: how many there were."""
    return pb.ReleaseReply(released=released)


# --- pins and touches ------------------------------------------------------------------------------------------------


def pin_request_to_pb(columns: ContainsColumns, kind: PinKind, pin_ms: int) -> pb.PinRequest:
    """The message that pins pages, or takes their pins away (NONE)."""
    number: Any = kind
    return pb.PinRequest(pages=contains_request_to_pb(columns), kind=number, pin_ms=pin_ms)


def pin_request_from_pb(request: pb.PinRequest) -> tuple[ContainsColumns, PinKind]:
    """The pages and what is to become of them. Raises INVALID naming the field."""
    kind = _KINDS.get(request.kind)
    if kind is None:
        raise malformed("kind", f"{request.kind} is none this software knows")
    if request.pin_ms > pin_ms_max or (kind is PinKind.SOFT and not request.pin_ms):
        raise malformed("pin_ms", f"{request.pin_ms}; 1 to {pin_ms_max} are allowed, and 0 of a hard pin")
    return contains_request_from_pb(request.pages), kind


def pin_reply_to_pb(codes: Sequence[int], *, routing_version: int) -> pb.PinReply:
    """The answer, a code per page."""
    return pb.PinReply(codes=codes, routing_version=routing_version)


def touch_request_to_pb(columns: ContainsColumns) -> pb.TouchPagesRequest:
    """The message that touches pages."""
    return pb.TouchPagesRequest(pages=contains_request_to_pb(columns))


def touch_request_from_pb(request: pb.TouchPagesRequest) -> ContainsColumns:
    """The pages of a request. Raises INVALID naming the column."""
    return contains_request_from_pb(request.pages)


def touch_reply_to_pb(codes: Sequence[int], *, routing_version: int) -> pb.TouchPagesReply:
    """The answer, a code per page."""
    return pb.TouchPagesReply(codes=codes, routing_version=routing_version)


def codes_from_pb(reply: pb.PinReply | pb.TouchPagesReply, count: int) -> Sequence[int]:
    """A code for each of `count` pages. Raises PROTOCOL when they are not so many."""
    codes = reply.codes[:]
    if len(codes) != count:
        raise error(Code.PROTOCOL, f"{count} pages were asked for and {len(codes)} codes answered")
    return codes


# --- usage -----------------------------------------------------------------------------------------------------------


def usage_request_to_pb(namespace_id: int, after: int) -> pb.CacheUsageRequest:
    """The message of a question for usage; 0: of all namespaces, in order, behind `after`."""
    return pb.CacheUsageRequest(namespace_id=namespace_id, after=after)


def usage_reply_to_pb(page: UsagePage, *, routing_version: int) -> pb.CacheUsageReply:
    """The answer."""
    return pb.CacheUsageReply(
        namespaces=[
            pb.NamespaceUsage(
                namespace_id=each.namespace_id,
                pages=each.pages,
                bytes=each.bytes,
                leases=each.leases,
                leased_pages=each.leased_pages,
                soft_pins=each.soft_pins,
                hard_pins=each.hard_pins,
                hard_pin_bytes=each.hard_pin_bytes,
                counters=pb.CacheCounters(**{name: getattr(each.counters, name) for name in _COUNTERS}),
                lookups=_lookups_to_pb(each.lookups),
            )
            for each in page.namespaces
        ],
        more=page.more,
        heads=page.heads,
        routing_version=routing_version,
    )


def usage_reply_from_pb(reply: pb.CacheUsageReply) -> UsagePage:
    """The answer. Raises PROTOCOL for more rows than there may be."""
    if len(reply.namespaces) > usage_rows_max or (reply.more and not reply.namespaces):
        raise error(Code.PROTOCOL, f"the usage of {len(reply.namespaces)} namespaces in one answer")
    rows = [
        NamespaceUsage(
            row.namespace_id,
            row.pages,
            row.bytes,
            row.leases,
            row.leased_pages,
            row.soft_pins,
            row.hard_pins,
            row.hard_pin_bytes,
            CacheCounters(**{name: getattr(row.counters, name) for name in _COUNTERS}),
            _lookups_from_pb(row.lookups),
        )
        for row in reply.namespaces
    ]
    return UsagePage(rows, reply.more, [ChainId(chain) for chain in reply.heads])


def report_lookups_request_to_pb(namespace_id: int, found: LookupCounters) -> pb.ReportLookupsRequest:
    """The message that says what the lookups of a client found."""
    return pb.ReportLookupsRequest(namespace_id=namespace_id, lookups=_lookups_to_pb(found))


def report_lookups_request_from_pb(request: pb.ReportLookupsRequest) -> tuple[int, LookupCounters]:
    """The namespace and what was found. Raises INVALID naming the field, also for numbers that lookups cannot give."""
    if not 1 <= request.namespace_id < NAMESPACE_IDS_END:
        raise malformed("namespace_id", f"{request.namespace_id}; 1 to {NAMESPACE_IDS_END - 1} are allowed")
    found = _lookups_from_pb(request.lookups)
    for name in ("lookups", "keys_asked"):
        if (count := getattr(found, name)) > reported_lookups_max:
            raise malformed(name, f"{count}; at most {reported_lookups_max} are allowed in one report")
    if found.keys_found + found.unknown > found.keys_asked:
        raise malformed(
            "keys_found", f"{found.keys_found}, and {found.unknown} unknown, of {found.keys_asked} that were asked for"
        )
    if found.prefix_keys > found.keys_found:
        raise malformed("prefix_keys", f"{found.prefix_keys} of {found.keys_found} that were found")
    return request.namespace_id, found


def report_lookups_reply_to_pb() -> pb.ReportLookupsReply:
    """It is counted."""
    return pb.ReportLookupsReply()


def _lookups_to_pb(found: LookupCounters) -> pb.LookupCounters:
    return pb.LookupCounters(**{name: getattr(found, name) for name in _LOOKUPS})


def _lookups_from_pb(found: pb.LookupCounters) -> LookupCounters:
    return LookupCounters(**{name: getattr(found, name) for name in _LOOKUPS})


# --- events ----------------------------------------------------------------------------------------------------------


def events_request_to_pb(question: EventsQuestion) -> pb.CacheEventsRequest:
    """The message of a question for events."""
    return pb.CacheEventsRequest(
        namespace_id=question.namespace_id,
        chains=question.cursors,
        epochs=[cursor.epoch for cursor in question.cursors.values()],
        seqs=[cursor.seq for cursor in question.cursors.values()],
        wait_ms=question.wait_ms,
    )


def events_request_from_pb(request: pb.CacheEventsRequest) -> EventsQuestion:
    """The question. Raises INVALID naming the column."""
    if not 1 <= request.namespace_id < NAMESPACE_IDS_END:
        raise malformed("namespace_id", f"{request.namespace_id}; 1 to {NAMESPACE_IDS_END - 1} are allowed")
    chains, epochs, seqs = request.chains[:], request.epochs[:], request.seqs[:]
    if len(chains) > keys_per_find_max or len(set(chains)) != len(chains):
        raise malformed("chains", f"{len(chains)} elements; at most {keys_per_find_max} different ones are allowed")
    if not len(epochs) == len(seqs) == len(chains):
        raise malformed("epochs", f"{len(epochs)} of them and {len(seqs)} seqs beside {len(chains)} chains")
    if (longest := max(map(len, epochs), default=0)) > page_event_epoch_bytes_max:
        raise malformed("epochs", f"{longest} bytes; at most {page_event_epoch_bytes_max} are allowed")
    if request.wait_ms > page_event_wait_ms_max:
        raise malformed("wait_ms", f"{request.wait_ms}; at most {page_event_wait_ms_max} are allowed")
    cursors = {ChainId(chain): Cursor(epoch, seq) for chain, epoch, seq in zip(chains, epochs, seqs, strict=True)}
    return EventsQuestion(request.namespace_id, cursors, request.wait_ms)


def events_reply_to_pb(answers: Sequence[ChainAnswer], *, routing_version: int) -> pb.CacheEventsReply:
    """The answer, chain by chain as asked."""
    return pb.CacheEventsReply(
        chains=[
            pb.ChainEvents(
                code=answer.code,
                epoch=answer.batch.since.epoch,
                since=answer.batch.since.seq,
                missed=answer.batch.missed,
                changes=[event.change for event in answer.batch.events],  # type: ignore[misc]
                chunks=b"".join([event.chunk for event in answer.batch.events]),
                lengths=[event.length for event in answer.batch.events],
                keys=[event.key for event in answer.batch.events],
            )
            for answer in answers
        ],
        routing_version=routing_version,
    )


def events_reply_from_pb(reply: pb.CacheEventsReply, count: int) -> list[ChainAnswer]:
    """The answer about `count` chains. Raises PROTOCOL when it is not about so many, or is none."""
    if len(reply.chains) != count:
        raise error(Code.PROTOCOL, f"events of {count} chains were asked for, and those of {len(reply.chains)} answered")
    return [
        ChainAnswer(
            Code.from_wire(chain.code),
            EventBatch(_events_from_pb(chain), Cursor(chain.epoch, chain.since), chain.missed),
        )
        for chain in reply.chains
    ]


def _events_from_pb(chain: pb.ChainEvents) -> list[PageEvent]:
    count = len(chain.changes)
    if not count == len(chain.lengths) == len(chain.keys) <= page_events_per_reply_max:
        raise error(Code.PROTOCOL, f"{count} events with {len(chain.lengths)} lengths and {len(chain.keys)} keys")
    if len(chain.chunks) != CHUNK_ID_BYTES * count:
        raise error(Code.PROTOCOL, f"{count} events of pages that are named by {len(chain.chunks)} bytes")
    chunks = split_ids(chain.chunks, count, "chunks")
    events = []
    for number, chunk, length, key in zip(chain.changes, chunks, chain.lengths, chain.keys, strict=True):
        change = _CHANGES.get(number)
        if change is None:
            raise error(Code.PROTOCOL, f"an event of a kind that this software does not know ({number})")
        events.append(PageEvent(change, ChunkId(chunk), length, key))
    return events
