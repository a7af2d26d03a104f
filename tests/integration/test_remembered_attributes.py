"""What a client remembers of attributes and names, with another client that changes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import fs3
from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.base.ids import ROOT_INODE
from fs3.core.meta import keys
from fs3.drivers.lmdb.kv import LmdbKV
from fs3.drivers.os.clock import OsClock
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef, RemoveKind
from fs3.model.requests import Link, List, Mkdir, Open, Put, Remove, Rename, Request, SetAttributes, SetXattr, Stat
from fs3.services.meta import attribute_leases
from fs3.services.meta.attribute_leases import attribute_lease_ns
from tests.space import SpaceGuard


class Counted:
    """A client that remembers, and how often it asked for attributes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.asked = 0
        send = client.meta._send

        async def count(method: Any, *arguments: Any, **how: Any) -> Any:
            self.asked += method.name in ("Stat", "List", "Open")
            return await send(method, *arguments, **how)

        client.meta._send = count  # type: ignore[method-assign]

    async def stat(self, path: PathRef) -> Inode:
        return await self.client.meta.ask(Stat(path, follow=False))

    async def is_remembered(self, path: PathRef) -> bool:
        """Asking for it asks no service."""
        before = self.asked
        await self.stat(path)
        return self.asked == before

    async def wait_leases(self) -> None:
        """Until this client has leases."""
        while not await self.is_remembered(PathRef(ROOT_INODE, "")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def two_clients(space_guard: SpaceGuard) -> AsyncIterator[tuple[Counted, Client]]:
    with space_guard.lend("remembered") as home:
        async with await fs3.connect_embedded(home) as one, await fs3.connect_embedded(home) as two:
            one.meta.remember_attributes()
            counted = Counted(one)
            await counted.wait_leases()
            yield counted, two


def at(name: str = "", directory: int = ROOT_INODE) -> PathRef:
    return PathRef(directory, name)  # type: ignore[arg-type]


async def test_what_was_asked_for_is_not_asked_for_again(space_guard: SpaceGuard) -> None:
    async with two_clients(space_guard) as (one, two):
        await two.meta.ask(Put(at("f"), b"x"))
        inode = await one.stat(at("f"))
        for path in (at("f"), at("", inode.id)):
            assert await one.is_remembered(path)
            assert await one.stat(path) == inode
        assert not await one.is_remembered(at("./f")), "only a name in a directory is"


async def test_a_listing_brings_all_attributes(space_guard: SpaceGuard) -> None:
    async with two_clients(space_guard) as (one, two):
        for number in range(50):
            await two.meta.ask(Put(at(f"f{number}"), b"x" * number))
        await one.client.meta.ask(List(at(), with_inodes=True))
        before = one.asked
        for number in range(50):
            assert (await one.stat(at(f"f{number}"))).length == number
        assert one.asked == before


CHANGES: dict[str, Request[Any]] = {
    "content": Put(at("f"), b"other bytes"),
    "mode": SetAttributes(at("f"), follow=False, mode=0o600),
    "xattr": SetXattr(at("f"), b"user.a", b"1", follow=False),
    "another name": Link(at("f"), at("g")),
    "the name goes": Remove(at("f"), RemoveKind.FILE),
    "renamed": Rename(at("f"), at("g")),
    "replaced": Rename(at("other"), at("f")),
    "the directory's mode": SetAttributes(at(), follow=False, mode=0o700),
}


WAYS = [
    (changed, who)
    for changed, request in CHANGES.items()
    for who in ("another", "itself", "itself in a batch")
    if who != "itself in a batch" or not isinstance(request, SetXattr)  # which travels alone
]


@pytest.mark.parametrize(("changed", "who"), WAYS)
async def test_a_change_that_was_answered_is_seen(space_guard: SpaceGuard, changed: str, who: str) -> None:
    async with two_clients(space_guard) as (one, two):
        for name in ("f", "other"):
            await two.meta.ask(Put(at(name), name.encode()))
            await one.stat(at(name))
        await one.stat(at())
        if who == "itself in a batch":
            await one.client.meta.batch([Stat(at("f"), follow=False), CHANGES[changed]])
        else:
            await (two if who == "another" else one.client).meta.ask(CHANGES[changed])
        for name in ("f", "g", "other", ""):
            outcomes = []
            for client in (one.client, two):
                try:
                    outcomes.append(await client.meta.ask(Stat(at(name), follow=False)))
                except FS3Error as why:
                    outcomes.append(why.code)  # type: ignore[arg-type]
            assert outcomes[0] == outcomes[1], name


async def test_a_batch_of_changes_drops_what_it_changes(space_guard: SpaceGuard) -> None:
    async with two_clients(space_guard) as (one, two):
        inodes = [await two.meta.ask(Put(at(name), b"x")) for name in ("f", "g")]
        for inode in inodes:
            await one.stat(at("", inode.id))
        here = at("", inodes[0].id)
        await one.client.meta.batch([Put(here, b"other", change=inodes[0].change), SetAttributes(here, follow=False, mode=0o600)])
        assert await one.is_remembered(at("", inodes[1].id))
        assert ((await one.stat(here)).length, (await one.stat(here)).mode) == (5, 0o600)


async def submitted(client: Client, request: Request[Inode]) -> Inode:
    told: asyncio.Future[tuple[Inode | None, FS3Error | None]] = asyncio.get_running_loop().create_future()
    client.meta.submit(request, lambda *outcome: told.set_result(outcome))
    assert not told.done()
    answer, why = await asyncio.wait_for(told, 20)
    assert answer is not None, why
    return answer


async def test_what_is_submitted_is_remembered(space_guard: SpaceGuard) -> None:
    async with two_clients(space_guard) as (one, two):
        question = Stat(at("f"), follow=False)
        for length in (1, 5):
            await two.meta.ask(Put(at("f"), bytes(length)))
            before = one.asked
            assert (await submitted(one.client, question)).length == length
            assert one.asked == before, "without a task"
            assert await one.is_remembered(at("f"))
            assert (await submitted(one.client, question)).length == length


async def test_what_is_submitted_and_overtaken_by_a_change_is_not_remembered(space_guard: SpaceGuard) -> None:
    async with two_clients(space_guard) as (one, two):
        await two.meta.ask(Put(at("f"), b"x"))
        on_its_way = asyncio.ensure_future(submitted(one.client, Stat(at("f"), follow=False)))
        await asyncio.sleep(0)
        await asyncio.gather(on_its_way, one.client.meta.ask(Put(at("f"), b"other")))
        assert (await one.stat(at("f"))).length == 5


async def test_other_names_of_a_file_that_one_was_taken_of(space_guard: SpaceGuard) -> None:
    async with two_clients(space_guard) as (one, two):
        await two.meta.ask(Put(at("f"), b"x"))
        await two.meta.ask(Link(at("f"), at("g")))
        assert (await one.stat(at("g"))).nlink == 2
        await one.client.meta.ask(Remove(at("f"), RemoveKind.FILE))
        assert (await one.stat(at("g"))).nlink == 1


async def test_names_are_remembered_for_the_user_who_asked(space_guard: SpaceGuard) -> None:
    async with two_clients(space_guard) as (one, two):
        closed = await two.meta.ask(Mkdir(at("closed"), 0o700))
        await two.meta.ask(Put(at("f", closed.id), b"x"))
        await one.stat(at("f", closed.id))
        with pytest.raises(PermissionError):
            await one.client.as_user(1000, 1000).meta.ask(Stat(at("f", closed.id), follow=False))


async def test_a_tree_that_goes(space_guard: SpaceGuard) -> None:
    async with two_clients(space_guard) as (one, two):
        directory = await two.meta.ask(Mkdir(at("d")))
        await two.meta.ask(Put(at("f", directory.id), b"x"))
        for client in (one.client, two):
            await two.meta.ask(Mkdir(at("d"), parents=True))
            await one.stat(at("d"))
            await client.meta.ask(Remove(at("d"), RemoveKind.TREE))
            with pytest.raises(FileNotFoundError):
                await one.stat(at("d"))


async def test_a_client_that_falls_silent_is_waited_for_until_its_lease_is_over(space_guard: SpaceGuard) -> None:
    async with two_clients(space_guard) as (one, two):
        await two.meta.ask(Put(at("f"), b"x"))
        await one.stat(at("f"))
        assert one.client.meta.remembered is not None
        task = one.client.meta.remembered._task
        assert task is not None
        task.cancel()
        await two.meta.ask(Put(at("f"), b"longer"))
        assert (await one.stat(at("f"))).length == 6


async def test_a_client_that_has_too_much_noted_forgets_all(space_guard: SpaceGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute_leases, "watched_inodes_max", 20)
    async with two_clients(space_guard) as (one, two):
        for number in range(30):
            await two.meta.ask(Put(at(f"f{number}"), b"x"))
        for round_ in range(3):
            for number in range(30):
                assert (await one.stat(at(f"f{number}"))).length == round_ + 1
                await two.meta.ask(Put(at(f"f{number}"), b"x" * (round_ + 2)))
                assert (await one.stat(at(f"f{number}"))).length == round_ + 2


async def test_an_open_is_asked_for_in_any_case(space_guard: SpaceGuard) -> None:
    async with two_clients(space_guard) as (one, two):
        await two.meta.ask(Put(at("f"), b"x"))
        await one.stat(at("f"))
        before = one.asked
        await one.client.meta.ask(Open(at("f"), want_data=True))
        assert one.asked == before + 1


async def test_who_comes_after_a_process_that_was_killed_waits_for_its_leases(space_guard: SpaceGuard) -> None:
    """A row of another process is in the store: outcomes are told when its leases are over."""
    with space_guard.lend("remembered") as home:
        async with await fs3.connect_embedded(home) as client:
            await client.meta.ask(Put(at("f"), b"x"))
        (store,) = [path.parent for path in home.rglob("data.mdb") if "meta" in str(path.parent)]
        kv = LmdbKV.open(store)

        async def note(txn: Any) -> None:
            txn.put(keys.LEASES, b"another process!")

        await kv.transact(note)
        await kv.close()
        begun = OsClock().now()
        async with await fs3.connect_embedded(home) as client:
            await client.meta.ask(Put(at("f"), b"y"))
            assert OsClock().now() - begun >= attribute_lease_ns
