"""What every `KV` must do. Subclass `KVTests` beside the driver's own tests and say how a store is opened."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fs3.base.checksum import seal_row
from fs3.base.errors import FS3Error
from fs3.base.limits import key_bytes_stored_max
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.core.txn import DAMAGED_VALUE, KVRowDamaged, ReadTxn, Txn
from fs3.ports.kv import KV


class DeliberateError(Exception):
    """Raised by an operation of these tests."""


class KVTests(ABC):
    """The conformance suite. Tests are plain methods; the runner needs pytest's `tmp_path` and an asyncio mode."""

    persistent = True
    """Opening the same directory again finds the same rows."""

    @abstractmethod
    async def open(self, directory: Path) -> KV:
        """A store in `directory`, empty when that is."""

    @abstractmethod
    async def damage(self, kv: KV, directory: Path, rows: dict[bytes, bytes]) -> KV:
        """Put rows into a store behind its back, as they are kept: with a sum, or with what is none. Returns the store, which may
        have been opened anew for it."""

    @asynccontextmanager
    async def opened(self, directory: Path) -> AsyncIterator[KV]:
        """`open`, closed at the end."""
        kv = await self.open(directory)
        try:
            yield kv
        finally:
            await kv.close()

    # --- rows ---------------------------------------------------------------------------------------------------------

    async def test_rows_are_put_read_replaced_and_deleted(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as kv:
            await kv.transact(puts({b"a": b"1", b"b": b"", b"c": b"3"}))
            assert await kv.read(get(b"a")) == b"1"
            assert await kv.read(get(b"b")) == b""
            assert await kv.read(get(b"d")) is None
            await kv.transact(puts({b"a": b"one", b"c": None, b"absent": None}))
            assert await read_all_rows(kv) == [(b"a", b"one"), (b"b", b"")]

    # --- damage -------------------------------------------------------------------------------------------------------

    async def test_a_damaged_row_is_refused_and_never_absent(self, tmp_path: Path) -> None:
        kv = await self.open(tmp_path)
        sound = {b"a": b"1", b"b": b"2", b"d": b"4"}
        await kv.transact(puts(sound))
        # One that rotted, one that is another key's, one that is too short for a sum.
        rotten = {b"c": seal_row(b"c", b"3")[:-1] + b"4", b"e": seal_row(b"d", b"4"), b"f": b"ab"}
        kv = await self.damage(kv, tmp_path, rotten)
        try:
            for key in rotten:
                for op in (get(key), scan(key, key + b"\0", 10), scan(b"", b"z", 100)):
                    why = await failure(asyncio.ensure_future(kv.read(op)))
                    assert isinstance(why, KVRowDamaged)
                    assert why.code is Code.DATA_LOSS
                    assert {why.key, why.damaged} & {*rotten}
            assert [await kv.read(get(key)) for key in sound] == [*sound.values()]
            assert await kv.read(scan(b"", b"z", 2)) == [(b"a", b"1"), (b"b", b"2")]
        finally:
            await kv.close()

    async def test_a_transaction_that_meets_damage_leaves_no_trace(self, tmp_path: Path) -> None:
        kv = await self.open(tmp_path)
        await kv.transact(puts({b"a": b"1", b"e": b"2"}))
        kv = await self.damage(kv, tmp_path, {b"c": b"damaged"})
        try:

            async def op(txn: Txn) -> None:
                txn.put(b"x", b"written")
                await txn.get(b"c")

            assert isinstance(await failure(asyncio.ensure_future(kv.transact(op))), KVRowDamaged)
            assert await kv.read(get(b"x")) is None
            deleted: dict[bytes, bytes | None] = {b"c": None}
            await kv.transact(puts(deleted))
            assert await read_all_rows(kv) == [(b"a", b"1"), (b"e", b"2")], "deleted, and so repaired"
        finally:
            await kv.close()

    async def test_who_looks_for_damage_is_shown_it(self, tmp_path: Path) -> None:
        kv = await self.open(tmp_path)
        await kv.transact(puts({b"a": b"1", b"z": b"2"}))
        kv = await self.damage(kv, tmp_path, {b"c": b"damaged"})
        try:

            async def look(txn: ReadTxn) -> list[Any]:
                view = txn.tolerant()
                return [await view.get(b"a"), await view.get(b"c"), await view.scan(b"", b"zz", 10)]

            async def replace(txn: Txn) -> list[Any]:
                view = txn.tolerant()
                view.put(b"c", b"3")
                return [await view.get(b"c"), await txn.get(b"c"), await view.scan(b"b", b"d", 10)]

            assert await kv.read(look) == [
                b"1",
                DAMAGED_VALUE,
                [(b"a", b"1"), (b"c", DAMAGED_VALUE), (b"z", b"2")],
            ]
            assert await kv.transact(replace) == [b"3", b"3", [(b"c", b"3")]]
            assert await kv.read(get(b"c")) == b"3"
        finally:
            await kv.close()

    # --- transactions -------------------------------------------------------------------------------------------------

    async def test_a_transaction_sees_its_own_writes(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as kv:
            await kv.transact(puts({b"a": b"1", b"b": b"2", b"c": b"3"}))

            async def op(txn: Txn) -> list[Any]:
                txn.put(b"b", b"two")
                txn.delete(b"c")
                txn.put(b"d", b"4")
                txn.put(b"a", b"x")
                txn.delete(b"a")
                scanned = await txn.scan(b"", b"z", 10)
                return [await txn.get(b"a"), await txn.get(b"b"), await txn.get(b"c"), await txn.get(b"d"), scanned]

            assert await kv.transact(op) == [None, b"two", None, b"4", [(b"b", b"two"), (b"d", b"4")]]
            assert await read_all_rows(kv) == [(b"b", b"two"), (b"d", b"4")]

    async def test_keys_are_ordered_as_bytes_and_may_be_long(self, tmp_path: Path) -> None:
        keys = [b"\x00", b"\x00\x00", b"\x01", b"a", b"a\x00", b"a\xff", b"aa", b"\xff", b"\xff" * key_bytes_stored_max]
        async with self.opened(tmp_path) as kv:
            await kv.transact(puts(dict.fromkeys(reversed(keys), b"v")))
            assert [key for key, _ in await read_all_rows(kv)] == sorted(keys)

    async def test_many_rows_are_as_each_of_them(self, tmp_path: Path) -> None:
        keys = [b"b", b"a", b"d", b"b", b"c"]

        async def change_and_look(txn: Txn) -> list[bytes | None]:
            txn.put(b"c", b"new")
            txn.delete(b"a")
            return await txn.get_many(keys)

        async with self.opened(tmp_path) as kv:
            await kv.transact(puts({b"a": b"1", b"b": b"2"}))
            assert await kv.read(lambda txn: txn.get_many(keys)) == [b"2", b"1", None, b"2", None]
            assert await kv.read(lambda txn: txn.get_many([])) == []
            assert await kv.transact(change_and_look) == [b"2", None, None, b"2", b"new"]

    async def test_scan_takes_a_half_open_range_a_limit_and_a_direction(self, tmp_path: Path) -> None:
        names = [f"{number:03}".encode() for number in range(0, 100, 2)]
        async with self.opened(tmp_path) as kv:
            await kv.transact(puts({name: b"v" + name for name in names}))
            for begin, end in [
                (b"010", b"020"),
                (b"011", b"021"),
                (b"", b"\xff" * 600),
                (b"050", b"050"),
                (b"9", b"1"),
                (b"100", b"z"),
            ]:
                inside = [(name, b"v" + name) for name in names if begin <= name < end]
                for limit in (0, 1, 3, 1000):
                    assert await kv.read(scan(begin, end, limit)) == inside[:limit]
                    assert await kv.read(scan(begin, end, limit, reverse=True)) == inside[::-1][:limit]
                    assert await kv.transact(scan(begin, end, limit)) == inside[:limit]
                    assert await kv.transact(scan(begin, end, limit, reverse=True)) == inside[::-1][:limit]

    async def test_scan_merges_rows_of_transactions_that_wait_for_their_commit(self, tmp_path: Path) -> None:
        """Random rows, half of them committed long ago, half in the same burst as the scans."""
        prng = Prng(11)
        model: dict[bytes, bytes] = {}
        async with self.opened(tmp_path) as kv:
            waiting: list[tuple[asyncio.Future[Any], Any]] = []
            for step in range(400):
                changes: dict[bytes, bytes | None] = {
                    b"k%03d" % prng.below(120): None if prng.chance(1, 3) else b"v%d" % step for _ in range(prng.below(4))
                }
                waiting.append((start_transaction(kv, puts(changes)), None))
                for key, value in changes.items():
                    model.pop(key, None)
                    if value is not None:
                        model[key] = value
                begin, end = sorted((b"k%03d" % prng.below(130), b"k%03d" % prng.below(130)))
                limit, reverse = prng.below(9), prng.chance(1, 2)
                wanted = sorted(((k, v) for k, v in model.items() if begin <= k < end), reverse=reverse)[:limit]
                waiting.append((start_transaction(kv, scan(begin, end, limit, reverse=reverse)), wanted))
                if prng.chance(1, 40):
                    await waiting[prng.below(len(waiting))][0]
            for future, wanted in waiting:
                assert await future == wanted
            assert await read_all_rows(kv) == sorted(model.items())

    async def test_a_bad_row_is_refused_in_the_operation_that_writes_it(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as kv:
            for key in (b"", b"x" * (key_bytes_stored_max + 1)):
                bad, good = start_transaction(kv, puts({b"other": b"1", key: b"v"})), start_transaction(kv, puts({b"good": b"1"}))
                assert isinstance(await failure(bad), ValueError)
                await good
            assert await read_all_rows(kv) == [(b"good", b"1")]

    # --- transactions -------------------------------------------------------------------------------------------------

    async def test_an_operation_that_raises_leaves_nothing_and_harms_nobody(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as kv:

            async def refuse(txn: Txn) -> None:
                txn.put(b"bad", b"1")
                txn.delete(b"before")
                raise DeliberateError("no")

            futures = [start_transaction(kv, op) for op in (puts({b"before": b"1"}), refuse, puts({b"after": b"1"}))]
            await futures[0]
            assert isinstance(await failure(futures[1]), DeliberateError)
            await futures[2]
            assert await read_all_rows(kv) == [(b"after", b"1"), (b"before", b"1")]

    async def test_operations_take_effect_in_the_order_of_submission(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as kv:
            order: list[int] = []
            everybody: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def appended(number: int) -> Callable[[Any, BaseException | None], None]:
                def done(result: Any, why: BaseException | None) -> None:
                    order.append(result)
                    if len(order) == 1500:
                        everybody.set_result(None)

                return done

            for number in range(1500):
                kv.submit(append_count(b"log"), appended(number))
            await everybody
            assert order == list(range(1500))
            assert await kv.read(get(b"log")) == b"1500"

    async def test_concurrent_increments_are_serializable(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as kv:

            async def client() -> None:
                for _ in range(25):
                    await kv.transact(append_count(b"counter"))

            await asyncio.gather(*(client() for _ in range(20)))
            assert await kv.read(get(b"counter")) == b"500"

    async def test_what_was_acknowledged_is_seen_by_the_next_read(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as kv:
            seen: list[bytes | None] = []
            finished = asyncio.Event()

            def read(value: bytes | None, why: BaseException | None) -> None:
                seen.append(value)
                if len(seen) == 50:
                    finished.set()

            for number in range(50):

                def done(result: None, why: BaseException | None, number: int = number) -> None:
                    kv.submit_read(get(b"%d" % number), read)

                kv.submit(puts({b"%d" % number: b"v%d" % number}), done)
            await finished.wait()
            assert seen == [b"v%d" % number for number in range(50)]

    async def test_a_read_is_one_snapshot(self, tmp_path: Path) -> None:
        """Two rows that are always written together are always read together."""
        async with self.opened(tmp_path) as kv:
            await kv.transact(puts({b"a": b"0", b"b": b"0"}))
            writing = [start_transaction(kv, puts({b"a": b"%d" % n, b"b": b"%d" % n})) for n in range(200)]

            async def both(txn: ReadTxn) -> tuple[bytes | None, bytes | None]:
                return await txn.get(b"a"), await txn.get(b"b")

            while not all(future.done() for future in writing):
                a, b = await kv.read(both)
                assert a == b
                await asyncio.sleep(0)
            assert await kv.read(both) == (b"199", b"199")

    async def test_a_callback_that_raises_harms_nobody(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as kv:

            def bad(result: None, why: BaseException | None) -> None:
                raise DeliberateError("callback")

            kv.submit(puts({b"a": b"1"}), bad)
            await kv.transact(puts({b"b": b"2"}))
            assert await read_all_rows(kv) == [(b"a", b"1"), (b"b", b"2")]

    async def test_a_caller_that_gives_up_harms_nobody(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as kv:
            impatient = asyncio.ensure_future(kv.transact(puts({b"a": b"1"})))
            await asyncio.sleep(0)
            impatient.cancel()
            await kv.transact(puts({b"b": b"2"}))
            assert await kv.read(get(b"b")) == b"2"

    # --- opening and closing ------------------------------------------------------------------------------------------

    async def test_close_finishes_what_was_submitted_and_refuses_what_comes_later(self, tmp_path: Path) -> None:
        kv = await self.open(tmp_path)
        futures = [start_transaction(kv, puts({b"%04d" % number: b"v"})) for number in range(1200)]
        await kv.close()
        assert all([await future is None for future in futures])
        why = await failure(start_transaction(kv, puts({b"late": b"v"})))
        assert isinstance(why, FS3Error)
        assert why.code is Code.SHUTTING_DOWN
        await kv.close()
        if self.persistent:
            async with self.opened(tmp_path) as again:
                assert len(await read_all_rows(again)) == 1200

    async def test_rows_are_there_after_reopening(self, tmp_path: Path) -> None:
        if not self.persistent:
            return
        for number in range(3):
            async with self.opened(tmp_path) as kv:
                assert await kv.read(get(b"count")) == (b"%d" % number if number else None)
                await kv.transact(append_count(b"count"))


# --- operations ------------------------------------------------------------------------------------------------------


def puts(rows: dict[bytes, bytes | None] | dict[bytes, bytes]) -> Callable[[Txn], Awaitable[None]]:
    """An operation that writes rows; None deletes."""

    async def op(txn: Txn) -> None:
        for key, value in rows.items():
            if value is None:
                txn.delete(key)
            else:
                txn.put(key, value)

    return op


def get(key: bytes) -> Callable[[ReadTxn], Awaitable[bytes | None]]:
    """An operation that reads a row."""

    async def op(txn: ReadTxn) -> bytes | None:
        return await txn.get(key)

    return op


def scan(
    begin: bytes, end: bytes, limit: int, *, reverse: bool = False
) -> Callable[[ReadTxn], Awaitable[list[tuple[bytes, bytes]]]]:
    """An operation that scans."""

    async def op(txn: ReadTxn) -> list[tuple[bytes, bytes]]:
        return await txn.scan(begin, end, limit, reverse=reverse)

    return op


def append_count(key: bytes) -> Callable[[Txn], Awaitable[int]]:
    """An operation that adds one to a decimal row and returns what it was."""

    async def op(txn: Txn) -> int:
        before = int(await txn.get(key) or b"0")
        txn.put(key, b"%d" % (before + 1))
        return before

    return op


async def read_all_rows(kv: KV) -> list[tuple[bytes, bytes]]:
    """Everything in the store."""
    return await kv.read(scan(b"", b"\xff" * (key_bytes_stored_max + 1), 1_000_000))


def start_transaction(kv: KV, op: Callable[[Any], Awaitable[Any]]) -> asyncio.Future[Any]:
    """`transact`, submitted now."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(result: Any, why: BaseException | None) -> None:
        if why is not None:
            future.set_exception(why)
        else:
            future.set_result(result)

    kv.submit(op, done)
    return future


async def failure(future: asyncio.Future[Any]) -> BaseException:
    """The exception a future ends with."""
    await asyncio.wait({future})
    why = future.exception()
    assert why is not None, "the operation should have failed"
    return why
