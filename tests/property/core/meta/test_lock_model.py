"""Locks of several clients on several files, in transactions, against a map with one cell per byte.

Every step is a request as a service gets it; clients die, ask again, withdraw, and files are removed, in any order.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fs3.base.ids import ChainId, ClientId, InodeId, TableId
from fs3.base.status import Code
from fs3.core.meta import keys, locks
from fs3.core.meta.bootstrap import ensure_root
from fs3.core.meta.client_liveness import list_clients, presume_dead
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.core.meta.ops.lock import get_lock, lock
from fs3.core.meta.ops.put import put_file
from fs3.core.meta.ops.remove import remove
from fs3.core.txn import ReadTxn
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.chain import ChainTable
from fs3.model.inode import User
from fs3.model.lock import ClientLocks, GetLock, InodeLocks, Lock, LockAnswer, LockKind, LockStep
from fs3.model.namespace import PathRef
from fs3.model.requests import Put, Remove
from fs3.model.routing import Routing

CLIENTS = [ClientId(letter * 16) for letter in (b"a", b"b", b"c")]
ROUTING = Routing(tables={TableId(1): ChainTable(TableId(1), 1, 1, (ChainId(1),))})
BYTES = 6

Owner = tuple[ClientId, int]
Cells = dict[tuple[str, Owner, int], bool]
"""(file, owner, byte) -> exclusive."""


class Waiting:
    """A wait that has no answer yet."""

    def __init__(self, name: str, owner: Owner, start: int, end: int, exclusive: bool) -> None:
        self.name = name
        self.owner = owner
        self.start = start
        self.end = end
        self.exclusive = exclusive
        self.wait = 0
        self.asked = 0


class LockModel(RuleBasedStateMachine):
    """The operations, and what they must have come to."""

    def __init__(self) -> None:
        super().__init__()
        self.kv = MemoryKV()
        self.seq = 0
        self.cells: Cells = {}
        self.files: dict[str, InodeId] = {}
        self.waits: list[Waiting] = []
        self.run(ensure_root)
        for name in "fg":
            self.files[name] = self.run(put_file, Put(PathRef(path=name), b"x")).id

    # --- asking ---------------------------------------------------------------------------------------------------------

    def context(self, client: ClientId, seq: int = 0) -> OpContext:
        return OpContext(User(0, 0), 7, client, seq, ROUTING, LayoutDefaults(TableId(1)))

    def run(self, op: Any, *args: Any, client: ClientId = CLIENTS[0], seq: int = 0) -> Any:
        return self.kv.transact_now(lambda txn: op(txn, self.context(client, seq), *args))

    def ask(self, name: str, owner: Owner, step: LockStep, **fields: Any) -> LockAnswer:
        self.seq += 1
        if step in (LockStep.TRY, LockStep.WAIT):
            fields.setdefault("wait", self.seq)
        request = Lock(self.files[name], step, LockKind.RANGE, owner[1], **fields)
        return self.run(lock, request, client=owner[0], seq=self.seq)  # type: ignore[no-any-return]

    def outcome(self, name: str, owner: Owner, step: LockStep, **fields: Any) -> Code | None:
        """None: it waits."""
        try:
            return Code.OK if self.ask(name, owner, step, **fields).granted else None
        except MetaError as refusal:
            return refusal.code

    def is_free(self, name: str, owner: Owner, start: int, end: int, exclusive: bool) -> bool:
        return not any(
            file == name and other != owner and start <= at < end and (mode or exclusive)
            for (file, other, at), mode in self.cells.items()
        )

    def put(self, name: str, owner: Owner, start: int, end: int, mode: bool | None) -> None:
        for at in range(start, end):
            self.cells.pop((name, owner, at), None)
            if mode is not None:
                self.cells[name, owner, at] = mode

    # --- steps ----------------------------------------------------------------------------------------------------------

    owners = st.tuples(st.sampled_from(CLIENTS), st.integers(1, 2))
    names = st.sampled_from("fg")
    spans = st.integers(0, BYTES - 1).flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, BYTES)))

    @rule(name=names, owner=owners, span=spans, exclusive=st.booleans())
    def try_lock(self, name: str, owner: Owner, span: tuple[int, int], exclusive: bool) -> None:
        if name not in self.files:
            return
        free = self.is_free(name, owner, *span, exclusive)
        found = self.kv.read_now(
            lambda txn: get_lock(
                txn,
                self.context(owner[0]),
                GetLock(self.files[name], LockKind.RANGE, owner[1], False, exclusive, *span),
            )
        )
        assert (found is None) is free
        outcome = self.outcome(name, owner, LockStep.TRY, start=span[0], end=span[1], exclusive=exclusive)
        assert outcome is (Code.OK if free else Code.LOCKED)
        if free:
            self.put(name, owner, *span, exclusive)

    @rule(name=names, owner=owners, span=spans, exclusive=st.booleans())
    def wait(self, name: str, owner: Owner, span: tuple[int, int], exclusive: bool) -> None:
        if name in self.files:
            wait = Waiting(name, owner, *span, exclusive)
            self.waits.append(wait)
            self.ask_again(wait)

    @precondition(lambda self: self.waits)
    @rule(data=st.data())
    def ask_once_more(self, data: st.DataObject) -> None:
        self.ask_again(data.draw(st.sampled_from(self.waits)))

    def ask_again(self, wait: Waiting) -> None:
        wait.wait = wait.wait or self.seq + 1
        fields = {"start": wait.start, "end": wait.end, "exclusive": wait.exclusive, "wait": wait.wait}
        wait.asked = self.seq + 1
        free = self.is_free(wait.name, wait.owner, wait.start, wait.end, wait.exclusive)
        outcome = self.outcome(wait.name, wait.owner, LockStep.WAIT, **fields)
        if outcome is not None:
            assert outcome in ((Code.OK,) if free else (Code.DEADLOCK,))
            self.waits.remove(wait)
        if outcome is Code.OK:
            self.put(wait.name, wait.owner, wait.start, wait.end, wait.exclusive)

    @precondition(lambda self: self.waits)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        wait = data.draw(st.sampled_from(self.waits))
        self.waits.remove(wait)
        self.ask(wait.name, wait.owner, LockStep.WITHDRAW, start=wait.start, end=wait.end, wait=wait.wait, asked=wait.asked)

    @rule(name=names, owner=owners, span=spans)
    def unlock(self, name: str, owner: Owner, span: tuple[int, int]) -> None:
        if name in self.files:
            self.ask(name, owner, LockStep.UNLOCK, start=span[0], end=span[1])
            self.put(name, owner, *span, None)

    @rule(name=names, owner=owners)
    def release_owner(self, name: str, owner: Owner) -> None:
        if name in self.files:
            self.ask(name, owner, LockStep.RELEASE_OWNER)
            self.put(name, owner, 0, BYTES, None)
            self.waits = [wait for wait in self.waits if (wait.name, wait.owner) != (name, owner)]

    @rule(client=st.sampled_from(CLIENTS), dies=st.booleans())
    def release_client(self, client: ClientId, dies: bool) -> None:
        if dies:
            record = dict(self.kv.read_now(lambda txn: list_clients(txn, None, 9))).get(client)
            if record is None:
                return
            assert self.kv.transact_now(lambda txn: presume_dead(txn, client, record))
            assert self.kv.transact_now(lambda txn: locks.end_epoch(txn, client, record.heartbeats))
        else:
            self.run(lock, Lock(InodeId(0), LockStep.RELEASE_CLIENT), client=client)
        self.cells = {key: mode for key, mode in self.cells.items() if key[1][0] != client}
        self.waits = [wait for wait in self.waits if wait.owner[0] != client]

    @rule()
    def purge(self) -> None:
        self.kv.transact_now(lambda txn: locks.purge(txn, b"", 10))

    @precondition(lambda self: len(self.files) > 1)
    @rule()
    def remove_file(self) -> None:
        self.run(remove, Remove(PathRef(path="g")))
        del self.files["g"]
        self.cells = {key: mode for key, mode in self.cells.items() if key[0] != "g"}
        self.waits = [wait for wait in self.waits if wait.name != "g"]

    # --- what must hold -------------------------------------------------------------------------------------------------

    @invariant()
    def rows_are_the_cells(self) -> None:
        async def load(txn: ReadTxn) -> tuple[dict[str, InodeLocks], dict[ClientId, ClientLocks]]:
            clients = {client: await locks.find_client_locks(txn, client) for client in CLIENTS}
            files = {name: await locks.get_inode_locks(txn, inode) for name, inode in self.files.items()}
            validity = locks.LockValidity(txn)
            valid = {
                name: InodeLocks(tuple(await validity.select(each.held)), tuple(await validity.select(each.waiting)))
                for name, each in files.items()
            }
            return valid, {client: found for client, found in clients.items() if found is not None}

        files, clients = self.kv.read_now(load)
        cells: Cells = {}
        for name, each in files.items():
            for held in each.held:
                for at in range(held.start, held.end):
                    cells[name, (held.owner.client, held.owner.number), at] = held.exclusive
        assert cells == self.cells
        everything = [held for each in files.values() for held in each.held]
        waiting = [wait for each in files.values() for wait in each.waiting]
        for client, known in clients.items():
            assert known.locks == sum(held.owner.client == client for held in everything)
            places = sorted((place.wait, place.number) for place in known.waits)
            assert places == sorted((wait.wait, wait.owner.number) for wait in waiting if wait.owner.client == client)
        assert {held.owner.client for held in (*everything, *waiting)} <= clients.keys()
        assert sorted(wait.wait for wait in waiting) == sorted(wait.wait for wait in self.waits)
        assert self.kv.read_now(check_namespace) == []

    def teardown(self) -> None:
        """Once all that is held is given up, all who wait are served, in one round per wait at most."""
        for name, owner, at in list(self.cells):
            self.ask(name, owner, LockStep.UNLOCK, start=at, end=at + 1)
        self.cells.clear()
        for _ in range(len(self.waits)):
            waits = list(self.waits)
            for wait in waits:
                self.ask_again(wait)
                if wait not in self.waits:
                    self.ask(wait.name, wait.owner, LockStep.UNLOCK, start=wait.start, end=wait.end)
                    self.put(wait.name, wait.owner, wait.start, wait.end, None)
        assert self.waits == []
        for client in CLIENTS:
            self.run(lock, Lock(InodeId(0), LockStep.RELEASE_CLIENT), client=client)
        self.kv.transact_now(lambda txn: locks.purge(txn, b"", 10))
        assert self.kv.read_now(_rows_about_locks) == []


async def _rows_about_locks(txn: ReadTxn) -> list[tuple[bytes, bytes]]:
    return await txn.scan(keys.LOCK, keys.end_of(keys.LOCK), 10)


TestLockModel = LockModel.TestCase
TestLockModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
