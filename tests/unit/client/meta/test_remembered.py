"""What a client remembers, and when it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fs3.base.errors import error
from fs3.base.ids import InodeId, TableId
from fs3.base.status import Code
from fs3.client.meta import remembered
from fs3.client.meta.remembered import RememberedAttributes
from fs3.model.inode import Inode, InodeType, Layout, User
from fs3.model.namespace import Entry, Listing, PathRef, RemoveKind
from fs3.model.requests import List, Mkdir, Open, Remove, Rename, SetAttributes, Stat
from fs3.model.watch import WatchNews

ROOT, OTHER = User(0, 0), User(1, 1)
WATCH = 7
HERE = InodeId(1)


def inode(number: int, nlink: int = 1, type: InodeType = InodeType.FILE) -> Inode:
    layout = Layout(TableId(1), 4096, 1)
    return Inode(InodeId(number), type, 0o644, 0, 0, nlink, 0, 0, 0, 0, 0, 1, InodeId(0), layout)


def at(name: str = "", directory: int = HERE) -> PathRef:
    return PathRef(InodeId(directory), name)


def stat(name: str = "", directory: int = HERE) -> Stat:
    return Stat(at(name, directory), follow=False)


class Bench:
    """A client with a lease until 1000."""

    def __init__(self) -> None:
        self.now = 0

        async def ask(*_: object) -> WatchNews:
            raise AssertionError

        clock: Any = SimpleNamespace(now=lambda: self.now)
        self.memory = RememberedAttributes(clock, ask)
        self.news(all=True)

    def news(self, *inodes: InodeId, all: bool = False, watch: int = WATCH) -> None:
        self.memory._on_news(WatchNews(watch, 1, inodes, all, 1000), self.now)

    def keep(self, request: Any, answer: Any, user: User = ROOT, watch: int = WATCH) -> None:
        self.memory.keep(self.memory.turn, watch, user, request, answer)

    def knows(self, request: Any, user: User = ROOT) -> bool:
        return self.memory.find(user, request) is not None


def test_names_and_inodes() -> None:
    bench = Bench()
    bench.keep(stat("f"), inode(5))
    assert bench.memory.find(ROOT, stat("f")) == bench.memory.find(ROOT, stat("", 5)) == inode(5)
    assert bench.knows(stat("", 5), OTHER), "who has an inode has had leave to find it"
    for unknown in (stat("g"), stat("f/"), stat("./f"), stat(".."), Stat(at("f")), Open(at("f")), stat("f", 2)):
        assert not bench.knows(unknown)
    assert not bench.knows(stat("f"), OTHER)
    bench.keep(stat("f"), inode(5), OTHER)
    assert bench.knows(stat("f"), OTHER)


def test_a_listing() -> None:
    bench = Bench()
    entries = [Entry(f"f{number}", InodeId(number), InodeType.FILE, inode(number)) for number in range(5, 8)]
    bench.keep(List(at(), with_inodes=True), Listing(entries, False))
    assert all(bench.knows(stat(f"f{number}")) for number in range(5, 8))
    bench = Bench()
    bench.keep(List(at()), Listing([Entry("f5", InodeId(5), InodeType.FILE)], False))
    assert not bench.knows(stat("f5"))


def test_a_lease_that_is_over() -> None:
    bench = Bench()
    bench.keep(stat("f"), inode(5))
    bench.now = 999
    assert bench.knows(stat("f"))
    bench.now = 1000
    assert not bench.knows(stat("f"))
    bench.news()
    assert bench.knows(stat("f")), "the same watch would have told of changes"
    bench.news(watch=WATCH + 1)
    assert not bench.knows(stat("f"))


def test_answers_that_something_overtook() -> None:
    bench = Bench()
    for overtake in (
        lambda: bench.news(InodeId(99)),
        lambda: bench.news(all=True),
        bench.memory.begin_change,
        lambda: bench.memory.end_change(Mkdir(at("d")), inode(9)),
    ):
        turn = bench.memory.turn
        overtake()
        bench.memory.keep(turn, WATCH, ROOT, stat("f"), inode(5))
        assert not bench.knows(stat("f"))
    bench.keep(stat("f"), inode(5), watch=WATCH - 1)
    bench.keep(stat("f"), inode(5), watch=0)
    assert not bench.knows(stat("f"))


def test_news() -> None:
    bench = Bench()
    for number in (5, 6):
        bench.keep(stat(f"f{number}"), inode(number))
    bench.news(InodeId(5))
    assert [bench.knows(stat(f"f{number}")) for number in (5, 6)] == [False, True]
    bench.keep(stat("f5"), inode(5))
    bench.news(HERE)
    assert not bench.knows(stat("f5")), "its directory has changed"
    assert bench.knows(stat("", 5))


@pytest.mark.parametrize(
    ("request_", "answer", "dropped"),
    [
        (SetAttributes(at("f"), mode=0o600), inode(5), {"f", "g", "5"}),
        (SetAttributes(at("", 5), mode=0o600), inode(5), {"f", "5"}),
        (Remove(at("f"), RemoveKind.FILE), 5, {"f", "g", "5"}),
        (Rename(at("f"), at("x", 3)), inode(5), {"f", "g", "5", "x", "6"}),
        (Remove(at("d"), RemoveKind.TREE), 3, {"f", "g", "x", "5", "6", "4"}),
        (Mkdir(at("a/b")), inode(9), {"f", "g", "x", "5", "6", "4"}),
        (SetAttributes(at("f"), mode=0o600), None, {"f", "g", "x", "5", "6", "4"}),
        (SetAttributes(at("f"), mode=0o600), error(Code.DEADLINE, ""), {"f", "g", "x", "5", "6", "4"}),
        (SetAttributes(at("f"), mode=0o600), error(Code.ACCESS, ""), {"f", "g", "5"}),
    ],
)
def test_what_this_client_changes(request_: Any, answer: Any, dropped: set[str]) -> None:
    bench = Bench()
    bench.keep(stat("f"), inode(5))
    bench.keep(stat("g"), inode(4))
    bench.keep(stat("x", 3), inode(6))
    bench.memory.end_change(request_, answer)
    asked = {"f": stat("f"), "g": stat("g"), "x": stat("x", 3), "5": stat("", 5), "6": stat("", 6), "4": stat("", 4)}
    assert {name for name, request in asked.items() if not bench.knows(request)} == dropped


def test_files_with_several_names_go_with_any_change() -> None:
    bench = Bench()
    bench.keep(stat("f"), inode(5, nlink=2))
    bench.keep(stat("d"), inode(6, nlink=2, type=InodeType.DIRECTORY))
    bench.memory.end_change(Remove(at("x", 9), RemoveKind.FILE), 5)
    assert not bench.knows(stat("f"))
    assert bench.knows(stat("d"))


def test_there_is_an_end_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "remembered_inodes_max", 3)
    bench = Bench()
    for number in range(5, 20):
        bench.keep(stat(f"f{number}"), inode(number))
        assert bench.knows(stat(f"f{number}"))
    assert len(bench.memory._inodes) <= 4
