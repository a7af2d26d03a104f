"""Leases, pins and events beside models that remember everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fs3.base.ids import ChunkId, page_chunk
from fs3.base.status import Code
from fs3.core.kvcache.events import Cursor, EventLogs, PageChange, UnreadEvent
from fs3.core.kvcache.leases import Leases
from fs3.core.kvcache.pins import Pins

PAGES = [page_chunk(1 + number % 2, bytes([number]) * 16) for number in range(6)]
pages = st.sampled_from(PAGES)

lease_steps = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.integers(1, 4), st.lists(pages, max_size=4), st.integers(1, 9)),
        st.tuples(st.just("release"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.integers(1, 5)),
    ),
    max_size=40,
)


@given(lease_steps)
def test_leases(steps: list[tuple[object, ...]]) -> None:
    leases = Leases(leases_max=3, pages_max=8)
    model: dict[int, tuple[int, list[ChunkId]]] = {}
    now = 0
    for step in steps:
        match step:
            case ("grant", int(number), list(chunks), int(duration)):
                model.pop(number, None)
                fits = len(model) < 3 and sum(len(held) for _, held in model.values()) + len(chunks) <= 8
                assert leases.grant(number, chunks, duration, now) is fits
                if fits:
                    model[number] = now + duration, chunks
            case ("release", int(number)):
                assert leases.release(number) is (model.pop(number, None) is not None)
            case ("wait", int(passed)):
                now += passed
                model = {number: lease for number, lease in model.items() if now < lease[0]}
                leases.expire(now)
        for chunk in PAGES:
            assert leases.is_held(chunk, now) is any(chunk in held for _, held in model.values())
        assert leases.pages == sum(len(held) for _, held in model.values())


pin_steps = st.lists(
    st.one_of(
        st.tuples(st.just("pin"), pages, st.integers(1, 50), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("unpin"), pages),
        st.tuples(st.just("wait"), st.integers(1, 5)),
    ),
    max_size=40,
)


@given(pin_steps)
def test_hard_pins_never_exceed_their_budget(steps: list[tuple[object, ...]]) -> None:
    pins = Pins(pages_max=4)
    model: dict[bytes, tuple[float, int, bool]] = {}
    now = 0
    for step in steps:
        match step:
            case ("pin", bytes(chunk), int(length), int(duration), bool(hard)):
                if not hard and not duration:
                    continue
                answer = pins.pin(ChunkId(chunk), length, now, duration_ns=duration, hard=hard, budget_bytes=60)
                if answer is Code.OK:
                    model[chunk] = now + duration if duration else float("inf"), length, hard
            case ("unpin", bytes(chunk)):
                assert pins.unpin(ChunkId(chunk)) is (model.pop(chunk, None) is not None)
            case ("wait", int(passed)):
                now += passed
                model = {chunk: pin for chunk, pin in model.items() if now < pin[0]}
                pins.expire(now)
        for chunk in PAGES:
            pin = model.get(chunk)
            assert pins.is_held(chunk, now) is (pin is not None and pin[2])
            assert pins.is_preferred(chunk, now) is (pin is not None and not pin[2])
        for namespace in (1, 2):
            hard_bytes = sum(pin[1] for chunk, pin in model.items() if pin[2] and chunk[3] == namespace)
            assert pins.use(namespace, now).hard_bytes == hard_bytes <= 60
        assert pins.count == len(model) <= 4


@given(st.lists(st.one_of(pages, st.integers(0, 5)), max_size=60), st.integers(1, 5))
def test_a_listener_has_everything_or_is_told(steps: list[bytes | int], kept: int) -> None:
    """A picture that is made anew whenever something was missed is always what there is, once no key is being read."""
    logs = EventLogs(events_max=kept)
    made = 0

    def make_epoch() -> bytes:
        nonlocal made
        made += 1
        return b"%d" % made

    there: set[bytes] = set()
    picture: set[bytes] = set()
    unread: list[tuple[UnreadEvent, bytes]] = []
    cursor = logs.read(1, Cursor(), 9, 0, make_epoch).next
    for step in steps:
        if isinstance(step, bytes):
            there.symmetric_difference_update([step])
            if step in there:
                logs.record(PageChange.STORED, ChunkId(step), 100, step)
            elif (event := logs.record_unread(PageChange.EVICTED, ChunkId(step), 0)) is not None:
                unread.append((event, step))
            continue
        if step == 3:
            logs.clear()
        if step >= 4:
            if unread:
                logs.complete(*unread.pop(0 if step == 4 else -1))
            continue
        for index in (*range(step, len(unread)), *range(min(step, len(unread)))):
            logs.complete(*unread[index])
        unread.clear()
        while True:
            batch = logs.read(1, cursor, 2, 0, make_epoch)
            cursor = batch.next
            if batch.missed:
                picture = {chunk for chunk in there if chunk[3] == 1}
            for event in batch.events:
                assert event.key == event.chunk
                (picture.add if event.change is PageChange.STORED else picture.discard)(event.chunk)
            if not batch.missed and not batch.events:
                break
        assert picture == {chunk for chunk in there if chunk[3] == 1}
