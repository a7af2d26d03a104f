"""What a head remembers of pages is forgotten once it is not the head."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, ClientId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.kvcache.budget.seams import EvictionCause
from fs3.core.kvcache.events import Cursor, PageChange, page_event_log_idle_ns
from fs3.core.kvcache.pages import PageKey, front, page_keys
from fs3.core.kvcache.statistics import CacheStatistics
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.drivers.memory.chunk_versions import MemoryChunk, MemoryVersion
from fs3.model.chunk import Tag, Update, UpdateKind
from fs3.services.storage.cache.head_records import HeadRecords, lost_removals_max
from fs3.services.storage.cache.page_keys import page_key_bytes_held_max, page_key_patience_ns, page_keys_waiting_max

(PAGE, OTHER) = page_keys(7, b"", [b"key", b"other"])


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.time = 5

    def now(self) -> int:
        return self.time

    def wall(self) -> int:
        return 0


class Store(MemoryChunkStore):
    """Answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()
        self.failure: Exception | None = None
        self.reads: list[int] = []
        """How many versions were read at once."""

    async def read_pinned(self, pins: Sequence[int], length: int) -> Sequence[bytes | None]:
        self.reads.append(len(pins))
        try:
            await self.answers.wait()
            if self.failure is not None:
                raise self.failure
            return await super().read_pinned(pins, length)
        finally:
            self.unpin(pins)

    @property
    def pinned(self) -> int:
        return len(self._pinned_versions)

    def hold(self, page: PageKey, content: bytes = b"content") -> None:
        self.chunks[page.chunk] = MemoryChunk(MemoryVersion(1, 1, front(page, len(content)) + content))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(store: Store, clock: Clock) -> HeadRecords:
    made = HeadRecords(1, 1, store, clock, CacheStatistics())
    made.on_position_changed(is_head=True)
    return made


def remove(records: HeadRecords, store: Store, page: PageKey, cause: EvictionCause | None = None) -> None:
    """The removal of a page is committed."""
    records.before_commit(page.chunk)
    del store.chunks[page.chunk]
    records.on_page_removed(page.chunk, 200, cause)
    records.after_commit()


async def turn() -> None:
    """What was put off to the next turns of the loop happens."""
    for _ in range(5):
        await asyncio.sleep(0)


def told(records: HeadRecords, cursor: Cursor, namespace_id: int = 7) -> list[tuple[PageChange, bytes]]:
    return [(event.change, event.key) for event in records.read(namespace_id, cursor, 999).events]


def put(page: PageKey, content: bytes) -> Update:
    data = memoryview(front(page, len(content)) + content)
    return Update(page.chunk, UpdateKind.PUT, ChainId(1), 1, 0, 0, len(data), Tag(b"", 0, 0), data=data)  # type: ignore[arg-type]


def test_the_key_of_a_put_is_told_to_who_listens(records: HeadRecords) -> None:
    records.on_put(put(OTHER, b"before"))
    cursor = records.read(7, Cursor(), 9).next
    records.on_page_stored(OTHER.chunk, 100)
    records.on_put(put(PAGE, b"content"))
    records.on_page_stored(PAGE.chunk, 200)
    found = records.read(7, cursor, 9).events
    assert [(event.change, event.key, event.length) for event in found] == [
        (PageChange.STORED, b"", 100),
        (PageChange.STORED, b"key", 200),
    ]


async def test_the_key_of_a_put_that_began_before_is_read(records: HeadRecords, store: Store) -> None:
    cursor = records.read(7, Cursor(), 9).next
    store.hold(OTHER)
    records.before_commit(OTHER.chunk)
    records.on_page_stored(OTHER.chunk, 100)
    records.after_commit()
    await turn()
    assert told(records, cursor) == [(PageChange.STORED, b"other")]


@pytest.mark.parametrize(
    ("cause", "change"),
    [
        (None, PageChange.REMOVED),
        (EvictionCause.BUDGET, PageChange.EVICTED),
        (EvictionCause.ROOM, PageChange.EVICTED),
        (EvictionCause.EXPIRED, PageChange.EXPIRED),
        (EvictionCause.LOST, PageChange.LOST),
    ],
)
async def test_the_key_of_a_page_that_goes_is_told(
    records: HeadRecords, store: Store, cause: EvictionCause | None, change: PageChange
) -> None:
    store.hold(PAGE)
    cursor = records.read(7, Cursor(), 9).next
    woken: list[None] = []
    records.add_waiter(lambda: woken.append(None))
    remove(records, store, PAGE, cause)
    assert not woken, "there is nothing to tell yet"
    assert told(records, cursor) == []
    await turn()
    assert woken
    assert told(records, cursor) == [(change, b"key")]
    assert not store.pinned


async def test_nothing_is_told_of_a_namespace_that_was_cleared_or_has_no_listeners(records: HeadRecords, store: Store) -> None:
    store.hold(PAGE)
    store.hold(OTHER)
    remove(records, store, PAGE)
    cursor = records.read(7, Cursor(), 9).next
    remove(records, store, OTHER, EvictionCause.DELETED)
    await turn()
    assert told(records, cursor) == []
    assert not store.pinned
    assert store.reads == []


async def test_events_wait_in_order_for_a_key(records: HeadRecords, store: Store) -> None:
    store.hold(PAGE)
    cursor = records.read(7, Cursor(), 9).next
    store.answers.clear()
    remove(records, store, PAGE)
    await turn()
    records.on_put(put(PAGE, b"content"))
    records.on_page_stored(PAGE.chunk, 200)
    assert told(records, cursor) == []
    store.answers.set()
    await turn()
    assert told(records, cursor) == [(PageChange.REMOVED, b"key"), (PageChange.STORED, b"key")]


async def test_what_is_removed_at_once_is_read_a_few_at_a_time(records: HeadRecords, store: Store) -> None:
    cursor = records.read(7, Cursor(), 9).next
    pages = page_keys(7, b"", [b"%d" % number for number in range(100)])
    for page in pages:
        store.hold(page)
        remove(records, store, page)
    await turn()
    assert [key for _, key in told(records, cursor)] == [page.key for page in pages]
    assert len(store.reads) > 1


async def test_a_damaged_page_has_no_key(records: HeadRecords, store: Store) -> None:
    cursor = records.read(7, Cursor(), 9).next
    store.hold(PAGE)
    store.rot(PAGE.chunk, 3)
    remove(records, store, PAGE, EvictionCause.LOST)
    store.chunks[OTHER.chunk] = MemoryChunk(MemoryVersion(1, 1, b"not a page"))
    remove(records, store, OTHER)
    await turn()
    assert told(records, cursor) == [(PageChange.LOST, b""), (PageChange.REMOVED, b"")]


async def test_a_disk_that_is_slow_or_fails_holds_up_no_event_for_long(records: HeadRecords, store: Store, clock: Clock) -> None:
    cursor = records.read(7, Cursor(), 9).next
    store.answers.clear()
    store.hold(PAGE)
    remove(records, store, PAGE)
    await turn()
    store.hold(OTHER)
    remove(records, store, OTHER)
    clock.time += page_key_patience_ns
    records.forget_old(clock.time)
    assert told(records, cursor) == [(PageChange.REMOVED, b"")] * 2
    store.answers.set()
    for count, failure in enumerate((FS3Error(Code.DISK, "a test said so"), RuntimeError("a mistake")), 3):
        store.failure = failure
        store.hold(PAGE)
        remove(records, store, PAGE)
        await turn()
        assert told(records, cursor) == [(PageChange.REMOVED, b"")] * count
    assert not store.pinned
    assert not records.is_busy


async def test_beyond_a_limit_keys_are_not_told(records: HeadRecords, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert page_keys_waiting_max > 2
    monkeypatch.setattr("fs3.services.storage.cache.page_keys.page_keys_waiting_max", 2)
    cursor = records.read(7, Cursor(), 9).next
    for page in page_keys(7, b"", [b"1", b"2", b"3"]):
        store.hold(page)
        remove(records, store, page)
    await turn()
    assert [key for _, key in told(records, cursor)] == [b"1", b"2", b""]


async def test_pages_that_wait_for_their_keys_hold_so_many_bytes(
    records: HeadRecords, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert page_key_bytes_held_max > 2 * 200
    monkeypatch.setattr("fs3.services.storage.cache.page_keys.page_key_bytes_held_max", 2 * 200)
    for answers in (False, True):
        cursor = records.read(7, Cursor(), 9).next
        (store.answers.set if answers else store.answers.clear)()
        for page in page_keys(7, b"", [b"1", b"2", b"3"]):
            store.hold(page)
            remove(records, store, page)
            await turn()
        store.answers.set()
        await turn()
        assert [key for _, key in told(records, cursor)] == [b"1", b"2", b"3" if answers else b""]


async def test_nothing_stays_pinned(records: HeadRecords, store: Store) -> None:
    store.answers.clear()
    for is_head in (False, True):
        records.on_position_changed(is_head=True)
        records.read(7, Cursor(), 9)
        store.hold(PAGE)
        records.before_commit(PAGE.chunk)
        records.after_commit()
        remove(records, store, PAGE)
        await turn()
        store.hold(OTHER)
        remove(records, store, OTHER)
        assert records.is_busy
        if is_head:
            await records.stop()
            assert not store.pinned
        else:
            records.on_position_changed(is_head=False)
    assert not records.is_busy


def test_a_removal_of_a_lost_page_is_remembered_once(records: HeadRecords) -> None:
    tags = [Tag(ClientId(b"c" * 16), 1, seq) for seq in range(lost_removals_max + 1)]
    for tag in tags:
        records.on_lost_removal(tag)
    assert not records.take_lost_removal(tags[0]), "the oldest is forgotten"
    assert records.take_lost_removal(tags[1])
    assert not records.take_lost_removal(tags[1])
    records.on_position_changed(is_head=False)
    records.on_lost_removal(tags[1])
    assert not any(records.take_lost_removal(tag) for tag in tags)


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
    records = HeadRecords(1, 1, Store(), Clock(), statistics)
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
