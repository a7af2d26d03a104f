"""What a storage node says of itself in numbers: its targets, the reads, the KVCache namespaces, the memory its calls hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fs3.base.ids import TargetId
from fs3.base.units import SECOND
from fs3.model.chain import LocalState, PublicState
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Metric, Sample
from fs3.model.target_report import TargetReport
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.services.storage.service import StorageService

namespaces_measured_max = 128
"""Namespaces with a line of their own per metric; the rest are counted together, under `OTHER_NAMESPACES`."""
OTHER_NAMESPACES = "(others)"

_BY_TARGET = (
    (catalogue.TARGET_USED, "used_bytes"),
    (catalogue.TARGET_FREE, "free_bytes"),
    (catalogue.TARGET_CHUNKS, "chunks"),
)
_BY_UPKEEP = (
    (catalogue.TARGET_BAD, "bad_blocks"),
    (catalogue.RESYNC_DONE, "resync_done_chunks"),
    (catalogue.RESYNC_TOTAL, "resync_total_chunks"),
    (catalogue.RESYNC_RATE, "resync_bytes_per_second"),
    (catalogue.SCRUB_DONE, "scrub_done_chunks"),
    (catalogue.SCRUB_TOTAL, "scrub_total_chunks"),
    (catalogue.SCRUB_PASSES, "scrub_passes"),
    (catalogue.REPAIRED, "repaired_blocks"),
)
_OF_RESYNC = {catalogue.RESYNC_DONE, catalogue.RESYNC_TOTAL, catalogue.RESYNC_RATE}
_COUNTED = (
    (catalogue.KV_ASKED, "keys_asked"),
    (catalogue.KV_FOUND, "keys_found"),
    (catalogue.KV_GETS, "gets"),
    (catalogue.KV_GET_BYTES, "get_bytes"),
    (catalogue.KV_PUTS, "puts"),
    (catalogue.KV_PUT_BYTES, "put_bytes"),
    (catalogue.KV_LEASES, "leases"),
)
_REMOVED = ("evicted", "expired", "removed", "lost")
_REFUSED = (("leases", "leases_refused"), ("pins", "pins_refused"))


class StorageMetrics:
    """A `MetricSource` of one storage node."""

    def __init__(self, service: StorageService) -> None:
        self._service = service

    def samples(self) -> Iterator[Sample]:
        """The readings of now. Of the targets: what the manager was told last."""
        service = self._service
        clock = service.clock
        yield Sample(catalogue.LEASE_LEFT, (), max(0, service.member.lease.until - clock.now()) / SECOND)
        yield from self._of_targets(service.last_reports)
        yield from self._of_namespaces()
        reads = service.reads
        yield Sample(catalogue.READS, ("warm",), reads.ios - reads.cold_ios)
        yield Sample(catalogue.READS, ("cold",), reads.cold_ios)
        yield Sample(catalogue.COLD_WAITING, (), reads.cold.waiting_count)
        guard = service.guard
        yield Sample(catalogue.CAPABILITIES, ("taken",), guard.shown_taken)
        yield Sample(catalogue.CAPABILITIES, ("refused",), guard.shown_refused)
        yield Sample(catalogue.CAPABILITIES, ("missing",), guard.requests_refused)
        yield Sample(catalogue.OTHERS_CLIENTS, (), service.tag_guard.refused)
        held = service.held()
        yield Sample(catalogue.MEMORY, ("update payloads",), held.payload_bytes)
        yield Sample(catalogue.MEMORY, ("cold reads",), held.cold_bytes)
        yield Sample(catalogue.MEMORY, ("read back for forwards",), held.read_back_bytes)

    def _of_targets(self, reports: tuple[TargetReport, ...]) -> Iterator[Sample]:
        shells = dict(self._service.targets)
        for report in reports:
            shell = shells.get(report.target)
            chain = shell.chain if shell is not None else None
            slot = chain.slot(report.target) if chain is not None else None
            labels = (str(report.target), str(chain.id if chain is not None else 0))
            serves = slot is not None and slot.state is PublicState.SERVING and report.state is LocalState.UPTODATE
            yield Sample(catalogue.TARGET_SERVING, labels, int(serves))
            for metric, name in _BY_TARGET:
                yield Sample(metric, labels, getattr(report, name))
            upkeep = report.upkeep
            for metric, name in _BY_UPKEEP:
                # The figures of the last resync stay in the report for people; there is none under way.
                over = metric in _OF_RESYNC and not upkeep.resync_target_id
                yield Sample(metric, labels, 0 if over else getattr(upkeep, name))
            if shell is not None:
                yield Sample(catalogue.TARGET_WAITING, labels, shell.waiter_count)

    def _of_namespaces(self) -> Iterator[Sample]:
        statistics = self._service.cache_statistics
        caches = [keeper.cache for keeper in _values(self._service.caches.by_target)]
        known = set(statistics.namespaces)
        for cache in caches:
            known.update(list(cache.namespaces))
        names: dict[int, str] = {}
        for place, number in enumerate(sorted(known)):
            found = self._service.namespaces.get(number) if place < namespaces_measured_max else None
            names[number] = found.name if found is not None else OTHER_NAMESPACES
        sums: dict[tuple[Metric, tuple[str, ...]], int] = {}

        def add(metric: Metric, labels: tuple[str, ...], value: int) -> None:
            sums[metric, labels] = sums.get((metric, labels), 0) + value

        for number, name in names.items():
            for cache in caches:
                use = cache.use(number)
                add(catalogue.KV_PAGES, (name,), use.pages)
                add(catalogue.KV_BYTES, (name,), use.bytes)
            counters = statistics.find(number)
            if counters is None:
                continue
            for metric, field in _COUNTED:
                add(metric, (name,), getattr(counters, field))
            for reason in _REMOVED:
                add(catalogue.KV_EVICTED, (name, reason), getattr(counters, reason))
            for what, field in _REFUSED:
                add(catalogue.KV_REFUSED, (name, what), getattr(counters, field))
        for (metric, labels), value in sums.items():
            yield Sample(metric, labels, value)


def _values(keepers: Mapping[TargetId, CacheKeeper]) -> list[CacheKeeper]:
    return list(keepers.values())
