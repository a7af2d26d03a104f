"""Watches at one service, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest

from fs3.base.ids import ClientId, InodeId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.core.meta import keys
from fs3.core.txn import Txn
from fs3.drivers.memory.kv import MemoryKV
from fs3.drivers.os.clock import OsClock
from fs3.model.requests import Truncate
from fs3.model.routing import Role
from fs3.model.watch import END_WATCH, Watch, WatchNews
from fs3.services.meta import attribute_leases
from fs3.services.meta.attribute_leases import AttributeLeases
from fs3.services.meta.leased_kv import ClientOp, LeasedKV

A, B = ClientId(b"a" * 16), ClientId(b"b" * 16)
ONE, TWO, THREE = InodeId(1), InodeId(2), InodeId(3)


class Bench:
    """A service, and others on its store."""

    def __init__(self) -> None:
        self.kv = MemoryKV()
        self.metas = 1
        self.leases = self.service(b"one")

    def service(self, name: bytes) -> AttributeLeases:
        def nodes() -> dict[int, Any]:
            return {number: SimpleNamespace(role=Role.META) for number in range(self.metas)}

        class Source:
            @property
            def routing(self) -> Any:
                return SimpleNamespace(nodes=nodes())

        source: Any = Source()
        return AttributeLeases(self.kv, OsClock(), source, name.ljust(16))

    def ask(self, client: ClientId, watch: int = 0, seen: int = 0) -> asyncio.Future[WatchNews]:
        """A question; its answer, or an FS3Error."""
        future: asyncio.Future[WatchNews] = asyncio.get_running_loop().create_future()

        def answer(news: WatchNews | None, why: BaseException | None) -> None:
            if why is not None:
                future.set_exception(why)
            else:
                assert news is not None
                future.set_result(news)

        self.leases.ask(client, Watch(watch, seen), answer)
        return future

    async def begin(self, client: ClientId) -> tuple[int, int]:
        """A watch that has forgotten everything: its number, and the serial of that."""
        while True:
            try:
                news = await self.ask(client)
            except OSError:
                await asyncio.sleep(0)
                continue
            assert news.all
            return news.watch, news.serial

    def change(self, *inodes: InodeId, client: ClientId | None = None, dropped: Collection[InodeId] = ()) -> asyncio.Future[None]:
        """A change; done when its outcome is told."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.leases.tell(inodes, client, lambda: future.set_result(None), dropped)
        return future


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that end soon."""
    monkeypatch.setattr(attribute_leases, "attribute_lease_ns", 60 * MILLISECOND)
    monkeypatch.setattr(attribute_leases, "watch_wait_ns", 20 * MILLISECOND)


async def test_a_change_waits_for_who_was_told() -> None:
    bench = Bench()
    watch, serial = await bench.begin(A)
    question = bench.ask(A, watch, serial)
    assert bench.leases.note(A, (ONE, TWO)) == watch
    change = bench.change(ONE)
    news = await question
    assert (news.inodes, news.all, news.serial) == ((ONE,), False, serial + 1)
    assert not change.done()
    bench.ask(A, watch, news.serial)
    await change
    assert bench.change(ONE).done(), "it is not noted any more"
    assert not bench.change(TWO).done()


async def test_a_second_change_waits_for_who_has_not_acted_on_the_first() -> None:
    """Its client may still answer what was before both."""
    bench = Bench()
    watch, serial = await bench.begin(A)
    question = bench.ask(A, watch, serial)
    bench.leases.note(A, (ONE,))
    first = bench.change(ONE)
    news = await question
    second = bench.change(ONE)
    assert not second.done()
    assert bench.change(ONE, client=A).done(), "who makes the change is not waited for"
    assert bench.leases.note(A, (ONE,)) == watch, "as it is after two of them"
    third = bench.change(ONE)
    question = bench.ask(A, watch, news.serial)
    assert (first.done(), second.done(), third.done()) == (True, True, False)
    again = await question
    assert again.inodes == (ONE,)
    fourth = bench.change(ONE)
    question = bench.ask(A, watch, again.serial)
    assert third.done()
    assert fourth.done()
    assert not question.done(), "there are no news"
    assert bench.change(ONE).done()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions are kept until there are urgent news."""
    monkeypatch.setattr(attribute_leases, "watch_wait_ns", 1 << 50)


async def test_who_changes_what_it_drops_by_itself_hears_of_it_when_its_question_is_over(short: None) -> None:
    bench = Bench()
    watch, serial = await bench.begin(A)
    question = bench.ask(A, watch, serial)
    bench.leases.note(A, (ONE, TWO))
    assert bench.change(ONE, client=A, dropped=(ONE,)).done()
    news = await question
    assert news.inodes == (ONE,), "it may have been an old request, of which the client has not heard"


async def test_who_changes_what_it_drops_by_itself_is_not_told_of_each_change(patient: None) -> None:
    bench = Bench()
    watch, serial = await bench.begin(A)
    question = bench.ask(A, watch, serial)
    for _ in range(3):
        bench.leases.note(A, (ONE,))
        assert bench.change(ONE, client=A, dropped=(ONE,)).done()
    bench.leases.note(A, (ONE, TWO))
    assert not bench.change(TWO, client=B).done()
    assert set((await question).inodes) == {ONE, TWO}, "urgent news take the others with them"


async def test_who_changes_what_it_may_not_drop_hears_of_it_at_once(patient: None) -> None:
    bench = Bench()
    watch, serial = await bench.begin(A)
    question = bench.ask(A, watch, serial)
    bench.leases.note(A, (ONE, TWO))
    assert bench.change(ONE, TWO, client=A, dropped=(ONE,)).done()
    assert set((await question).inodes) == {ONE, TWO}


@pytest.mark.parametrize("is_asking", [True, False])
async def test_what_waits_for_a_client_makes_its_news_urgent(patient: None, is_asking: bool) -> None:
    """Also those of a change of its own, which it was not told of yet."""
    bench = Bench()
    watch, serial = await bench.begin(A)
    question = bench.ask(A, watch, serial)
    bench.leases.note(A, (ONE, TWO))
    if not is_asking:
        bench.change(TWO)
        serial = (await question).serial
    bench.change(ONE, client=A, dropped=(ONE,))
    change = bench.change(ONE, client=B)
    assert not change.done()
    if not is_asking:
        question = bench.ask(A, watch, serial)
    news = await question
    assert ONE in news.inodes
    assert not change.done()
    bench.ask(A, watch, news.serial)
    await change


async def test_a_second_change_waits_until_the_lease_is_over(short: None) -> None:
    bench = Bench()
    await bench.begin(A)
    bench.leases.note(A, (ONE,))
    changes = [bench.change(ONE, client=A), bench.change(ONE, client=B), bench.change(ONE, client=B)]
    assert [change.done() for change in changes] == [True, False, False]
    await asyncio.gather(*changes)
    assert bench.change(ONE).done()


async def test_what_nobody_was_told_waits_for_nobody() -> None:
    bench = Bench()
    watch, _ = await bench.begin(A)
    assert bench.change(ONE).done()
    assert bench.leases.note(B, (ONE,)) == 0, "it has no watch"
    assert bench.change(ONE).done()
    bench.leases.note(A, (TWO,))
    assert bench.change(TWO, client=A).done(), "who makes the change is not waited for"
    assert (await bench.ask(A, watch)).all, "it has not said that it has forgotten everything"


async def test_news_are_told_until_they_were_acted_on() -> None:
    bench = Bench()
    watch, serial = await bench.begin(A)
    bench.leases.note(A, (ONE, TWO, THREE))
    first = bench.change(ONE)
    lost = await bench.ask(A, watch, serial)
    assert lost.inodes == (ONE,)
    second = bench.change(TWO)
    news = await bench.ask(A, watch, serial)
    assert news.inodes == (ONE, TWO)
    assert not first.done()
    question = bench.ask(A, watch, news.serial)
    assert first.done()
    assert second.done()
    assert not question.done()


async def test_who_asks_no_more_is_waited_for_until_its_lease_is_over(short: None) -> None:
    bench = Bench()
    watch, serial = await bench.begin(A)
    bench.leases.note(A, (ONE,))
    assert not (await bench.ask(A, watch, serial)).inodes, "nothing has changed while it was kept"
    await bench.change(ONE)
    assert bench.leases.note(A, (ONE,)) == 0


async def test_who_asks_and_never_hears_is_waited_for_until_the_lease_is_over_that_it_had(short: None) -> None:
    """Its questions arrive, and no answer does."""
    bench = Bench()
    watch, serial = await bench.begin(A)
    await bench.ask(A, watch, serial)
    bench.leases.note(A, (ONE,))
    change, begun = bench.change(ONE), OsClock().now()
    while not change.done():
        assert OsClock().now() - begun < 100 * attribute_leases.attribute_lease_ns
        assert (await bench.ask(A, watch, serial)).inodes == (ONE,)
        await asyncio.sleep(0.005)


async def test_a_second_watch_of_a_client_leaves_the_first_one_its_lease(short: None) -> None:
    """The question that began it may be an old one, that was late."""
    bench = Bench()
    watch, _ = await bench.begin(A)
    bench.leases.note(A, (ONE,))
    other, _ = await bench.begin(A)
    assert other != watch
    change = bench.change(ONE)
    assert not change.done()
    await change


async def test_the_end_of_a_watch() -> None:
    bench = Bench()
    watch, _ = await bench.begin(A)
    bench.leases.note(A, (ONE,))
    change = bench.change(ONE)
    assert (await bench.ask(A, watch, END_WATCH)).watch == 0
    assert change.done()
    assert bench.leases.note(A, (ONE,)) == 0


async def test_a_client_that_has_too_much_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute_leases, "watched_inodes_max", 1)
    bench = Bench()
    watch, serial = await bench.begin(A)
    question = bench.ask(A, watch, serial)
    assert bench.leases.note(A, (ONE, TWO)) == watch
    assert bench.leases.note(A, (THREE,)) == 0
    news = await question
    assert news.all
    change = bench.change(ONE)
    assert not change.done(), "it may not have forgotten yet"
    bench.ask(A, watch, (await bench.ask(A, watch, news.serial)).serial)
    assert change.done()
    assert bench.change(TWO).done()
    assert bench.leases.note(A, (ONE,)) == watch


async def test_a_full_watch_is_emptied_by_what_was_told_after_it_was_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute_leases, "watched_inodes_max", 1)
    bench = Bench()
    watch, serial = await bench.begin(A)
    bench.leases.note(A, (ONE, TWO))
    assert bench.leases.note(A, (THREE,)) == 0
    news = await bench.ask(A, watch, serial)
    assert news.all
    change = bench.change(TWO)
    assert not change.done(), "it has forgotten everything before it was told of these"
    bench.ask(A, watch, news.serial)
    assert not change.done()


async def test_many_news_are_told_as_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute_leases, "news_inodes_max", 2)
    bench = Bench()
    watch, serial = await bench.begin(A)
    bench.leases.note(A, (ONE, TWO, THREE))
    bench.change(ONE, TWO, THREE)
    news = await bench.ask(A, watch, serial)
    assert (news.all, news.inodes) == (True, ())


async def test_clients_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute_leases, "watches_max", 1)
    bench = Bench()
    await bench.begin(A)
    with pytest.raises(OSError, match="have watches already") as caught:
        await bench.ask(B)
    assert caught.value.code is Code.UNSUPPORTED  # type: ignore[attr-defined]


async def test_several_services_give_none() -> None:
    bench = Bench()
    watch, serial = await bench.begin(A)
    bench.leases.note(A, (ONE,))
    bench.metas = 2
    with pytest.raises(OSError, match="several metadata services"):
        await bench.ask(A, watch, serial)
    assert bench.leases.note(A, (TWO,)) == 0
    assert not bench.change(ONE).done(), "what it had goes on until it is over"


async def test_the_change_of_another_process_ends_them(short: None) -> None:
    bench = Bench()
    watch, serial = await bench.begin(A)
    bench.leases.note(A, (ONE,))
    other = bench.service(b"two")
    kv = LeasedKV(bench.kv, other)

    async def put(txn: Txn) -> str:
        txn.put(keys.inode_key(ONE), b"x")
        return "done"

    begun = OsClock().now()
    assert await kv.transact(put) == "done"
    assert OsClock().now() - begun >= attribute_leases.attribute_lease_ns, "its client may answer from memory so long"
    with pytest.raises(OSError, match="no leases are given"):
        await bench.ask(A, watch, serial)
    assert bench.leases.note(A, (TWO,)) == 0


async def test_what_a_transaction_changes_is_seen_from_its_rows() -> None:
    bench = Bench()
    kv = LeasedKV(bench.kv, bench.leases)
    watch, serial = await bench.begin(A)
    bench.leases.note(A, (ONE, TWO, THREE))
    question = bench.ask(A, watch, serial)

    async def work(txn: Txn) -> None:
        txn.put(keys.inode_key(ONE), b"x")
        txn.delete(keys.inode_key(TWO))
        txn.put(keys.data_key(THREE), b"x")

    await kv.transact(ClientOp(work, A, Truncate(THREE, 0), makes_room=False))
    assert set((await question).inodes) == {ONE, TWO}

    async def fail(txn: Txn) -> None:
        txn.put(keys.inode_key(THREE), b"x")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await kv.transact(fail)
    assert not bench.change(THREE).done(), "what was dropped is no news"


async def test_a_process_that_is_stopped_takes_its_row_with_it_when_no_client_has_a_lease() -> None:
    for ends in (True, False):
        bench = Bench()
        watch, _ = await bench.begin(A)
        if ends:
            await bench.ask(A, watch, END_WATCH)
        await bench.leases.stop()
        found = await bench.kv.read(lambda txn: txn.get(keys.LEASES))
        assert (found is None) is ends
