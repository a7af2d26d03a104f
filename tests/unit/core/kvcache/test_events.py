"""Events: everything in order, or said that something was missed."""

from __future__ import annotations

from fs3.base.ids import ChunkId, page_chunk
from fs3.core.kvcache.events import Cursor, EventLogs, PageChange, page_event_log_idle_ns


def page(number: int, namespace: int = 1) -> ChunkId:
    return page_chunk(namespace, number.to_bytes(16, "little"))


class Epochs:
    """Names of logs."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> bytes:
        self.made += 1
        return b"epoch %d" % self.made


def listen(logs: EventLogs, epochs: Epochs, namespace: int = 1, now: int = 0) -> Cursor:
    return logs.read(namespace, Cursor(), 10, now, epochs).next


def test_nothing_is_recorded_while_nobody_listens() -> None:
    logs, epochs = EventLogs(), Epochs()
    assert logs.is_idle
    assert not logs.record(PageChange.STORED, page(1), 100)
    cursor = listen(logs, epochs)
    assert not logs.is_idle
    assert not logs.record(PageChange.STORED, page(1, namespace=2), 100)
    assert logs.read(1, cursor, 10, 0, epochs).events == []


def test_a_listener_gets_everything_once_and_in_order() -> None:
    logs, epochs = EventLogs(), Epochs()
    cursor = listen(logs, epochs)
    for number in range(5):
        assert logs.record(PageChange.STORED, page(number), 100, b"key %d" % number)
    logs.record(PageChange.EVICTED, page(0), 0)
    first = logs.read(1, cursor, 4, 0, epochs)
    second = logs.read(1, first.next, 4, 0, epochs)
    assert [event.key for event in first.events] == [b"key 0", b"key 1", b"key 2", b"key 3"]
    assert [event.change for event in second.events] == [PageChange.STORED, PageChange.EVICTED]
    assert not first.missed
    assert not second.missed
    assert logs.read(1, second.next, 4, 0, epochs).events == []


def test_who_resumes_gets_what_came_meanwhile() -> None:
    logs, epochs = EventLogs(), Epochs()
    cursor = listen(logs, epochs)
    listen(logs, epochs)
    logs.record(PageChange.STORED, page(1), 100)
    logs.record(PageChange.REMOVED, page(1), 0)
    assert [event.change for event in logs.read(1, cursor, 9, 0, epochs).events] == [PageChange.STORED, PageChange.REMOVED]
    assert epochs.made == 1


def test_who_comes_too_late_is_told_once() -> None:
    logs, epochs = EventLogs(events_max=3), Epochs()
    cursor = listen(logs, epochs)
    for number in range(4):
        logs.record(PageChange.STORED, page(number), 100)
    late = logs.read(1, cursor, 9, 0, epochs)
    assert late.missed
    assert not late.events
    logs.record(PageChange.STORED, page(9), 100)
    after = logs.read(1, late.next, 9, 0, epochs)
    assert not after.missed
    assert [event.chunk for event in after.events] == [page(9)]


def test_a_cursor_of_another_life_is_told_so() -> None:
    epochs = Epochs()
    before, after = EventLogs(), EventLogs()
    cursor = listen(before, epochs)
    before.record(PageChange.STORED, page(1), 100)
    answer = after.read(1, cursor, 9, 0, epochs)
    assert answer.missed
    assert answer.next == Cursor(b"epoch 2", 0)
    # A number that was never given out is none to go on from either.
    assert after.read(1, Cursor(b"epoch 2", 7), 9, 0, epochs).missed


def test_the_oldest_go_first_whosever_they_are() -> None:
    logs, epochs = EventLogs(events_max=4), Epochs()
    one, two = listen(logs, epochs, 1), listen(logs, epochs, 2)
    logs.record(PageChange.STORED, page(1, 1), 100)
    for number in range(4):
        logs.record(PageChange.STORED, page(number, 2), 100)
    assert logs.kept == 4
    assert logs.read(1, one, 9, 0, epochs).missed
    assert len(logs.read(2, two, 9, 0, epochs).events) == 4


def test_keys_are_bounded_in_bytes() -> None:
    logs, epochs = EventLogs(bytes_max=10_000), Epochs()
    cursor = listen(logs, epochs)
    for number in range(100):
        logs.record(PageChange.STORED, page(number), 100, b"k" * 4000)
    assert logs.kept == 2
    assert logs.read(1, cursor, 9, 0, epochs).missed


def test_events_are_told_up_to_the_first_whose_key_is_being_read() -> None:
    logs, epochs = EventLogs(), Epochs()
    cursor = listen(logs, epochs)
    assert logs.record_unread(PageChange.EVICTED, page(1, namespace=2), 0) is None
    logs.record(PageChange.STORED, page(1), 100, b"one")
    waiting = [logs.record_unread(PageChange.EVICTED, page(number), 0) for number in (1, 2)]
    late = listen(logs, epochs)
    assert not logs.record(PageChange.STORED, page(3), 100, b"three"), "it is not told yet"
    assert all(waiting)
    assert [event.key for event in logs.read(1, cursor, 9, 0, epochs).events] == [b"one"]
    assert logs.read(1, late, 9, 0, epochs).events == []
    assert not logs.complete(waiting[1], b"two")
    assert [event.key for event in logs.read(1, cursor, 9, 0, epochs).events] == [b"one"]
    assert logs.complete(waiting[0], b"")
    assert not logs.complete(waiting[0], b"again")
    assert [event.key for event in logs.read(1, cursor, 9, 0, epochs).events] == [b"one", b"", b"two", b"three"]
    assert [event.key for event in logs.read(1, cursor, 3, 0, epochs).events] == [b"one", b"", b"two"]
    assert [event.key for event in logs.read(1, late, 9, 0, epochs).events] == [b"three"]


def test_keys_that_come_too_late_change_nothing() -> None:
    logs, epochs = EventLogs(events_max=2, bytes_max=5000), Epochs()
    cursor = listen(logs, epochs)
    forgotten = logs.record_unread(PageChange.EVICTED, page(1), 0)
    logs.record(PageChange.STORED, page(2), 100)
    logs.record(PageChange.STORED, page(3), 100)
    assert not logs.complete(forgotten, b"one")
    assert logs.read(1, cursor, 9, 0, epochs).missed
    large = [logs.record_unread(PageChange.EVICTED, page(number), 0) for number in (4, 5)]
    assert logs.complete(large[0], b"k" * 3000)
    assert logs.complete(large[1], b"k" * 3000)
    assert logs.kept == 1, "keys are bounded in bytes"
    last = logs.record_unread(PageChange.EVICTED, page(6), 0)
    logs.clear()
    assert not logs.complete(last, b"six")
    listen(logs, epochs)
    idle = logs.record_unread(PageChange.EVICTED, page(7), 0)
    logs.drop_idle(page_event_log_idle_ns)
    assert not logs.complete(idle, b"seven")
    assert logs._bytes == 0


def test_logs_are_bounded_and_the_idle_ones_are_dropped() -> None:
    logs, epochs = EventLogs(logs_max=2), Epochs()
    first = listen(logs, epochs, 1, now=0)
    listen(logs, epochs, 2, now=1)
    logs.record(PageChange.STORED, page(1), 100, b"key")
    logs.read(1, first, 9, 2, epochs)
    listen(logs, epochs, 3, now=3)
    assert not logs.is_listened(2)
    assert logs.kept == 1
    logs.drop_idle(2 + page_event_log_idle_ns)
    assert not logs.is_listened(1)
    assert logs.is_listened(3)
    assert logs.kept == 0
    logs.clear()
    assert logs.is_idle
    assert logs._bytes == 0
