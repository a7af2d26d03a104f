"""What every `KV` must do that several users of one store share. Subclass `SharedKVTests` and say who the other user is."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from fs3.base.prng import Prng
from fs3.core.txn import ReadTxn, Txn
from fs3.ports.kv import KV
from fs3.sim.conformance.kv import append_count, failure, get, puts, read_all_rows, start_transaction

ACCOUNTS = 8
MONEY = 800


class KVPeer(Protocol):
    """Another user of the store, perhaps in another process."""

    async def run(self, task: str, *arguments: Any) -> Any:
        """Do one of `TASKS` there; arguments and result are what JSON can carry."""
        ...


class SharedKVTests(ABC):
    """The conformance suite. Tests are plain methods; the runner needs pytest's `tmp_path` and an asyncio mode."""

    @abstractmethod
    def opened(self, directory: Path) -> AbstractAsyncContextManager[tuple[KV, KVPeer]]:
        """Two openings of one store, empty when the directory is."""

    async def test_what_one_user_was_acknowledged_the_other_reads_next(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (kv, peer):
            for number in range(0, 100, 2):
                assert await peer.run("put", "turn", str(number)) is None
                assert await kv.read(get(b"turn")) == b"%d" % number
                await kv.transact(puts({b"turn": b"%d" % (number + 1)}))
                assert await peer.run("get", "turn") == str(number + 1)

    async def test_an_operation_builds_on_what_the_other_user_has_committed(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (kv, peer):
            for number in range(0, 60, 2):
                assert await peer.run("count", "n", 1, 1) == [number]
                assert await kv.transact(append_count(b"n")) == number + 1

    async def test_increments_of_both_users_all_count(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (kv, peer):
            ours, theirs = await asyncio.gather(count(kv, "n", 20, 40), peer.run("count", "n", 20, 40))
            assert sorted(ours + theirs) == list(range(1600)), "every value was seen exactly once"
            assert await kv.read(get(b"n")) == b"1600"

    async def test_one_client_at_a_time_on_each_side(self, tmp_path: Path) -> None:
        """Batches of one operation each: the smallest there are, and the most often in each other's way."""
        async with self.opened(tmp_path) as (kv, peer):
            ours, theirs = await asyncio.gather(count(kv, "n", 1, 120), peer.run("count", "n", 1, 120))
            assert sorted(ours + theirs) == list(range(240))

    async def test_money_moves_but_is_neither_made_nor_lost(self, tmp_path: Path) -> None:
        """Serializable: transfers by both, whoever looks sees all of the money, in every read and in every transaction."""
        async with self.opened(tmp_path) as (kv, peer):
            await open_accounts(kv)
            sums = await asyncio.gather(transfer(kv, 1, 10, 40), peer.run("transfer", 2, 10, 40))
            assert {total for side in sums for total in side} == {MONEY}
            assert await total(kv) == MONEY
            assert await peer.run("total") == MONEY

    async def test_two_that_read_the_same_rows_do_not_both_write(self, tmp_path: Path) -> None:
        """Write skew: of two lights that are on, each user switches its own off only if the other one stays on."""
        async with self.opened(tmp_path) as (kv, peer):
            for _ in range(40):
                await kv.transact(puts({b"light ours": b"on", b"light theirs": b"on"}))
                switched = await asyncio.gather(
                    switch_off(kv, "light ours", "light theirs"), peer.run("switch_off", "light theirs", "light ours")
                )
                assert sorted(switched) == [False, True], "exactly one of the two comes first"

    async def test_two_that_scan_the_same_range_do_not_both_insert(self, tmp_path: Path) -> None:
        """Phantoms: every insert takes the number of rows that are there as its name."""
        async with self.opened(tmp_path) as (kv, peer):
            await asyncio.gather(number(kv, 10, 12), peer.run("number", 10, 12))
            assert [key for key, _ in await read_all_rows(kv)] == [b"row %04d" % at for at in range(240)]

    async def test_an_operation_that_raises_saw_the_newest_state(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (kv, peer):
            for number in range(30):
                await peer.run("put", "name", str(number))

                async def refuse(txn: Txn) -> None:
                    raise FileExistsError(await txn.get(b"name"))

                why = await failure(start_transaction(kv, refuse))
                assert why.args == (b"%d" % number,)

    async def test_one_user_may_leave_while_the_other_works(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (kv, peer):
            assert await peer.run("count", "n", 1, 3) == [0, 1, 2]
            await kv.close()
            assert await peer.run("count", "n", 4, 5) == list(range(3, 23))


# --- what is done on both sides ----------------------------------------------------------------------------------------


async def put(kv: KV, key: str, value: str) -> None:
    """Write a row."""
    await kv.transact(puts({key.encode(): value.encode()}))


async def get_row(kv: KV, key: str) -> str | None:
    """Read a row."""
    value = await kv.read(get(key.encode()))
    return None if value is None else value.decode()


async def count(kv: KV, key: str, clients: int, times: int) -> list[int]:
    """Add one to a row, so many times by so many clients at once; what they found, sorted."""

    async def client() -> list[int]:
        return [await kv.transact(append_count(key.encode())) for _ in range(times)]

    return sorted(value for found in await asyncio.gather(*(client() for _ in range(clients))) for value in found)


async def open_accounts(kv: KV) -> None:
    """`ACCOUNTS` rows that have `MONEY` together."""
    await kv.transact(puts({_account(at): b"%d" % (MONEY // ACCOUNTS) for at in range(ACCOUNTS)}))


async def transfer(kv: KV, seed: int, clients: int, times: int) -> list[int]:
    """Move money between accounts; the sums that somebody saw on the way."""
    prng = Prng(seed)
    sums: list[int] = []

    async def client() -> None:
        for _ in range(times):
            source, target, amount = prng.below(ACCOUNTS), prng.below(ACCOUNTS), prng.below(30)

            async def op(txn: Txn, source: int = source, target: int = target, amount: int = amount) -> int:
                seen = await _sum(txn)
                has = int(await txn.get(_account(source)) or b"0")
                if has >= amount and source != target:
                    txn.put(_account(source), b"%d" % (has - amount))
                    txn.put(_account(target), b"%d" % (int(await txn.get(_account(target)) or b"0") + amount))
                assert await _sum(txn) == seen
                return seen

            sums.append(await kv.transact(op))
            sums.append(await kv.read(_sum))

    await asyncio.gather(*(client() for _ in range(clients)))
    return sums


async def total(kv: KV) -> int:
    """All the money."""
    return await kv.read(_sum)


async def switch_off(kv: KV, own: str, other: str) -> bool:
    """Delete the row `own` if `other` is there. Whether it was."""

    async def op(txn: Txn) -> bool:
        if await txn.get(other.encode()) is None:
            return False
        txn.delete(own.encode())
        return True

    return await kv.transact(op)


async def number(kv: KV, clients: int, times: int) -> None:
    """Insert rows whose names are how many there were."""

    async def op(txn: Txn) -> None:
        found = await txn.scan(b"row ", b"row!", 1_000_000)
        txn.put(b"row %04d" % len(found), b"")

    async def client() -> None:
        for _ in range(times):
            await kv.transact(op)

    await asyncio.gather(*(client() for _ in range(clients)))


TASKS: dict[str, Callable[..., Awaitable[Any]]] = {
    "put": put,
    "get": get_row,
    "count": count,
    "transfer": transfer,
    "total": total,
    "switch_off": switch_off,
    "number": number,
}
"""What a peer can be asked to do."""


def _account(number: int) -> bytes:
    return b"account %d" % number


async def _sum(txn: ReadTxn) -> int:
    return sum(int(value) for _, value in await txn.scan(b"account ", b"account!", ACCOUNTS))


# --- peers -----------------------------------------------------------------------------------------------------------


class LocalKVPeer:
    """A second handle in the same process."""

    def __init__(self, kv: KV) -> None:
        self._kv = kv

    async def run(self, task: str, *arguments: Any) -> Any:
        """See `Peer`."""
        return await TASKS[task](self._kv, *arguments)


class ProcessKVPeer:
    """Another process with the store open, told what to do over a pipe."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._requests_sent = 0

    async def run(self, task: str, *arguments: Any) -> Any:
        """See `Peer`."""
        assert self.process.stdin is not None
        self._requests_sent += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[self._requests_sent] = answer
        self.process.stdin.write(json.dumps([self._requests_sent, task, *arguments]).encode() + b"\n")
        return await answer

    async def listen(self) -> None:
        """Settle the answers as they come."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            number, failure, result = json.loads(line)
            answer = self._answers.pop(number)
            if answer.cancelled():
                continue
            if failure:
                answer.set_exception(RuntimeError(failure))
            else:
                answer.set_result(result)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(RuntimeError("the other process has ended"))


@asynccontextmanager
async def process_peer(opening: str, directory: Path) -> AsyncIterator[ProcessKVPeer]:
    """A process that opens the store with the expression `opening`, in which `directory` is a Path, and serves `TASKS`. It may be
    of `LmdbKV` or call `open_etcd`."""
    script = f"import sys; from {__name__} import serve; serve(sys.argv[1], sys.argv[2])"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        opening,
        str(directory),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    peer = ProcessKVPeer(process)
    listening = asyncio.ensure_future(peer.listen())
    try:
        yield peer
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        assert process.returncode == 0, f"the other process ended with {process.returncode}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await listening


def serve(opening: str, directory: str) -> None:
    """The other process: requests on stdin, answers on stdout, one JSON list per line, until stdin ends."""
    asyncio.run(_serve(opening, Path(directory)))


async def open_etcd(endpoints: Sequence[str], prefix: str) -> KV:
    """A store on etcd, whose library is imported only for this."""
    from fs3.drivers.etcd.kv import EtcdKV
    from fs3.drivers.os.clock import OsClock

    return await EtcdKV.open(endpoints, prefix, OsClock())


async def _serve(opening: str, directory: Path) -> None:
    from fs3.drivers.lmdb import LmdbKV

    opened = eval(opening, {"LmdbKV": LmdbKV, "open_etcd": open_etcd, "directory": directory})
    kv: KV = await opened if inspect.isawaitable(opened) else opened
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def answer(number: int, task: str, *arguments: Any) -> None:
        failure, result = "", None
        try:
            result = await TASKS[task](kv, *arguments)
        except Exception as why:
            failure = repr(why)
        sys.stdout.write(json.dumps([number, failure, result]) + "\n")
        sys.stdout.flush()

    async with asyncio.TaskGroup() as tasks:
        async for line in reader:
            tasks.create_task(answer(*json.loads(line)))
    await kv.close()
    transport.close()
