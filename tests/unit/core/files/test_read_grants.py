"""The rules of bulk reads, one by one and all together."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from fs3.base.ids import NodeId
from fs3.base.units import MIB, MILLISECOND, SECOND
from fs3.core.files.read_grants import (
    BulkRead,
    ReadGrants,
    beside_short_late_ns,
    beside_short_pause_ns,
    late_read_ns,
    node_bytes_step,
    short_read_memory_ns,
)

MAX = 100
SENDERS = 3


@dataclass(frozen=True, eq=False)
class Read:
    node: NodeId
    bytes: int


def read(node: int, count: int) -> Read:
    return Read(NodeId(node), count)


def test_what_fits_begins_at_once_and_the_rest_in_turn() -> None:
    grants = ReadGrants(MAX, SENDERS)
    first, second, third = read(1, 60), read(2, 40), read(3, 1)
    assert grants.ask(first)
    assert grants.ask(second)
    assert not grants.ask(third)
    assert (grants.bytes, grants.senders, grants.waiting_count) == (100, 2, 1)
    assert grants.end(second) == [third]
    assert grants.end(first) == []
    assert grants.end(third) == []
    assert (grants.bytes, grants.senders, grants.waiting_count) == (0, 0, 0)


def test_one_that_is_larger_than_all_goes_alone() -> None:
    grants = ReadGrants(MAX, SENDERS)
    large, small = read(1, 3 * MAX), read(2, 10)
    assert grants.ask(large)
    assert not grants.ask(small)
    assert grants.end(large) == [small]
    assert not grants.ask(large)
    assert grants.end(small) == [large]


def test_few_nodes_send_at_once() -> None:
    grants = ReadGrants(MAX, SENDERS)
    reads = [read(node, 1) for node in range(5)]
    assert [grants.ask(one) for one in reads] == [True, True, True, False, False]
    assert grants.end(reads[1]) == [reads[3]]


def test_nodes_take_turns_and_none_takes_all() -> None:
    grants = ReadGrants(MAX, SENDERS)
    busy = [read(1, 50) for _ in range(6)]
    assert [grants.ask(one) for one in busy] == [True, True, False, False, False, False]
    late = read(2, 50)
    assert not grants.ask(late)
    assert grants.end(busy[0]) == [late], "a node that has half of the bytes waits for the others"
    assert grants.end(busy[1]) == [busy[2]]
    assert grants.end(late) == [busy[3]], "it may have all when nobody else waits"


def test_a_large_one_is_not_overtaken_for_ever() -> None:
    grants = ReadGrants(MAX, SENDERS)
    running = [read(1, 50), read(2, 50)]
    large = read(3, 90)
    assert [grants.ask(one) for one in [*running, large]] == [True, True, False]
    small = read(4, 10)
    assert not grants.ask(small)
    assert grants.end(running[0]) == []
    assert grants.end(running[1]) == [large, small]


def test_a_silent_node_keeps_nothing_from_the_others() -> None:
    grants = ReadGrants(MAX, SENDERS)
    silent, waiting = read(1, MAX), read(2, MAX)
    assert grants.ask(silent)
    assert not grants.ask(waiting)
    assert grants.set_aside(silent) == [waiting]
    assert grants.set_aside(silent) == []
    assert grants.end(silent) == []
    assert grants.bytes == MAX


def test_one_that_waits_may_be_given_up() -> None:
    grants = ReadGrants(MAX, SENDERS)
    running, waiting, next_one = read(1, MAX), read(2, MAX), read(3, 1)
    assert [grants.ask(one) for one in (running, waiting, next_one)] == [True, False, False]
    assert grants.end(waiting) == []
    assert grants.end(running) == [next_one]


STEPS = st.lists(st.tuples(st.sampled_from(["ask", "end", "aside"]), st.integers(0, 5), st.integers(1, 150)), max_size=60)


@given(STEPS)
def test_the_bounds_hold_and_everything_has_its_turn(steps: list[tuple[str, int, int]]) -> None:
    grants = ReadGrants(MAX, SENDERS)
    granted: dict[BulkRead, None] = {}
    aside: set[BulkRead] = set()
    waiting: list[BulkRead] = []

    def begin(reads: list[BulkRead]) -> None:
        for one in reads:
            waiting.remove(one)
            granted[one] = None

    def check() -> None:
        counted = [one for one in granted if one not in aside]
        assert grants.bytes == sum(one.bytes for one in counted)
        assert grants.bytes <= MAX or len(counted) == 1
        assert grants.senders == len({one.node for one in counted}) <= SENDERS
        assert grants.waiting_count == len(waiting)
        if not counted:
            assert not waiting, "something waits for nothing"

    for what, node, number in steps:
        if what == "ask":
            one = read(node, number)
            if grants.ask(one):
                granted[one] = None
            else:
                waiting.append(one)
        elif what == "end" and (granted or waiting):
            known = [*granted, *waiting]
            one_of_them = known[number % len(known)]
            if one_of_them in granted:
                del granted[one_of_them]
                aside.discard(one_of_them)
            else:
                waiting.remove(one_of_them)
            begin(grants.end(one_of_them))
        elif what == "aside" and granted:
            one_of_them = list(granted)[number % len(granted)]
            aside.add(one_of_them)
            begin(grants.set_aside(one_of_them))
        check()
    while granted:
        one_of_them = next(iter(granted))
        del granted[one_of_them]
        aside.discard(one_of_them)
        begin(grants.end(one_of_them))
        check()
    assert not waiting


def test_a_late_node_is_asked_for_less_and_for_more_again() -> None:
    grants = ReadGrants(16 * MIB, SENDERS)
    slow, quick = NodeId(1), NodeId(2)
    grants.on_answered(read(1, MIB), 0, late_read_ns + 1)
    assert (grants.node_limit(slow), grants.node_limit(quick)) == (8 * MIB, 16 * MIB)
    grants.on_answered(read(1, MIB), late_read_ns, 3 * late_read_ns)  # sent before that: it says nothing new
    assert grants.node_limit(slow) == 8 * MIB
    now = late_read_ns + 1
    for _ in range(20):
        grants.on_answered(read(1, MIB), now, now + late_read_ns + 1)
        now += late_read_ns + 1
    assert grants.node_limit(slow) == node_bytes_step  # no less: it would never be asked again
    assert grants.ask(read(1, 4 * MIB))  # alone, however large
    assert not grants.ask(read(1, 1))
    for _ in range(2000):
        grants.on_answered(read(1, MIB), now, now + 1)
    assert grants.node_limit(slow) == 16 * MIB


def _share_a_disk(clients: int, rate: int, seconds: int, *, is_adaptive: bool) -> tuple[int, list[int]]:
    """Clients that always want more of one node, which serves first come first: (the most that waited there, bytes of each in the
    last half). The second half of the clients comes later."""
    node, count = NodeId(1), 1 * MIB
    grants = [ReadGrants() for _ in range(clients)]
    queue: deque[tuple[int, Read, int]] = deque()  # (client, read, when it was sent)
    now, longest, got = 0, 0, [0] * clients
    end = seconds * SECOND
    while now < end:
        present = clients if now > end // 4 else clients // 2
        for client in range(present):
            while grants[client].waiting_count == 0:
                wanted = Read(node, count)
                if grants[client].ask(wanted):
                    queue.append((client, wanted, now))
        longest = max(longest, len(queue) * count)
        client, served, sent_at = queue.popleft()
        now += count * SECOND // rate
        if is_adaptive:
            grants[client].on_answered(served, sent_at, now)
        if now > end // 2:
            got[client] += count
        queue.extend((client, following, now) for following in grants[client].end(served) if isinstance(following, Read))
    return longest, got


def test_what_a_slow_disk_has_not_done_waits_at_its_clients_in_fair_shares() -> None:
    most, _ = _share_a_disk(8, 100 * MIB, 60, is_adaptive=False)
    assert most >= 8 * 16 * MIB - 8 * MIB
    # In the beginning clients know of nothing; after that they ask for about what is done in time.
    later, got = _share_a_disk(8, 100 * MIB, 60, is_adaptive=True)
    assert later <= 5 * 16 * MIB
    assert max(got) <= 1.5 * min(got)
    assert sum(got) >= 0.95 * 30 * 100 * MIB  # the disk has something to do all the time


class Readers:
    """Reads of 1 MiB of four nodes, always more than are granted."""

    def __init__(self, grants: ReadGrants) -> None:
        self.now = 0
        self._grants = grants
        self._granted: dict[BulkRead, int] = {}
        for place in range(64):
            self._ask(NodeId(place % 4))

    def _ask(self, node: NodeId) -> None:
        one = Read(node, MIB)
        if self._grants.ask(one):
            self._granted[one] = self.now

    def run(self, answers: int, answer_ns: int) -> tuple[int, int]:
        """The most bytes and nodes at once in the last half of so many answers, which take so long each."""
        most_bytes = most_nodes = 0
        for turn in range(answers):
            one, begun_at = next(iter(self._granted.items()))
            del self._granted[one]
            self.now = max(self.now, begun_at + answer_ns)
            self._grants.on_answered(one, begun_at, self.now)
            for following in self._grants.end(one):
                self._granted[following] = self.now
            self._ask(one.node)
            if turn >= answers // 2:
                most_bytes, most_nodes = max(most_bytes, self._grants.bytes), max(most_nodes, self._grants.senders)
        return most_bytes, most_nodes


def test_beside_short_reads_one_node_is_asked_for_little_and_afterwards_all_again() -> None:
    grants = ReadGrants()
    readers = Readers(grants)
    assert readers.run(100, MILLISECOND) == (16 * MIB, 4)
    began = readers.now
    grants.on_short_read(began)
    most_bytes, nodes = readers.run(100, MILLISECOND // 2)
    assert most_bytes <= 2 * MIB
    assert nodes == 1
    assert readers.now < began + short_read_memory_ns
    assert readers.run(2000, MILLISECOND // 2) == (16 * MIB, 4)


def test_beside_short_reads_all_is_asked_for_where_little_leaves_nodes_idle() -> None:
    grants = ReadGrants()
    readers = Readers(grants)
    grants.on_short_read(0)
    assert readers.run(200, 2 * beside_short_late_ns) == (16 * MIB, 4)
    grants.on_short_read(readers.now)
    assert readers.run(200, MILLISECOND)[1] == 4
    readers.now += beside_short_pause_ns
    grants.on_short_read(readers.now)
    assert readers.run(200, MILLISECOND // 2)[1] == 1


def test_a_node_may_owe_no_less_than_before_beside_short_reads() -> None:
    grants = ReadGrants()
    grants.on_short_read(0)
    assert grants.node_limit(NodeId(1)) == 16 * MIB
