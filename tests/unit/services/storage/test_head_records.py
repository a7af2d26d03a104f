"""What a head remembers of pages is forgotten once it is not the head."""

from __future__ import annotations

import pytest

from fs3.base.ids import ChainId, ChunkId
from fs3.base.units import SECOND
from fs3.core.kvcache.budget.seams import EvictionCause
from fs3.core.kvcache.events import Cursor, PageChange, page_event_log_idle_ns
from fs3.core.kvcache.pages import PageKey, front, page_keys
from fs3.core.kvcache.statistics import CacheStatistics
from fs3.model.chunk import Tag, Update, UpdateKind
from fs3.services.storage.cache.head_records import HeadRecords

(PAGE, OTHER) = page_keys(7, b"", [b"key", b"other"])


class Clock:
    """Stands still."""

    def now(self) -> int:
        return 5

    def wall(self) -> int:
        return 0


@pytest.fixture
def records() -> HeadRecords:
    made = HeadRecords(1, 1, Clock(), CacheStatistics())
    made.on_position_changed(is_head=True)
    return made


def put(page: PageKey, content: bytes) -> Update:
    data = memoryview(front(page, len(content)) + content)
    return Update(page.chunk, UpdateKind.PUT, ChainId(1), 1, 0, 0, len(data), Tag(b"", 0, 0), data=data)  # type: ignore[arg-type]


def test_the_key_of_a_put_is_told_to_who_listens(records: HeadRecords) -> None:
    records.on_put(put(OTHER, b"before"))
    cursor = records.read(7, Cursor(), 9).next
    records.on_page_stored(OTHER.chunk, 100)
    records.on_put(put(PAGE, b"content"))
    records.on_page_stored(PAGE.chunk, 200)
    records.on_page_removed(PAGE.chunk, 200, EvictionCause.BUDGET)
    told = records.read(7, cursor, 9).events
    assert [(event.change, event.key, event.length) for event in told] == [
        (PageChange.STORED, b"", 100),
        (PageChange.STORED, b"key", 200),
        (PageChange.EVICTED, b"", 0),
    ]


def test_bytes_that_are_no_page_have_no_key(records: HeadRecords) -> None:
    cursor = records.read(7, Cursor(), 9).next
    update = put(PAGE, b"content")
    records.on_put(Update(update.chunk, UpdateKind.PUT, update.chain, 1, 0, 0, 3, update.tag, data=memoryview(b"abc")))
    records.on_page_stored(PAGE.chunk, 3)
    assert [event.key for event in records.read(7, cursor, 9).events] == [b""]


@pytest.mark.parametrize(
    ("cause", "counted"),
    [(None, "removed"), (EvictionCause.ROOM, "evicted"), (EvictionCause.EXPIRED, "expired"), (EvictionCause.DELETED, "removed")],
)
def test_removals_are_counted_by_their_cause(cause: EvictionCause | None, counted: str) -> None:
    statistics = CacheStatistics()
    records = HeadRecords(1, 1, Clock(), statistics)
    records.on_page_removed(PAGE.chunk, 10, cause)
    assert statistics.find(7) is None, "only the head counts"
    records.on_position_changed(is_head=True)
    records.on_page_stored(PAGE.chunk, 10)
    records.on_page_removed(PAGE.chunk, 10, cause)
    counters = statistics.of(7)
    assert (counters.puts, counters.put_bytes) == (1, 10)
    assert [getattr(counters, name) for name in ("evicted", "expired", "removed")] == [
        int(name == counted) for name in ("evicted", "expired", "removed")
    ]


def test_a_page_that_goes_loses_its_pin(records: HeadRecords) -> None:
    records.pins.pin(PAGE.chunk, 10, 0, duration_ns=0, hard=True, budget_bytes=10)
    records.on_page_removed(PAGE.chunk, 10, None)
    assert not records.pins.is_held(PAGE.chunk, 0)


def test_what_has_ended_is_forgotten(records: HeadRecords) -> None:
    records.read(7, Cursor(), 9)
    records.pins.pin(PAGE.chunk, 10, 5, duration_ns=SECOND, hard=False)
    records.forget_old(5 + SECOND)
    assert records.pins.count == 0
    assert not records.events.is_idle
    records.forget_old(5 + page_event_log_idle_ns)
    assert records.events.is_idle


def test_who_is_the_head_again_has_missed_something(records: HeadRecords) -> None:
    woken: list[ChunkId | None] = []
    cursor = records.read(7, Cursor(), 9).next
    records.pins.pin(PAGE.chunk, 10, 0, duration_ns=SECOND, hard=False)
    records.add_waiter(lambda: woken.append(None))
    records.on_position_changed(is_head=True)
    assert not woken
    assert not records.read(7, cursor, 9).missed
    records.on_position_changed(is_head=False)
    assert woken
    assert not records.pins.is_preferred(PAGE.chunk, 0)
    records.on_position_changed(is_head=True)
    answer = records.read(7, cursor, 9)
    assert answer.missed
    assert answer.next.epoch != cursor.epoch
