"""Locks: who gets one, in which order, what ends them, and what a repeated or withdrawn request leaves."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fs3.base.ids import ClientId, InodeId
from fs3.base.status import Code
from fs3.core.meta import keys, locks, rows
from fs3.core.meta.client_liveness import list_clients, presume_dead
from fs3.core.meta.errors import MetaError
from fs3.core.meta.garbage import delete_file, next_garbage
from fs3.core.meta.ops import lock as lock_op
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.lock import get_lock, lock
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.put import put_file
from fs3.core.meta.ops.remove import remove
from fs3.model.lock import LOCK_END, GetLock, HeldLock, InodeLocks, LockAnswer, LockKind, LockStep
from fs3.model.namespace import PathRef

A, B, C = (ClientId(letter * 16) for letter in (b"a", b"b", b"c"))
FLOCK, RANGE = LockKind.FLOCK, LockKind.RANGE


class Locks:
    """One file, and short ways to lock it."""

    def __init__(self, space: Any) -> None:
        self.space = space
        self.inode: InodeId = space.file("f").id
        self.waits = 0

    def ask(self, client: ClientId, step: LockStep, *, inode: InodeId | None = None, seq: int = 0, **fields: Any) -> LockAnswer:
        fields.setdefault("exclusive", True)
        if step is LockStep.WAIT and "wait" not in fields:
            self.waits += 1
            fields["wait"] = self.waits
        return self.space.do(lock, self.inode if inode is None else inode, step, client=client, seq=seq, **fields)  # type: ignore[no-any-return]

    def refused(self, code: Code, client: ClientId, step: LockStep, **fields: Any) -> None:
        fields.setdefault("exclusive", True)
        inode = fields.pop("inode", self.inode)
        self.space.refused(code, lock, inode, step, client=client, **fields)

    def try_lock(self, client: ClientId, **fields: Any) -> bool:
        try:
            return self.ask(client, LockStep.TRY, **fields).granted
        except MetaError as why:
            if why.code is not Code.LOCKED:
                raise
            return False

    def held(self) -> list[tuple[bytes, int, int, bool]]:
        found: InodeLocks = self.space.raw(lambda txn: locks.get_inode_locks(txn, self.inode))
        return [(each.owner.client[:1], each.start, each.end, each.exclusive) for each in found.held]

    def ready(self) -> list[bytes]:
        return [each.owner.client[:1] for each in self.space.raw(lambda txn: locks.list_ready(txn, self.inode))]

    def bury(self, client: ClientId) -> None:
        """What the duty does with a client that was silent."""
        record = dict(self.space.raw(lambda txn: list_clients(txn, None, 100)))[client]
        assert self.space.raw(lambda txn: presume_dead(txn, client, record))
        assert self.space.raw(lambda txn: locks.end_epoch(txn, client, record.heartbeats))


@pytest.fixture
def file(space: Any) -> Locks:
    return Locks(space)


def test_one_holds_it_exclusively_or_many_share_it(file: Locks) -> None:
    assert file.try_lock(A)
    file.refused(Code.LOCKED, B, LockStep.TRY)
    file.refused(Code.LOCKED, B, LockStep.TRY, exclusive=False)
    file.ask(A, LockStep.UNLOCK)
    assert file.try_lock(B, exclusive=False)
    assert file.try_lock(C, exclusive=False)
    file.refused(Code.LOCKED, A, LockStep.TRY)
    assert file.try_lock(B, exclusive=False, kind=RANGE), "kinds do not know of each other"
    assert file.try_lock(A, start=100, kind=RANGE, end=200, exclusive=False)


def test_an_owner_changes_what_it_holds_at_once(file: Locks) -> None:
    assert file.try_lock(A, kind=RANGE, end=100, exclusive=False)
    assert file.try_lock(A, kind=RANGE, start=40, end=60)
    assert file.held() == [(b"a", 0, 40, False), (b"a", 40, 60, True), (b"a", 60, 100, False)]
    file.refused(Code.LOCKED, B, LockStep.TRY, kind=RANGE, start=50, end=70, exclusive=False)
    assert file.try_lock(B, kind=RANGE, start=60, end=70, exclusive=False)
    file.refused(Code.LOCKED, A, LockStep.TRY, kind=RANGE)
    assert file.held()[:3] == [(b"a", 0, 40, False), (b"a", 40, 60, True), (b"a", 60, 100, False)], "it keeps what it had"
    file.ask(A, LockStep.UNLOCK, kind=RANGE, start=10, end=90)
    assert file.held() == [(b"b", 60, 70, False), (b"a", 0, 10, False), (b"a", 90, 100, False)]


def test_owners_of_one_client_are_different_owners(file: Locks) -> None:
    assert file.try_lock(A, owner=1, kind=RANGE)
    file.refused(Code.LOCKED, A, LockStep.TRY, owner=2, kind=RANGE)
    file.refused(Code.LOCKED, A, LockStep.TRY, owner=1, by_handle=True, kind=RANGE)
    file.ask(A, LockStep.RELEASE_OWNER, owner=1)
    assert file.try_lock(A, owner=1, by_handle=True, kind=RANGE)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": RANGE, "start": 5, "end": 5},
        {"kind": RANGE, "start": 5, "end": 4},
        {"kind": RANGE, "end": LOCK_END + 1},
        {"kind": RANGE, "start": LOCK_END, "end": LOCK_END},
        {"kind": RANGE, "start": -1},
        {"kind": FLOCK, "end": 10},
    ],
)
def test_ranges_that_no_lock_has(file: Locks, fields: dict[str, Any]) -> None:
    file.refused(Code.INVALID, A, LockStep.TRY, **fields)
    file.space.refused(Code.INVALID, get_lock, file.inode, **fields)


def test_the_largest_range(file: Locks) -> None:
    assert file.try_lock(A, kind=RANGE, start=LOCK_END - 1)
    assert file.try_lock(B, kind=RANGE, end=LOCK_END - 1)


def test_who_may_neither_read_nor_write_a_file_does_not_lock_it(file: Locks, space: Any) -> None:
    secret = space.file("secret", mode=0o600, user=space.alice)
    file.refused(Code.ACCESS, A, LockStep.TRY, inode=secret.id, user=space.bob)
    space.refused(Code.ACCESS, get_lock, secret.id, user=space.bob)
    file.ask(A, LockStep.TRY, inode=secret.id, user=space.alice)
    shown = space.file("shown", mode=0o644, user=space.alice).id
    file.refused(Code.ACCESS, A, LockStep.TRY, inode=shown, user=space.bob, kind=RANGE)
    file.ask(A, LockStep.TRY, inode=shown, user=space.bob, kind=RANGE, exclusive=False)
    file.ask(A, LockStep.TRY, inode=shown, user=space.bob)
    opened = space.open("given", create=True, mode=0o000, user=space.alice)
    space.do(lambda txn, ctx: _chown(txn, opened.inode.id, space.bob.uid))
    file.ask(space.client, LockStep.TRY, inode=opened.inode.id, user=space.alice)
    space.do(close_file, opened.inode.id, opened.session)
    file.refused(Code.STALE, A, LockStep.TRY, inode=InodeId(10**6))
    file.refused(Code.STALE, A, LockStep.TRY, inode=InodeId(1 << 60))


def test_who_holds_a_lock_is_told_and_not_what_it_asks_under(file: Locks, space: Any) -> None:
    def told() -> HeldLock:
        found: HeldLock | None = space.do(get_lock, file.inode, kind=RANGE, owner=7, exclusive=True, client=C)
        assert found is not None
        return found

    assert file.try_lock(A, owner=5, kind=RANGE, end=10)
    first = told()
    assert (first.owner.number, first.start, first.end) == (5, 0, 10)
    assert A not in first.owner.client
    assert told() == first
    file.ask(A, LockStep.RELEASE_CLIENT)
    assert file.try_lock(B, owner=5, kind=RANGE, end=10)
    assert told().owner.client not in (first.owner.client, A, B)


async def _chown(txn: Any, inode: InodeId, uid: int) -> None:
    rows.put_inode(txn, replace(await rows.get_inode(txn, inode), uid=uid))


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_those_who_wait_are_served_in_their_order(file: Locks) -> None:
    file.ask(A, LockStep.TRY)
    assert not file.ask(B, LockStep.WAIT, wait=1).granted
    assert not file.ask(C, LockStep.WAIT, wait=1, exclusive=False).granted
    assert file.ready() == []
    assert not file.ask(C, LockStep.WAIT, wait=1, exclusive=False).granted, "asking again keeps the place"
    file.ask(A, LockStep.UNLOCK)
    assert file.ready() == [b"b"]
    assert not file.ask(C, LockStep.WAIT, wait=1, exclusive=False).granted, "it is B's turn"
    assert file.ask(B, LockStep.WAIT, wait=1).granted
    assert file.held() == [(b"b", 0, LOCK_END, True)]
    file.ask(B, LockStep.UNLOCK)
    assert file.ready() == [b"c"]
    assert file.ask(C, LockStep.WAIT, wait=1, exclusive=False).granted
    assert file.space.raw(lambda txn: locks.find_client_locks(txn, C)).waits == ()


def test_readers_that_wait_together_go_together_and_not_before_a_writer_ahead_of_them(file: Locks) -> None:
    file.ask(A, LockStep.TRY, exclusive=False)
    file.ask(B, LockStep.WAIT, wait=7)
    for number in (8, 9):
        assert not file.ask(C, LockStep.WAIT, wait=number, owner=number, exclusive=False).granted
    file.ask(B, LockStep.WITHDRAW, wait=7, asked=7, seq=1)
    assert file.ready() == [b"c", b"c"]


def test_who_holds_something_of_the_file_does_not_queue_behind_those_who_wait_for_it(file: Locks) -> None:
    file.ask(A, LockStep.TRY, kind=RANGE, end=10, exclusive=False)
    file.ask(B, LockStep.WAIT, kind=RANGE, end=20)
    assert file.ask(A, LockStep.WAIT, kind=RANGE, start=5, end=15, exclusive=False).granted


def test_a_wait_that_never_asks_is_passed_by(file: Locks) -> None:
    file.ask(A, LockStep.TRY)
    file.ask(B, LockStep.WAIT, wait=3)
    file.ask(C, LockStep.WAIT, wait=4)
    file.ask(A, LockStep.UNLOCK)
    assert file.ask(C, LockStep.WAIT, wait=4, passing=((B, 3),)).granted
    assert not file.ask(B, LockStep.WAIT, wait=3).granted, "it queues anew"
    file.ask(C, LockStep.UNLOCK)
    assert file.ready() == [b"b"]


def test_numbered_owners_that_would_wait_for_each_other_are_told(file: Locks, space: Any) -> None:
    other = space.file("g").id
    third = space.file("h").id
    numbered = {"kind": RANGE, "owner": 1}
    file.ask(A, LockStep.TRY, **numbered)
    file.ask(B, LockStep.TRY, inode=other, **numbered)
    file.ask(C, LockStep.TRY, inode=third, **numbered)
    assert not file.ask(A, LockStep.WAIT, inode=other, **numbered).granted
    assert not file.ask(B, LockStep.WAIT, inode=third, **numbered).granted
    file.refused(Code.DEADLOCK, C, LockStep.WAIT, wait=99, **numbered)
    assert not file.ask(C, LockStep.WAIT, wait=99, kind=RANGE, owner=2).granted, "another owner may wait"
    file.ask(B, LockStep.RELEASE_OWNER, inode=other, owner=1)
    assert file.ask(A, LockStep.WAIT, inode=other, wait=1, **numbered).granted


def test_a_graph_that_is_too_large_is_not_searched_to_the_end(file: Locks, space: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = space.file("g").id
    file.ask(A, LockStep.TRY, kind=RANGE)
    file.ask(B, LockStep.TRY, inode=other, kind=RANGE)
    file.ask(A, LockStep.WAIT, inode=other, kind=RANGE)
    monkeypatch.setattr(locks, "lock_graph_rows_max", 0)
    assert not file.ask(B, LockStep.WAIT, kind=RANGE).granted


def test_the_order_of_waiting_alone_makes_no_deadlock(file: Locks, space: Any) -> None:
    """A holds f; C holds g and wants f; B waits for g; what A wants of g, C would not keep from it."""
    other = space.file("g").id
    file.ask(A, LockStep.TRY)
    file.ask(C, LockStep.TRY, inode=other, exclusive=False)
    file.ask(B, LockStep.WAIT, inode=other)
    file.ask(C, LockStep.WAIT)
    assert file.ask(A, LockStep.WAIT, inode=other, exclusive=False).granted


# --- repeated, late, withdrawn -----------------------------------------------------------------------------------------


def test_a_repeated_request_gets_its_first_answer(file: Locks) -> None:
    first = file.ask(A, LockStep.TRY, seq=5, wait=5)
    file.ask(A, LockStep.UNLOCK, seq=6)
    assert file.ask(A, LockStep.TRY, seq=5, wait=5) == first
    assert file.held() == []


def test_a_request_that_has_a_place_only_may_be_sent_again(file: Locks) -> None:
    file.ask(A, LockStep.TRY)
    assert not file.ask(B, LockStep.WAIT, seq=5, wait=5).granted
    file.ask(A, LockStep.UNLOCK)
    assert file.ask(B, LockStep.WAIT, seq=5, wait=5).granted


@pytest.mark.parametrize("step", [LockStep.TRY, LockStep.WAIT])
def test_what_was_granted_to_a_wait_that_is_withdrawn_is_given_back(file: Locks, step: LockStep) -> None:
    file.ask(A, LockStep.TRY, kind=RANGE, end=10, exclusive=False)
    file.ask(A, step, kind=RANGE, end=20, seq=5, wait=5)
    assert file.held() == [(b"a", 0, 20, True)]
    file.ask(A, LockStep.WITHDRAW, kind=RANGE, end=20, seq=6, wait=5, asked=5)
    assert file.held() == [(b"a", 0, 10, False)]
    with pytest.raises(MetaError) as late:
        file.ask(A, step, kind=RANGE, end=20, seq=5, wait=5)
    assert late.value.code is Code.CANCELLED, "a late sending of it has no effect"
    assert file.held() == [(b"a", 0, 10, False)]


def test_a_request_that_arrives_after_its_withdrawal_is_refused(file: Locks) -> None:
    file.ask(B, LockStep.TRY)
    assert not file.ask(A, LockStep.WAIT, seq=4, wait=4).granted
    file.ask(A, LockStep.WITHDRAW, seq=6, wait=4, asked=5)
    file.ask(B, LockStep.UNLOCK)
    with pytest.raises(MetaError) as late:
        file.ask(A, LockStep.WAIT, seq=5, wait=4)
    assert late.value.code is Code.CANCELLED
    assert file.held() == []
    assert file.ready() == []


# --- the end of locks --------------------------------------------------------------------------------------------------


def test_all_locks_of_a_client_end_at_once_when_it_is_presumed_dead(file: Locks, space: Any) -> None:
    epoch = file.ask(A, LockStep.TRY).epoch
    file.ask(A, LockStep.TRY, kind=RANGE)
    file.ask(B, LockStep.WAIT, wait=2)
    file.bury(A)
    assert file.ready() == [b"b"]
    assert file.ask(B, LockStep.WAIT, wait=2).granted
    file.refused(Code.LOCKS_LOST, A, LockStep.TRY, kind=RANGE, start=5, epoch=epoch)
    file.refused(Code.LOCKS_LOST, A, LockStep.UNLOCK, epoch=epoch)
    space.refused(Code.LOCKS_LOST, get_lock, file.inode, epoch=epoch, client=A)
    assert file.ask(A, LockStep.TRY, kind=RANGE, start=5).epoch > epoch
    assert file.held() == [(b"b", 0, LOCK_END, True), (b"a", 5, LOCK_END, True)], "the void ones are not joined to it"


def test_a_client_that_is_heard_of_keeps_its_locks(file: Locks, space: Any) -> None:
    file.ask(A, LockStep.TRY)
    ((client, record),) = [each for each in space.raw(lambda txn: list_clients(txn, None, 9)) if each[0] == A]
    assert space.raw(lambda txn: presume_dead(txn, client, record))
    file.ask(A, LockStep.TRY, kind=RANGE)
    assert not space.raw(lambda txn: locks.end_epoch(txn, A, record.heartbeats))
    assert len(file.held()) == 2


def test_the_first_lock_of_an_idle_client_counts_as_a_heartbeat(file: Locks, space: Any) -> None:
    """It may be about to be presumed dead for its silence until now."""
    space.do(open_file, PathRef(path="g"), write=True, create=True, client=A)
    ((client, record),) = [each for each in space.raw(lambda txn: list_clients(txn, None, 9)) if each[0] == A]
    file.ask(A, LockStep.TRY)
    assert not space.raw(lambda txn: presume_dead(txn, client, record))


def test_a_client_that_disconnects_gives_everything_up(file: Locks, space: Any) -> None:
    epoch = file.ask(A, LockStep.TRY).epoch
    file.ask(A, LockStep.RELEASE_CLIENT, inode=InodeId(0))
    assert file.try_lock(B)
    file.refused(Code.LOCKS_LOST, A, LockStep.UNLOCK, epoch=epoch)
    file.ask(A, LockStep.UNLOCK)
    file.ask(A, LockStep.RELEASE_OWNER)
    file.ask(A, LockStep.WITHDRAW, wait=9, asked=9, seq=3)


def test_all_locks_end_where_a_copy_is_put_back(file: Locks, space: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "check_rows_per_page", 1)
    for client in (A, B):
        file.ask(client, LockStep.TRY, exclusive=False)
    file.ask(C, LockStep.WAIT)
    space.raw(locks.end_all_epochs)
    assert space.raw(lambda txn: locks.list_locking_clients(txn, None, 10)) == []
    assert file.try_lock(C)


def test_what_is_void_is_cleaned_up(file: Locks, space: Any) -> None:
    others = [space.file(name).id for name in "gh"]
    for inode in (file.inode, *others):
        file.ask(A, LockStep.TRY, inode=inode)
        file.ask(B, LockStep.TRY, inode=inode, kind=RANGE)
        file.ask(C, LockStep.WAIT, inode=inode)
    for client in (A, C):
        file.ask(client, LockStep.RELEASE_CLIENT, inode=InodeId(0))
    begin, removed = space.raw(lambda txn: locks.purge(txn, b"", 2))
    assert removed == 4
    assert space.raw(lambda txn: locks.purge(txn, begin, 2)) == (None, 2)
    assert file.held() == [(b"b", 0, LOCK_END, True)]


@pytest.mark.parametrize("is_inline", [False, True])
def test_locks_go_with_their_file(file: Locks, space: Any, is_inline: bool) -> None:
    inode = (space.do(put_file, "g", data=b"x") if is_inline else space.file("g", length=1)).id
    file.ask(A, LockStep.TRY, inode=inode)
    file.ask(B, LockStep.WAIT, inode=inode)
    file.ask(A, LockStep.TRY)
    space.do(remove, PathRef(path="g"))
    if not is_inline:
        assert file.try_lock(C, inode=inode, kind=RANGE), "as long as it is there"
    for garbage, _ in space.raw(lambda txn: next_garbage(txn, 10)):
        space.raw(lambda txn, garbage=garbage: delete_file(txn, garbage))
    assert len(space.keys_of(keys.inode_locks_range()[0])) == 1
    assert space.raw(lambda txn: locks.find_client_locks(txn, A)).locks == 1
    assert space.raw(lambda txn: locks.find_client_locks(txn, B)).waits == ()
    file.refused(Code.STALE, B, LockStep.WAIT, inode=inode, wait=1)
    file.ask(A, LockStep.UNLOCK, inode=inode)


# --- questions, limits -------------------------------------------------------------------------------------------------


def test_what_is_in_the_way(file: Locks, space: Any) -> None:
    def ask(client: ClientId, **fields: Any) -> Any:
        return space.do(get_lock, file.inode, client=client, **fields)

    file.ask(A, LockStep.TRY, kind=RANGE, start=50, end=60, owner=4)
    file.ask(A, LockStep.TRY, kind=RANGE, start=20, end=30, owner=4, exclusive=False)
    found = ask(B, kind=RANGE, exclusive=True)
    assert (found.start, found.end, found.exclusive, found.owner.number) == (20, 30, False, 4)
    assert ask(B, kind=RANGE, exclusive=False).start == 50
    assert ask(B, kind=RANGE, exclusive=True, end=20) is None
    assert ask(A, kind=RANGE, exclusive=True, owner=4) is None
    assert ask(B, exclusive=True) is None
    file.bury(A)
    assert ask(B, kind=RANGE, exclusive=True) is None
    assert GetLock.mutates is False


def test_the_process_of_what_is_in_the_way_is_told_where_it_has_that_number(file: Locks, space: Any) -> None:
    def process(client: ClientId = C, **fields: Any) -> int:
        return space.do(get_lock, file.inode, client=client, kind=RANGE, exclusive=True, **fields).process  # type: ignore[no-any-return]

    def said() -> list[tuple[bytes, int]]:
        found: InodeLocks = space.raw(lambda txn: locks.get_inode_locks(txn, file.inode))
        return [(each.owner.client[:1], each.process) for each in found.processes]

    file.ask(A, LockStep.TRY, kind=RANGE, end=10, owner=4, process=77, pid_space=1)
    file.ask(A, LockStep.TRY, kind=RANGE, start=10, end=20, owner=5, process=78, pid_space=1)
    file.ask(B, LockStep.TRY, kind=RANGE, start=20, end=30, owner=4)
    file.ask(B, LockStep.WAIT, kind=RANGE, end=5, owner=6, process=90, pid_space=2)
    assert [process(start=start, pid_space=1) for start in (0, 10, 20)] == [77, 78, 0]
    assert process(pid_space=2) == process() == 0, "it means nothing there"
    assert said() == [(b"a", 77), (b"a", 78)]
    file.ask(A, LockStep.TRY, kind=RANGE, start=2, end=4, owner=4, process=79, pid_space=1)
    assert process(pid_space=1) == 79, "an owner is one process, the one that asked last"
    file.ask(A, LockStep.UNLOCK, kind=RANGE, start=10, end=20, owner=5)
    assert said() == [(b"a", 79)], "who holds nothing is forgotten"
    file.ask(A, LockStep.UNLOCK, kind=RANGE, owner=4)
    file.ask(B, LockStep.WAIT, kind=RANGE, end=5, owner=6, process=90, pid_space=2, wait=1)
    assert process(pid_space=2) == 90, "who waited is known once it holds"
    file.bury(B)
    space.raw(lambda txn: locks.purge(txn, b"", 10))
    assert said() == []


def test_rows_from_before_processes_were_told_are_read() -> None:
    key = keys.inode_locks_key(InodeId(7))
    old = rows.encode(((), ()))
    assert locks.decode_locks(key, old) == InodeLocks()


def test_there_is_an_end_to_the_locks_of_a_file(file: Locks, space: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_op, "locks_per_inode_max", 2)
    monkeypatch.setattr(lock_op, "lock_waits_per_inode_max", 1)
    for start in (0, 10):
        file.ask(A, LockStep.TRY, kind=RANGE, start=start, end=start + 5)
    file.refused(Code.NO_LOCKS, B, LockStep.TRY, kind=RANGE, start=30, end=40)
    file.refused(Code.NO_LOCKS, A, LockStep.UNLOCK, kind=RANGE, start=2, end=3)
    file.ask(B, LockStep.WAIT, kind=RANGE, end=5)
    file.refused(Code.NO_LOCKS, C, LockStep.WAIT, kind=RANGE, end=5, wait=50)
    file.bury(A)
    for start in (30, 50):
        assert file.try_lock(C, kind=RANGE, start=start, end=start + 5), "void locks take no room"
    file.refused(Code.NO_LOCKS, C, LockStep.TRY, kind=RANGE, start=70, end=75)


def test_there_is_an_end_to_the_locks_of_a_client(file: Locks, space: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_op, "locks_per_client_max", 2)
    monkeypatch.setattr(lock_op, "lock_waits_per_client_max", 1)
    others = [space.file(name).id for name in "gh"]
    for inode in (file.inode, others[0]):
        file.ask(A, LockStep.TRY, inode=inode)
    file.refused(Code.NO_LOCKS, A, LockStep.TRY, inode=others[1])
    file.ask(A, LockStep.UNLOCK)
    file.ask(A, LockStep.TRY, inode=others[1])
    file.ask(B, LockStep.WAIT, inode=others[0])
    file.refused(Code.NO_LOCKS, B, LockStep.WAIT, inode=others[1], wait=50)
