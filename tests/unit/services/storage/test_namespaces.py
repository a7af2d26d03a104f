"""What a storage node knows of namespaces, of a list that changes while it is read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from fs3.base.errors import FS3Error, error
from fs3.base.ids import TableId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.membership.namespace_log import NamespaceLog
from fs3.drivers.os.clock import OsClock
from fs3.model.cluster import CacheNamespace, NamespaceChanges, NamespacePage
from fs3.model.routing import Routing
from fs3.services.storage import namespaces as module
from fs3.services.storage.namespaces import NamespaceTable

WAIT_S = 20


class Manager:
    """A list of namespaces, told in pages of two; `between` is called before each page but the first."""

    def __init__(self) -> None:
        self.routing = Routing()
        self.namespaces: dict[str, CacheNamespace] = {}
        self.next_id = 1
        self.keeps_changes = False
        self.log = NamespaceLog(0, 4)
        self.reads = self.change_reads = 0
        self.before_answer: Callable[[], object] = lambda: None
        self.failures = 0
        """How many more questions are not answered."""
        self.between: Callable[[], object] | None = None

    def changed(self, name: str, *gone: int) -> None:
        self.routing = replace(self.routing, namespaces_version=self.routing.namespaces_version + 1)
        self.log.append(self.routing.namespaces_version, [name], gone)

    def make(self, name: str) -> int:
        self.namespaces[name] = CacheNamespace(self.next_id, name, 1000, 2, TableId(1))
        self.next_id += 1
        self.changed(name)
        return self.namespaces[name].id

    def clear(self, name: str) -> None:
        old, self.namespaces[name] = self.namespaces[name], replace(self.namespaces[name], id=self.next_id)
        self.next_id += 1
        self.changed(name, old.id)

    def delete(self, name: str) -> None:
        self.changed(name, self.namespaces.pop(name).id)

    async def list_namespace_changes(self, since: int) -> NamespaceChanges:
        await asyncio.sleep(0)
        version = self.routing.namespaces_version
        if not self.keeps_changes or (changed := self.log.since(since, 6)) is None:
            return NamespaceChanges(False, version, self.next_id)
        self.change_reads += 1
        found = tuple(self.namespaces[name] for name in changed[0] if name in self.namespaces)
        return NamespaceChanges(True, version, self.next_id, found, tuple(changed[1]))

    async def list_namespaces(self, prefix: str = "", after: str = "") -> NamespacePage:
        await asyncio.sleep(0)
        self.before_answer()
        if self.failures:
            self.failures -= 1
            raise error(Code.UNAVAILABLE, "nobody is there")
        if not after:
            self.reads += 1
        elif self.between is not None:
            self.between()
        names = sorted(name for name in self.namespaces if name > after)
        page = tuple(self.namespaces[name] for name in names[:2])
        return NamespacePage(page, len(names) > 2, self.routing.namespaces_version, self.next_id)


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def table(manager: Manager) -> NamespaceTable:
    return NamespaceTable(manager, OsClock())


def ids(table: NamespaceTable, until: int = 20) -> list[int]:
    return [number for number in range(until) if table.get(number) is not None]


def deleted(table: NamespaceTable, until: int = 20) -> list[int]:
    return [number for number in range(until) if table.is_deleted(number)]


async def test_nothing_is_deleted_before_the_list_was_read(manager: Manager, table: NamespaceTable) -> None:
    manager.make("a")
    assert (ids(table), deleted(table)) == ([], [])
    await table.read()
    assert (ids(table), deleted(table)) == ([1], [])
    assert table.get(1) == manager.namespaces["a"]


async def test_ids_that_nobody_has_are_deleted(manager: Manager, table: NamespaceTable) -> None:
    for name in "abcde":
        manager.make(name)
    manager.delete("b")
    manager.clear("d")
    await table.read()
    assert (ids(table), deleted(table), len(table)) == ([1, 3, 5, 6], [2, 4], 4)
    assert not table.is_deleted(-1)


async def test_one_that_is_made_while_the_list_is_read_is_not_deleted(manager: Manager, table: NamespaceTable) -> None:
    """Its name belongs on a page that was read already."""
    for name in "mnop":
        manager.make(name)
    manager.between = lambda: manager.make(f"a{manager.next_id}")
    await table.read()
    assert (ids(table), deleted(table)) == ([1, 2, 3, 4], [])
    manager.between = None
    await table.read()
    assert ids(table) == [1, 2, 3, 4, 5]


async def test_one_that_is_cleared_while_the_list_is_read(manager: Manager, table: NamespaceTable) -> None:
    for name in "mnop":
        manager.make(name)
    manager.between = lambda: manager.clear("m")  # on the page before, under its old id
    await table.read()
    assert (ids(table), deleted(table)) == ([1, 2, 3, 4], [])
    manager.between = lambda: manager.clear("p")  # on the page after
    await table.read()
    assert (ids(table), deleted(table)) == ([2, 3, 5, 6], [1, 4])


async def test_only_what_has_changed_is_read(manager: Manager, table: NamespaceTable) -> None:
    manager.keeps_changes = True
    for name in "abcdef":
        manager.make(name)
    await table.read()
    manager.clear("a")
    manager.delete("b")
    manager.make("g")
    manager.delete("g")
    await table.read()
    assert (ids(table), deleted(table)) == ([3, 4, 5, 6, 7], [1, 2, 8])
    assert (manager.reads, manager.change_reads, table.version) == (1, 1, 10)
    for name in "cdefa":
        manager.clear(name)  # more than is kept
    await table.read()
    assert (ids(table), manager.reads) == ([9, 10, 11, 12, 13], 2)
    old = Manager()
    old.keeps_changes = True
    old.make("a")
    table._source = old
    with pytest.raises(FS3Error, match="older than the cluster"):
        await table.read()


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_changes_meanwhile(manager: Manager, table: NamespaceTable, seed: int) -> None:
    prng = Prng(seed)
    manager.keeps_changes = bool(seed % 2)

    def change() -> None:
        name = "abcdefgh"[prng.below(8)]
        if name not in manager.namespaces:
            manager.make(name)
        elif prng.below(2):
            manager.clear(name)
        else:
            manager.delete(name)

    manager.between = change
    for _ in range(20):
        for _ in range(prng.below(4)):
            change()
        await table.read()
        alive = {namespace.id for namespace in manager.namespaces.values()}
        assert not alive & set(deleted(table, manager.next_id + 1))
        assert table.next_id <= manager.next_id
    manager.between = None
    await table.read()
    alive = {namespace.id for namespace in manager.namespaces.values()}
    assert ids(table, manager.next_id) == sorted(alive)
    assert deleted(table, manager.next_id + 1) == sorted(set(range(1, manager.next_id)) - alive)


def put_back(manager: Manager, old: Manager) -> None:
    """The manager's store is an older one."""
    manager.namespaces, manager.next_id, manager.routing = dict(old.namespaces), old.next_id, old.routing


async def test_an_older_list_is_not_taken(manager: Manager, table: NamespaceTable) -> None:
    manager.make("a")
    manager.make("b")
    await table.read()
    old = Manager()
    old.make("a")
    stale = NamespaceTable(old, OsClock())
    await stale.read()
    assert deleted(stale) == []  # to somebody who has seen nothing else, ids that were given out since are unknown
    table._source = old
    with pytest.raises(FS3Error, match="its store is older than the cluster") as refused:
        await table.read()
    assert refused.value.code is Code.STALE
    assert (ids(table), deleted(table)) == ([1, 2], [])


async def test_a_list_that_is_older_than_routing_is_not_taken(manager: Manager, table: NamespaceTable) -> None:
    manager.make("a")
    manager.make("b")
    answer = await manager.list_namespaces()
    manager.make("c")
    manager.list_namespaces = lambda **_: _answer(answer)  # type: ignore[method-assign]
    with pytest.raises(FS3Error, match="version 2 and ids below 3, 3 and 0 were seen before"):
        await table.read()
    assert (ids(table), deleted(table)) == ([], [])


async def test_a_store_that_is_put_back_while_the_list_is_read(manager: Manager, table: NamespaceTable) -> None:
    old = Manager()
    for name in "abc":
        old.make(name)
        manager.make(name)
    manager.make("d")
    manager.between = lambda: put_back(manager, old)
    with pytest.raises(FS3Error, match="older than the cluster"):
        await table.read()
    assert deleted(table) == []


async def _answer(page: NamespacePage) -> NamespacePage:
    return page


@pytest.mark.parametrize(
    "names",
    [(), ("a",), ("b", "a")],
    ids=["no names, and more of them", "the same name again", "names in no order"],
)
async def test_a_list_without_end_is_refused(manager: Manager, table: NamespaceTable, names: tuple[str, ...]) -> None:
    page = NamespacePage(tuple(CacheNamespace(1, name, 10, 1, TableId(1)) for name in names), more=True, version=1, next_id=2)
    manager.list_namespaces = lambda **_: _answer(page)  # type: ignore[method-assign]
    with pytest.raises(FS3Error) as refused:
        await table.read()
    assert refused.value.code is Code.PROTOCOL
    assert (len(table), table.next_id) == (0, 0)


async def test_no_more_names_are_kept_than_there_may_be(
    manager: Manager, table: NamespaceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "read_names_max", 4)
    for name in "abcdefgh":
        manager.make(name)
    with pytest.raises(FS3Error, match="does not end after 6"):
        await table.read()


# --- in the background ------------------------------------------------------------------------------------------------


@pytest.fixture
async def running(table: NamespaceTable, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "refresh_pause_ns", 0)
    monkeypatch.setattr(module, "refresh_pause_factor", 0)
    monkeypatch.setattr(module, "refresh_retry_first_ns", 1)
    monkeypatch.setattr(module, "refresh_retry_most_ns", 1)
    yield table
    await table.stop()


async def known(table: NamespaceTable, condition: Callable[[], bool]) -> None:
    """Wait until the table, which tells of every change, has it so."""
    changed = asyncio.Event()
    table.on_change(changed.set)
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await changed.wait()
            changed.clear()


async def test_the_list_is_read_when_it_has_changed(manager: Manager, running: NamespaceTable) -> None:
    manager.make("a")
    running.start()
    await known(running, lambda: ids(running) == [1])
    running.on_routing_changed(manager.routing)
    for _ in range(20):
        await asyncio.sleep(0)
    assert manager.reads == 1, "nothing has changed"
    manager.clear("a")
    running.on_routing_changed(manager.routing)
    await known(running, lambda: (ids(running), deleted(running)) == ([2], [1]))
    assert (running.version, manager.reads) == (2, 2)


async def test_it_is_read_again_when_it_changed_meanwhile(manager: Manager, running: NamespaceTable) -> None:
    for name in "mno":
        manager.make(name)
    changes = iter(["a", "b"])
    manager.between = lambda: manager.make(name) if (name := next(changes, None)) else None
    running.start()
    await known(running, lambda: ids(running) == [1, 2, 3, 4, 5])


async def test_a_manager_that_does_not_answer_is_asked_again(
    manager: Manager, running: NamespaceTable, caplog: pytest.LogCaptureFixture
) -> None:
    manager.make("a")
    manager.failures = 5
    with caplog.at_level(logging.WARNING):
        running.start()
        await known(running, lambda: ids(running) == [1])
    assert caplog.messages == ["the list of namespaces cannot be read: nobody is there"], "it is said once"


async def test_readings_of_a_list_that_changes_all_the_time_are_apart(
    manager: Manager, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = NamespaceTable(manager, clock)
    manager.make("a")
    pauses: list[float] = []
    pass_time = asyncio.sleep
    enough = asyncio.Event()

    async def change_meanwhile(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
            manager.clear("a")
            table.on_routing_changed(manager.routing)
            if len(pauses) == 3:
                manager.before_answer = lambda: setattr(clock, "time", clock.time + SECOND // 2)
            elif len(pauses) == 5:
                enough.set()
        await pass_time(seconds)

    monkeypatch.setattr("fs3.services.storage.namespaces.asyncio.sleep", change_meanwhile)
    table.start()
    try:
        async with asyncio.timeout(WAIT_S):
            await enough.wait()
    finally:
        await table.stop()
    assert pauses[:5] == [0.1, 0.1, 0.1, 4.5, 4.5]
