"""A namespace in memory, and short ways to ask it things."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fs3.base.ids import ChainId, ClientId, InodeId, TableId
from fs3.base.status import Code
from fs3.core.meta.bootstrap import ensure_root
from fs3.core.meta.context import NO_TALLY, LayoutDefaults, OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.core.meta.operations import OPERATIONS
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.list import list_directory
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.stat import stat
from fs3.core.meta.ops.symlink import symlink
from fs3.core.meta.trims import finish_trim
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.chain import ChainTable
from fs3.model.inode import Inode, InodeType, User
from fs3.model.namespace import OpenResult, PathRef
from fs3.model.routing import Routing

ROOT = User(0, 0)
ALICE = User(1000, 1000, (50,))
BOB = User(1001, 1001, (50,))
EVE = User(1002, 1002)
CLIENT = ClientId(b"client-number-01")
OTHER = ClientId(b"client-number-02")


class Space:
    """One namespace. Paths are strings below the root, or PathRefs."""

    root, alice, bob, eve = ROOT, ALICE, BOB, EVE
    client, other = CLIENT, OTHER

    def __init__(self) -> None:
        self.kv = MemoryKV()
        self.wall = 1_700_000_000_000_000_000
        self.user = ROOT
        self.tally = NO_TALLY
        self.owner = ""
        chains = tuple(ChainId(number) for number in range(101, 113))
        self.routing = Routing(
            tables={
                TableId(1): ChainTable(TableId(1), 1, 3, chains),
                TableId(2): ChainTable(TableId(2), 1, 2, (ChainId(7), ChainId(8))),
                TableId(3): ChainTable(TableId(3), 1, 1, ()),
            }
        )
        self.defaults = LayoutDefaults(TableId(1), 1 << 20, 4)
        self.do(ensure_root, mode=0o777)

    def context(self, user: User | None = None, client: ClientId = CLIENT, seq: int = 0) -> OpContext:
        return OpContext(
            user or self.user, self.wall, client, seq, self.routing, self.defaults, tally=self.tally, owner=self.owner
        )

    def do(self, op: Any, *args: Any, user: User | None = None, client: ClientId = CLIENT, seq: int = 0, **options: Any) -> Any:
        """A verb in a transaction of its own."""
        self.wall += 1000
        ctx = self.context(user, client, seq)
        return self.kv.transact_now(lambda txn: _call(op, txn, ctx, _refs(args), _refs_of(options)))

    def see(self, op: Any, *args: Any, **options: Any) -> Any:
        """A verb that only reads, on a snapshot; the clock stands still."""
        ctx = self.context()
        return self.kv.read_now(lambda txn: _call(op, txn, ctx, _refs(args), options))

    def raw(self, op: Any) -> Any:
        """A function of a transaction alone."""
        return self.kv.transact_now(op)

    def refused(self, code: Code, op: Any, *args: Any, **options: Any) -> MetaError:
        """The error of a verb that must be refused with `code`, and leave no trace."""
        before = self.rows()
        with pytest.raises(MetaError) as caught:
            self.do(op, *args, **options)
        assert caught.value.code is code, f"{caught.value.code.name} ({caught.value}), expected {code.name}"
        assert self.rows() == before
        return caught.value

    def rows(self) -> list[tuple[bytes, bytes]]:
        async def everything(txn: Any) -> Any:
            return await txn.scan(b"", b"\xff", 1 << 40)

        return self.kv.read_now(everything)

    def keys_of(self, prefix: bytes) -> list[bytes]:
        """Of the rows of one kind."""
        return [key for key, _ in self.rows() if key.startswith(prefix)]

    def content(self, path: str | PathRef) -> bytes | None:
        """What a read open brings."""
        return self.see(open_file, path, want_data=True).data  # type: ignore[no-any-return]

    def problems(self) -> list[str]:
        return self.kv.read_now(check_namespace)

    def stat(self, path: str | PathRef, follow: bool = False) -> Inode:
        return self.see(stat, path, follow)

    def by_id(self, inode: InodeId) -> Inode:
        return self.stat(PathRef(inode))

    def dir(self, path: str, mode: int = 0o755, user: User | None = None, **options: Any) -> Inode:
        return self.do(mkdir, path, mode=mode, user=user, **options)

    def open(self, path: str | PathRef, **options: Any) -> OpenResult:
        return self.do(open_file, path, **{"write": True, **options})

    def file(self, path: str, mode: int = 0o644, user: User | None = None, length: int = 0) -> Inode:
        opened = self.open(path, create=True, exclusive=True, mode=mode, user=user)
        return self.do(close_file, opened.inode.id, opened.session, length=length, user=user)

    def finish_trim(self, inode: Inode) -> Inode | None:
        """What the service does when storage has cut what a truncation says."""
        return self.raw(lambda txn: finish_trim(txn, inode.id, inode))  # type: ignore[no-any-return]

    def link(self, path: str, target: str, user: User | None = None) -> Inode:
        return self.do(symlink, path, target=target, user=user)

    def names(self, path: str | PathRef = "") -> list[str]:
        return [entry.name for entry in self.see(list_directory, path).entries]

    def tree(self, path: str = "") -> set[str]:
        """All paths below a directory; those of directories end in a slash."""
        found = set()
        for entry in self.see(list_directory, path).entries:
            below = f"{path}/{entry.name}" if path else entry.name
            if entry.type is InodeType.DIRECTORY:
                found.add(below + "/")
                found |= self.tree(below)
            else:
                found.add(below)
        return found


_RECORDS = {operation: record for record, operation in OPERATIONS.items()}


def _call(op: Any, txn: Any, ctx: OpContext, args: list[Any], options: dict[str, Any]) -> Any:
    """`mkdir, "d", mode=0o700` is the verb of `Mkdir(PathRef.of("d"), mode=0o700)`; other functions take what is given."""
    record = _RECORDS.get(op)
    return op(txn, ctx, *args, **options) if record is None else op(txn, ctx, record(*args, **options))


def _refs(args: tuple[Any, ...]) -> list[Any]:
    # Positional strings are paths; other texts (the target of a symlink, a cursor) are given by keyword.
    return [PathRef(path=value) if isinstance(value, str) else value for value in args]


def _refs_of(options: dict[str, Any]) -> dict[str, Any]:
    return {key: PathRef(path=value) if key == "publish" and isinstance(value, str) else value for key, value in options.items()}


@pytest.fixture
def space() -> Iterator[Space]:
    """A fresh namespace; it must still be whole when the test is over."""
    made = Space()
    yield made
    assert made.problems() == []
