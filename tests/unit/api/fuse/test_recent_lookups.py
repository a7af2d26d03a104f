"""Which opens are answered by the look-up before them."""

from fs3.api.fuse.recent_lookups import RecentLookups, lookup_opens_ns, threads_kept_max
from fs3.base.ids import InodeId
from fs3.model.inode import NO_LAYOUT, Inode, InodeType

INODE = Inode(InodeId(5), InodeType.FILE, 0o644, 0, 0, 1, 0, 0, 0, 0, 0, 7, InodeId(0), NO_LAYOUT)


class Clock:
    """Stands still unless it is told to move."""

    ns = 1000

    def __call__(self) -> int:
        return self.ns


def test_a_thread_opens_what_it_has_just_looked_up_once() -> None:
    recent = RecentLookups(Clock())
    recent.note(10, INODE, 0)
    assert recent.take(11, 5) is None
    assert recent.take(10, 5) is INODE
    assert recent.take(10, 5) is None


def test_another_file_or_a_later_open_is_asked_for() -> None:
    clock = Clock()
    recent = RecentLookups(clock)
    recent.note(10, INODE, 0)
    assert recent.take(10, 6) is None
    assert recent.take(10, 5) is None, "it has opened something else meanwhile"
    recent.note(10, INODE, 0)
    clock.ns += lookup_opens_ns + 1
    assert recent.take(10, 5) is None


def test_a_look_up_that_was_on_its_way_during_a_change_counts_no_more() -> None:
    recent = RecentLookups(Clock())
    turn = recent.turn
    recent.note(10, INODE, turn)
    recent.forget()
    recent.note(11, INODE, turn)
    assert recent.take(10, 5) is None
    assert recent.take(11, 5) is None
    recent.note(11, INODE, recent.turn)
    assert recent.take(11, 5) is INODE


def test_threads_that_cannot_be_told_apart_ask() -> None:
    recent = RecentLookups(Clock())
    recent.note(0, INODE, 0)
    assert recent.take(0, 5) is None


def test_memory_is_bounded() -> None:
    recent = RecentLookups(Clock())
    for thread in range(1, 2 * threads_kept_max):
        recent.note(thread, INODE, 0)
    assert len(recent._by_thread) <= threads_kept_max
    assert recent.take(2 * threads_kept_max - 1, 5) is INODE
