"""The check of a namespace that changes between any two of its pages finds what is wrong and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from fs3.base.ids import ChainId, ClientId, InodeId, NodeId, TableId
from fs3.base.prng import Prng
from fs3.core.meta import allocation, keys, rows
from fs3.core.meta.bootstrap import ensure_root
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.namespace_check import NamespaceCheck
from fs3.core.meta.fsck.pages import check_page, inspect_inodes
from fs3.core.meta.fsck.problems import describe, name_of
from fs3.core.meta.fsck.repair import repair
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.core.meta.garbage import delete_file, dismantle, next_garbage
from fs3.core.meta.operations import OPERATIONS
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.symlink import symlink
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.chain import ChainTable
from fs3.model.check import CheckPage, Inspection, ProblemKind, RowTable
from fs3.model.inode import User
from fs3.model.namespace import OpenResult, PathRef, RemoveKind, RenameMode
from fs3.model.routing import Routing

ROUTING = Routing(tables={TableId(1): ChainTable(TableId(1), 1, 1, tuple(ChainId(number) for number in range(1, 4)))})
NAMES = "abcde"

RECORDS = {operation: record for record, operation in OPERATIONS.items()}


def call(verb: Any, txn: Any, ctx: OpContext, *args: Any, **options: Any) -> Any:
    """A verb takes its record, made of these fields; other functions take what is given."""
    record = RECORDS.get(verb)
    return verb(txn, ctx, *args, **options) if record is None else verb(txn, ctx, record(*args, **options))


class Busy:
    """A namespace and somebody who does anything to it."""

    def __init__(self, seed: int) -> None:
        self.prng = Prng(seed)
        self.kv = MemoryKV()
        self.wall = 1_700_000_000_000_000_000
        self.open: list[OpenResult] = []
        self.quiet: set[bytes] = set()
        """Directories in which nothing is done."""
        self.done = 0
        self.act(ensure_root)
        for _ in range(150):
            self.step()

    def act(self, verb: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.wall += 1
        ctx = OpContext(User(0, 0), self.wall, ClientId(b"somebody busy!!!"), 0, ROUTING, LayoutDefaults(TableId(1), 1 << 20, 2))
        ctx.tally = NodeId(self.wall % 3)  # as if several services took turns
        return self.kv.transact_now(lambda txn: call(verb, txn, ctx, *args, **options))

    def path(self) -> PathRef:
        return PathRef(path="/".join(self.prng.pick(NAMES) for _ in range(1 + self.prng.below(3))))

    def there(self) -> PathRef:
        """Something that exists."""
        found = [key for key, _ in self.kv.read_now(entries) if not self.is_idle(key)]
        if not found:
            return self.path()
        key = self.prng.pick(found)
        return PathRef(InodeId(int.from_bytes(key[4:12], "big")), key[keys.NAME_AT :].decode())

    def is_idle(self, key: bytes) -> bool:
        return key[4:12] in self.quiet or key[keys.NAME_AT :] in (b"quiet", b"lost+found") or b"#" in key[keys.NAME_AT :]

    def new(self) -> PathRef:
        """Any name in a directory that exists."""
        near = self.there()
        return PathRef(near.parent, f"{self.prng.pick(NAMES)}{self.prng.below(30)}")

    def step(self) -> None:
        prng = self.prng
        try:
            match prng.below(14):
                case 0 | 1:
                    opened = self.act(open_file, self.new(), write=True, create=True)
                    self.open.append(opened)
                case 2:
                    self.act(mkdir, self.new())
                case 3:
                    self.act(symlink, self.new(), target="a/b")
                case 4:
                    self.act(link, self.there(), self.new())
                case 5 | 6 | 7:
                    self.act(rename, self.there(), self.new(), RenameMode.REPLACE)
                case 8:
                    self.act(rename, self.there(), self.there(), RenameMode.EXCHANGE)
                case 9:
                    self.act(remove, self.there(), prng.pick([RemoveKind.FILE, RemoveKind.DIRECTORY] * 4 + [RemoveKind.TREE]))
                case 10:
                    self.open.append(self.act(open_file, PathRef(), unnamed=True, write=True, create=True))
                case 11:
                    if self.open:
                        opened = self.open.pop(prng.below(len(self.open)))
                        goal = self.there() if prng.below(2) else self.new()
                        publish = goal if opened.inode.nlink == 0 and prng.below(4) else None
                        self.act(close_file, opened.inode.content_id, opened.session, length=prng.below(99), publish=publish)
                case 12:
                    self.act(dismantle, 2)
                    self.kv.transact_now(self.reclaim)
                case 13:
                    self.open.append(self.act(open_file, self.there(), write=True, truncate=True))
            self.done += 1
        except MetaError:
            return

    async def reclaim(self, txn: Any) -> None:
        for garbage, _ in await next_garbage(txn, 1):
            await delete_file(txn, garbage)


class BetweenPages:
    """Pages of a namespace, with something going on between any two."""

    def __init__(self, busy: Busy, rows_per_page: int, steps: int) -> None:
        self.busy = busy
        self.rows_per_page = rows_per_page
        self.steps = steps

    def meanwhile(self) -> None:
        for _ in range(self.busy.prng.below(self.steps + 1)):
            before = self.busy.done
            for _ in range(50):  # most of what is tried at random is refused
                self.busy.step()
                if self.busy.done > before:
                    break

    async def page(self, table: RowTable, begin: bytes) -> CheckPage:
        self.meanwhile()
        return self.busy.kv.read_now(lambda txn: check_page(txn, table, begin, self.rows_per_page))

    async def inspect(self, inodes: Sequence[int]) -> Inspection:
        self.meanwhile()
        return self.busy.kv.read_now(lambda txn: inspect_inodes(txn, inodes))


def survey(busy: Busy, steps: int) -> NamespaceCheck:
    prng = busy.prng
    found = NamespaceCheck(BetweenPages(busy, 1 + prng.below(6), steps), per_pass=1 + prng.below(40))
    try:
        found.run().send(None)
    except StopIteration:
        return found
    raise AssertionError("a check on memory does not wait")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """New inodes come between those that are there, as far as services have ids left, and these end."""
    monkeypatch.setattr(allocation, "ids_per_block", 20)


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_found_where_nothing_is_wrong(seed: int) -> None:
    busy = Busy(seed)
    before = busy.done
    found = survey(busy, 1 + seed % 3)
    assert [describe(problem) for problem in found.problems] == []
    assert busy.done >= before + 3
    assert busy.kv.read_now(check_namespace) == []


@pytest.mark.parametrize("seed", range(20))
def test_what_is_wrong_is_found_among_what_changes(seed: int) -> None:
    """Damage to what nobody touches; the rest is busy as before."""
    busy = Busy(1000 + seed)
    busy.quiet.add(busy.act(mkdir, PathRef(path="quiet")).id.to_bytes(8, "big"))
    for name in ("f", "g", "h"):
        opened = busy.act(open_file, PathRef(path=f"quiet/{name}"), create=True)
    busy.act(mkdir, PathRef(path="quiet/d"))

    async def damage(txn: Any) -> None:
        (_, quiet), *_ = await txn.scan(keys.dirent_key(InodeId(1), b"quiet"), keys.dirent_key(InodeId(1), b"quiet\1"), 1)
        parent = rows.decode_dirent(b"", quiet).inode
        (f, g, h) = [(await rows.find_dirent(txn, keys.dirent_key(parent, name))).inode for name in (b"f", b"g", b"h")]  # type: ignore[union-attr]
        txn.delete(keys.inode_key(f))
        rows.put_inode(txn, replace(await rows.get_inode(txn, g), nlink=3))
        txn.delete(keys.dirent_key(parent, b"h"))
        directory = await rows.get_inode(txn, parent)
        rows.put_inode(txn, replace(directory, length=directory.length - 1))
        assert opened.inode.id == h

    busy.kv.transact_now(damage)
    found = survey(busy, 1)
    kinds = sorted(name_of(problem) for problem in found.problems if problem.kind is not ProblemKind.MISCOUNTED)
    assert kinds == ["data-of-nothing", "entry-without-inode", "without-name", "wrong-nlink"]
    for _ in range(8):
        for problem in found.problems:
            busy.step()
            busy.act(repair, problem)
        found = survey(busy, 1)
        if not found.problems:
            break
    assert found.problems == []
    names = [key[keys.NAME_AT :] for key, _ in busy.kv.read_now(entries)]
    assert b"#%d" % opened.inode.id in names
    # What could not be compared while things changed is left: how many inodes there are.
    for problem in survey(busy, 0).problems:
        assert name_of(problem) == "miscounted"
        assert busy.act(repair, problem).done
    assert busy.kv.read_now(check_namespace) == []


async def entries(txn: Any) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = await txn.scan(keys.DIRENT, keys.end_of(keys.DIRENT), 1 << 20)
    return found
