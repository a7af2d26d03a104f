"""The row cache shows, at every revision it has been told of, what a store had at that revision; whatever is read late."""

from __future__ import annotations

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from fs3.drivers.etcd.row_cache import UNKNOWN, EtcdRowCache, etcd_fetch_rows_max
from fs3.wire.etcd import EtcdChange, EtcdRange, EtcdRow

KEYS = [bytes([letter]) for letter in b"abcdefgh"]
ENDS = [*KEYS, b"i"]
KEY = st.sampled_from(KEYS)


class Store:
    """All states of a store, by revision."""

    def __init__(self) -> None:
        self.states: list[dict[bytes, tuple[bytes, int]]] = [{}]
        self.changes: list[list[EtcdChange]] = [[]]

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    def change(self, rows: dict[bytes, bytes | None]) -> None:
        revision = len(self.states)
        state = dict(self.states[-1])
        for key, value in rows.items():
            if value is None:
                state.pop(key, None)
            else:
                state[key] = (value, revision)
        self.states.append(state)
        self.changes.append([EtcdChange(key, value, revision) for key, value in rows.items()])

    def read(self, wanted: EtcdRange, revision: int) -> list[EtcdRow]:
        state = self.states[revision]
        end = wanted.end or wanted.begin + b"\0"
        keys = sorted((key for key in state if wanted.begin <= key < end), reverse=wanted.reverse)
        return [EtcdRow(key, *state[key]) for key in keys[: wanted.limit or None]]


RANGE = st.one_of(
    KEY.map(EtcdRange),
    st.builds(EtcdRange, KEY, st.sampled_from(ENDS), st.integers(1, 4), st.booleans()).filter(
        lambda wanted: wanted.begin < wanted.end
    ),
)
STEP = st.one_of(
    st.tuples(st.just("change"), st.dictionaries(KEY, st.one_of(st.none(), st.binary(max_size=2)), min_size=1, max_size=3)),
    st.tuples(st.just("tell"), st.integers(1, 3)),
    st.tuples(st.just("send"), st.lists(RANGE, min_size=1, max_size=3)),
    st.tuples(st.just("reply"), st.integers(0, 3)),
    st.tuples(st.just("clear"), st.none()),
)


@given(st.lists(STEP, max_size=40))
def test_what_it_knows_is_what_the_store_had(steps: list[tuple[str, object]]) -> None:
    store, cache = Store(), EtcdRowCache()
    under_way: list[tuple[object, list[EtcdRange], int]] = []
    for kind, what in steps:
        match kind:
            case "change":
                store.change(what)
            case "tell":
                upto = min(cache.revision + what, store.revision)
                told = [change for at in range(cache.revision + 1, upto + 1) for change in store.changes[at]]
                cache.apply(told, upto)
            case "send":
                under_way.append((cache.begin_fetch(), what, store.revision))
            case "reply" if under_way:
                fetch, ranges, revision = under_way.pop(what % len(under_way))
                told = [change for at in range(cache.revision + 1, revision + 1) for change in store.changes[at]]
                cache.apply(told, revision)
                cache.take_in(fetch, ranges, [store.read(wanted, revision) for wanted in ranges], revision)
                cache.end_fetch(fetch)
            case "clear":
                cache.clear()
        check(store, cache)


def check(store: Store, cache: EtcdRowCache) -> None:
    state = store.states[cache.revision]
    for key in KEYS:
        found = cache.find(key)
        if found is not UNKNOWN:
            assert (None if found is None else tuple(found)) == state.get(key)
    for begin in KEYS:
        for end in ENDS[bisect_left(ENDS, begin) + 1 :]:
            for limit in (1, 2, 9):
                for reverse in (False, True):
                    found = cache.scan(begin, end, limit, reverse=reverse)
                    wanted = store.read(EtcdRange(begin, end, limit, reverse), cache.revision)
                    if found.missing is None:
                        assert list(found.rows) == wanted
                    else:
                        assert begin <= found.missing.begin < found.missing.end <= end
                        assert 0 < found.missing.limit <= min(limit, etcd_fetch_rows_max)


@given(st.lists(RANGE, min_size=1, max_size=8))
def test_a_scan_ends_when_what_is_missing_was_read(scans: list[EtcdRange]) -> None:
    store, cache = Store(), EtcdRowCache()
    store.change({key: key for key in KEYS[::2]})
    cache.apply(store.changes[1], 1)
    for wanted in scans:
        end = wanted.end or wanted.begin + b"\0"
        for _ in range(8):
            found = cache.scan(wanted.begin, end, wanted.limit or 1, reverse=wanted.reverse)
            if found.missing is None:
                break
            fetch = cache.begin_fetch()
            cache.take_in(fetch, [found.missing], [store.read(found.missing, 1)], 1)
            cache.end_fetch(fetch)
        assert list(found.rows) == store.read(EtcdRange(wanted.begin, end, wanted.limit or 1, wanted.reverse), 1)
