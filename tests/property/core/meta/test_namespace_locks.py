"""Locks beside everything else that is done to files: the machine of `test_xattrs`, whose users now lock what they may, under any
of its names and none. What holds between several clients, and waits, is `test_lock_model`'s.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta.locks import get_inode_locks
from fs3.core.meta.ops.lock import lock
from fs3.model.inode import User
from fs3.model.lock import LOCK_END, LockKind, LockStep
from fs3.sim.namespace_model import ModelError, ModelNode
from tests.property.core.meta.test_namespace import USER
from tests.property.core.meta.test_xattrs import Attributes

READ, WRITE = 4, 2
BYTES = 4
OWNERS = st.integers(1, 3)
SPANS = st.integers(0, BYTES - 1).flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, BYTES)))

Cell = tuple[int, LockKind, int, int]
"""(inode, kind, owner, byte)."""


class LockedNamespaces(Attributes):
    def __init__(self) -> None:
        self.cells: dict[Cell, bool] = {}
        """Which bytes are locked exclusively, and which not; a whole file is byte 0."""
        super().__init__()

    def pick(self, index: int) -> ModelNode:
        files = [node for node in self.model.files if node.id]
        return files[index % len(files)]

    def check_lockable(self, user: User, node: ModelNode, *, is_for_writing: bool) -> None:
        may = user.uid in (0, node.uid) or self.model.may_access(user, node, WRITE)
        may = may or (not is_for_writing and self.model.may_access(user, node, READ))
        if not (may or any(content is node.content for content, _, _ in self.model.sessions)):
            raise ModelError(Code.ACCESS)

    def take(self, user: User, node: ModelNode, kind: LockKind, owner: int, span: tuple[int, int], exclusive: bool) -> ModelNode:
        self.check_lockable(user, node, is_for_writing=kind is LockKind.RANGE and exclusive)
        for (inode, held, other, at), mode in self.cells.items():
            if (inode, held) == (node.id, kind) and other != owner and span[0] <= at < span[1] and (mode or exclusive):
                raise ModelError(Code.LOCKED)
        self.cells |= {(node.id, kind, owner, at): exclusive for at in range(*span)}
        return node

    @precondition(lambda self: any(node.id for node in self.model.files))
    @rule(user=USER, index=st.integers(0, 9), owner=OWNERS, span=SPANS, exclusive=st.booleans())
    def lock_range(self, user: User, index: int, owner: int, span: tuple[int, int], exclusive: bool) -> None:
        self.acquire(user, self.pick(index), LockKind.RANGE, owner, span, exclusive)

    @precondition(lambda self: any(node.id for node in self.model.files))
    @rule(user=USER, index=st.integers(0, 9), owner=OWNERS, exclusive=st.booleans())
    def lock_whole(self, user: User, index: int, owner: int, exclusive: bool) -> None:
        self.acquire(user, self.pick(index), LockKind.FLOCK, owner, (0, 1), exclusive)

    def acquire(self, user: User, node: ModelNode, kind: LockKind, owner: int, span: tuple[int, int], exclusive: bool) -> None:
        start, end = (0, LOCK_END) if kind is LockKind.FLOCK else span
        fields: dict[str, Any] = {"kind": kind, "owner": owner, "by_handle": kind is LockKind.FLOCK, "exclusive": exclusive}
        model = lambda: self.take(user, node, kind, owner, span, exclusive)  # noqa: E731
        fields |= {"start": start, "end": end, "wait": self.seq + 1}
        self.twice(model, lock, InodeId(node.id), LockStep.TRY, user=user, **fields)

    @precondition(lambda self: self.cells)
    @rule(user=USER, index=st.integers(0, 30), span=SPANS)
    def unlock(self, user: User, index: int, span: tuple[int, int]) -> None:
        inode, kind, owner, _ = sorted(self.cells)[index % len(self.cells)]
        whole = kind is LockKind.FLOCK
        start, end = (0, LOCK_END) if whole else span

        def model() -> ModelNode:
            for at in range(BYTES) if whole else range(*span):
                self.cells.pop((inode, kind, owner, at), None)
            return self.model.root

        fields: dict[str, Any] = {"kind": kind, "owner": owner, "by_handle": whole, "start": start, "end": end}
        self.twice(model, lock, InodeId(inode), LockStep.UNLOCK, user=user, **fields)

    @precondition(lambda self: self.cells)
    @rule(user=USER, index=st.integers(0, 30))
    def release(self, user: User, index: int) -> None:
        """Of both kinds."""
        inode, kind, owner, _ = sorted(self.cells)[index % len(self.cells)]
        by_handle = kind is LockKind.FLOCK

        def model() -> ModelNode:
            self.cells = {cell: mode for cell, mode in self.cells.items() if cell[:3] != (inode, kind, owner)}
            return self.model.root

        self.twice(model, lock, InodeId(inode), LockStep.RELEASE_OWNER, user=user, owner=owner, by_handle=by_handle)

    @invariant()
    def locks_are_those_of_files_that_are_there(self) -> None:
        there = {node.id for node in self.model.files}
        self.cells = {cell: mode for cell, mode in self.cells.items() if cell[0] in there}
        for number in there - {0}:
            found = self.see(lambda txn, number=number: get_inode_locks(txn, InodeId(number)))
            cells = {
                (number, each.kind, each.owner.number, at): each.exclusive
                for each in found.held
                for at in range(each.start, 1 if each.kind is LockKind.FLOCK else each.end)
            }
            assert cells == {cell: mode for cell, mode in self.cells.items() if cell[0] == number}

    def teardown(self) -> None:
        self.act(lock, InodeId(0), LockStep.RELEASE_CLIENT)
        super().teardown()


TestLockedNamespaces = LockedNamespaces.TestCase
TestLockedNamespaces.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
