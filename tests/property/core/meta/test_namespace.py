"""The namespace equals a deliberately dumb one made of dicts, whatever is done to it, by whom, and however often.

Every operation is sent twice under one request number: the repetition must answer the same and change no row. After each step
the whole tree is compared, with identities, attributes and names; the namespace is checked for wholeness; and the queue of
garbage holds exactly the files that nobody can reach. In the end everything is removed, and no row may be left.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fs3.base.ids import ChainId, ClientId, InodeId, NodeId, TableId, reader_session
from fs3.base.limits import requests_remembered_ns
from fs3.core.meta import rows
from fs3.core.meta.bootstrap import ensure_root
from fs3.core.meta.client_liveness import forget_client, list_clients, presume_dead
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.core.meta.garbage import begin_reclaim, delete_file, dismantle, next_garbage
from fs3.core.meta.idempotency import sweep
from fs3.core.meta.operations import OPERATIONS
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.hold import hold
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.list import list_directory
from fs3.core.meta.ops.lookup import lookup
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.mknod import mknod
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.meta.ops.stat import stat, stat_paths
from fs3.core.meta.ops.statfs import statfs
from fs3.core.meta.ops.symlink import symlink
from fs3.core.meta.ops.truncate import truncate
from fs3.core.meta.rows import find_inode
from fs3.core.meta.sessions import forget_pruned, list_sessions, prune
from fs3.core.meta.trims import finish_trim
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.chain import ChainTable
from fs3.model.inode import InodeType, User
from fs3.model.namespace import PathRef, RemoveKind, RenameMode
from fs3.model.requests import List, Stat
from fs3.model.routing import Routing
from fs3.sim.namespace_model import ModelError, ModelNode, NamespaceModel

CLIENT = ClientId(b"one client of it")
READER = reader_session(CLIENT)
USERS = [User(0, 0), User(0, 0), User(1000, 1000), User(1001, 1001, (1000,))]
ROUTING = Routing(tables={TableId(1): ChainTable(TableId(1), 1, 3, tuple(ChainId(n) for n in range(1, 8)))})

NAMES = st.sampled_from(["a", "b", "c", "é", "\udcff"])
"""The last one is a byte that is not UTF-8."""
PATHS = st.builds(
    lambda lead, parts, trail: lead + "/".join(parts) + trail,
    st.sampled_from(["", "", "", "/", "./"]),
    st.lists(st.one_of(NAMES, NAMES, NAMES, NAMES, NAMES, NAMES, st.sampled_from(["..", ".", ""])), max_size=4),
    st.sampled_from(["", "", "", "", "/", "/."]),
)
TRAIL = st.sampled_from([""] * 12 + ["/", "/."])
THERE = st.tuples(st.integers(0, 30), TRAIL)
ABSENT = st.tuples(st.integers(0, 30), NAMES, TRAIL)
SPOTS = st.one_of(THERE, THERE, ABSENT, ABSENT, PATHS)
"""A path: of something that is there, of a name in a directory that is there, or any."""
MOSTLY_THERE = st.one_of(THERE, THERE, THERE, SPOTS)
USER = st.sampled_from(USERS)
MODES = st.sampled_from([0o777, 0o777, 0o755, 0o700, 0o1777, 0o070, 0o007])
DIRECTORY_MODES = st.one_of(MODES, st.just(0o2777))
KINDS = {
    "f": InodeType.FILE,
    "d": InodeType.DIRECTORY,
    "l": InodeType.SYMLINK,
    "p": InodeType.FIFO,
    "s": InodeType.SOCKET,
    "b": InodeType.BLOCK_DEVICE,
    "c": InodeType.CHARACTER_DEVICE,
}
LENGTHS = st.integers(0, 3)

RECORDS = {operation: record for record, operation in OPERATIONS.items()}


def call(verb: Any, txn: Any, ctx: OpContext, *args: Any, **options: Any) -> Any:
    """A verb takes its record, made of these fields; other functions take what is given."""
    record = RECORDS.get(verb)
    return verb(txn, ctx, *args, **options) if record is None else verb(txn, ctx, record(*args, **options))


class Namespaces(RuleBasedStateMachine):
    def __init__(self, model: NamespaceModel | None = None) -> None:
        super().__init__()
        self.kv, self.model = MemoryKV(), model or NamespaceModel()
        self.wall, self.seq = 1_700_000_000_000_000_000, 0
        self.act(ensure_root, mode=0o777)
        # Something to begin with, so that short runs reach interesting places.
        root, alice = USERS[0], USERS[2]
        for path, user in [("a/b/c", root), ("b", alice), ("b/a", alice)]:
            self.mkdir(user, path, 0o777, True)
        for path, user in [("a/a", root), ("a/b/a", alice), ("b/a/a", alice)]:
            self.open(user, path, True, False, False, 0o666, 1)
        self.symlink(root, "b/b", "../a", False)
        self.link(root, "a/a", "b/c")

    # --- plumbing ---

    def context(self, user: User, seq: int) -> OpContext:
        ctx = OpContext(user, self.wall, CLIENT, seq, ROUTING, LayoutDefaults(TableId(1), 1 << 20, 3, inline_bytes=0))
        ctx.tally = NodeId(self.wall % 3)  # as if several services took turns
        if seq:
            ctx.open_contents = frozenset(InodeId(content.id) for content in self.model.reading)
        return ctx

    def act(self, verb: Any, *args: Any, user: User = USERS[0], **options: Any) -> Any:
        """A verb, once."""
        self.wall += 1
        ctx = self.context(user, 0)
        return self.kv.transact_now(lambda txn: call(verb, txn, ctx, *args, **options))

    def twice(self, expected: Any, verb: Any, *args: Any, user: User, **options: Any) -> Any:
        """A verb and its repetition, against what the dumb namespace says: (what it answered, the dumb one's node), or None."""
        unnamed = self.model.list_unnamed()
        try:
            node = expected()
        except ModelError as fail:
            node = fail
        self.model.kept += [content for content in self.model.list_unnamed() if content not in unnamed]
        self.wall += 1
        self.seq += 1
        ctx = self.context(user, self.seq)
        before, refusal = self.rows(), None
        try:
            answer = self.kv.transact_now(lambda txn: call(verb, txn, ctx, *args, **options))
        except MetaError as error:
            refusal = error
        if refusal is not None:
            assert isinstance(node, ModelError), f"refused with {refusal.code.name} ({refusal}), but should have been granted"
            assert refusal.code is node.code, f"refused with {refusal.code.name} ({refusal}), should be {node.code.name}"
            assert self.rows() == before
            return None
        assert not isinstance(node, ModelError), f"granted, should have been refused with {node.code.name}"
        after = self.rows()
        self.wall += 1
        repeated = self.context(user, self.seq)
        assert self.kv.transact_now(lambda txn: call(verb, txn, repeated, *args, **options)) == answer
        assert self.rows() == after
        return answer, node

    def rows(self) -> list[tuple[bytes, bytes]]:
        return self.see(lambda txn: txn.scan(b"", b"\xff", 1 << 30))

    def see(self, op: Any) -> Any:
        return self.kv.read_now(op)

    @staticmethod
    def identify(found: Any) -> None:
        if found:
            inode, node = found
            assert node.id in (0, inode.id)
            node.id = inode.id
            if node.kind == "f":
                assert node.content.id in (0, inode.content_id)
                node.content.id = inode.content_id

    def path(self, spot: Any) -> str:
        """The text of a spot."""
        if isinstance(spot, str):
            return spot
        number, *name, trail = spot
        paths = [path for path, node in self.model.list_paths() if node.kind == "d" or not name]
        return "/".join([paths[number % len(paths)], *name]) + trail

    # --- rules ---

    @rule(user=USER, spot=SPOTS, mode=DIRECTORY_MODES, parents=st.booleans())
    def mkdir(self, user: User, spot: Any, mode: int, parents: bool) -> None:
        path = self.path(spot)
        model = lambda: self.model.mkdir(user, path, mode, parents)  # noqa: E731
        found = self.twice(model, mkdir, PathRef(path=path), user=user, mode=mode, parents=parents)
        if found:
            # With `parents` several were made; the others are found by walking.
            self.identify(found)
            self.identify_directories()

    def identify_directories(self) -> None:
        for node in self.model.list_directories():
            for name, child in node.entries.items():
                if child.id == 0:
                    child.id = self.act(lookup, PathRef(InodeId(node.id), name)).inode

    @rule(
        user=USER, spot=SPOTS, create=st.booleans(), exclusive=st.booleans(), truncate=st.booleans(), mode=MODES,
        length=st.one_of(st.none(), LENGTHS),
    )  # fmt: skip
    def open(self, user: User, spot: Any, create: bool, exclusive: bool, truncate: bool, mode: int, length: int | None) -> None:
        path = self.path(spot)
        options = {"create": create, "exclusive": exclusive, "truncate": truncate, "mode": mode}
        model = lambda: self.model.open(user, path, **options)  # noqa: E731
        found = self.twice(model, open_file, PathRef(path=path), user=user, write=True, **options)
        if found:
            opened, node = found
            self.identify((opened.inode, node))
            for left in self.model.files:
                # Truncation leaves the old content to an inode of the id that the fresh content has.
                left.id = left.id or opened.inode.content_id
            self.model.sessions.append((node.content, opened.session, False))
            if length is not None:
                self.close(-1, length, "", False, user)

    @precondition(lambda self: any(self.model.count_names(node) for node in self.model.files))
    @rule(index=st.integers(0, 9))
    def open_to_read(self, index: int) -> None:
        files = [node for node in self.model.files if self.model.count_names(node)]
        content = files[index % len(files)].content
        if content not in self.model.reading:
            self.model.reading.append(content)

    @precondition(lambda self: self.model.reading)
    @rule(index=st.integers(0, 9))
    def close_reader(self, index: int) -> None:
        content = self.model.reading.pop(index % len(self.model.reading))
        if content in self.model.kept:
            self.model.kept.remove(content)
            self.act(close_file, InodeId(content.id), READER)

    @precondition(lambda self: self.model.list_unnamed())
    @rule(index=st.integers(0, 9))
    def keep(self, index: int) -> None:
        """What another client has removed, or is dismantled with its directory."""
        unnamed = self.model.list_unnamed()
        content = unnamed[index % len(unnamed)]
        assert self.act(hold, InodeId(content.id)).session == READER
        if content not in self.model.kept:
            self.model.kept.append(content)

    @rule(user=USER, spot=SPOTS, mode=MODES)
    def open_unnamed(self, user: User, spot: Any, mode: int) -> None:
        path = self.path(spot)
        model = lambda: self.model.open_unnamed(user, path, mode)  # noqa: E731
        found = self.twice(model, open_file, PathRef(path=path), user=user, unnamed=True, mode=mode)
        if found:
            opened, node = found
            self.identify((opened.inode, node))
            self.model.sessions.append((node.content, opened.session, True))

    @precondition(lambda self: self.model.sessions)
    @rule(index=st.integers(0, 9), length=LENGTHS, spot=SPOTS, exclusive=st.booleans(), user=USER)
    def close(self, index: int, length: int, spot: Any, exclusive: bool, user: User) -> None:
        path = self.path(spot)
        content, session, unnamed = entry = self.model.sessions[index % len(self.model.sessions)]
        options: dict[str, Any] = {"length": length, "modified": length != 2}
        if unnamed:
            options |= {"publish": PathRef(path=path), "exclusive": exclusive}

        def model() -> ModelNode:
            if unnamed and path:
                self.model.publish(user, self.model.find_by_content(content), path, exclusive)
            self.model.sessions.remove(entry)
            if content in self.model.list_unnamed() and content not in self.model.kept:
                self.model.kept.append(content)  # by the end of the writer's session
            return self.model.write(user, content, length, length != 2)

        self.identify(self.twice(model, close_file, InodeId(content.id), session, user=user, **options))

    @precondition(lambda self: self.model.sessions)
    @rule(length=LENGTHS)
    def prune(self, length: int) -> None:
        row = next(row for row in self.see(lambda txn: list_sessions(txn, None, 1 << 20)) if not row.reader)
        self.act(prune, row, length)
        entry = next(entry for entry in self.model.sessions if (entry[0].id, entry[1]) == (row.content, row.id))
        self.model.write(USERS[0], entry[0], length, False)
        self.model.sessions.remove(entry)

    @rule(user=USER, spot=MOSTLY_THERE, kind=st.sampled_from(RemoveKind))
    def remove(self, user: User, spot: Any, kind: RemoveKind) -> None:
        path = self.path(spot)
        found = self.twice(lambda: self.model.remove(user, path, kind), remove, PathRef(path=path), kind, user=user)
        if found:
            assert found[0] == found[1].id

    @rule(user=USER, source=MOSTLY_THERE, goal=SPOTS, mode=st.sampled_from(RenameMode))
    def rename(self, user: User, source: Any, goal: Any, mode: RenameMode) -> None:
        old, new = self.path(source), self.path(goal)
        model = lambda: self.model.rename(user, old, new, mode)  # noqa: E731
        self.identify(self.twice(model, rename, PathRef(path=old), PathRef(path=new), mode, user=user))

    @rule(user=USER, spot=SPOTS, to=SPOTS, absolute=st.booleans())
    def symlink(self, user: User, spot: Any, to: Any, absolute: bool) -> None:
        path, text = self.path(spot), "/" * absolute + self.path(to)
        model = lambda: self.model.symlink(user, path, text)  # noqa: E731
        self.identify(self.twice(model, symlink, PathRef(path=path), text, user=user))

    @rule(user=USER, spot=SPOTS, kind=st.sampled_from("fppsbc"), mode=MODES)
    def mknod(self, user: User, spot: Any, kind: str, mode: int) -> None:
        path = self.path(spot)
        rdev = 0x103 if kind in "bc" else 0
        model = lambda: self.model.mknod(user, path, kind, mode, rdev)  # noqa: E731
        self.identify(self.twice(model, mknod, PathRef(path=path), KINDS[kind], mode, rdev, user=user))

    @rule(user=USER, source=MOSTLY_THERE, goal=SPOTS)
    def link(self, user: User, source: Any, goal: Any) -> None:
        old, new = self.path(source), self.path(goal)
        model = lambda: self.model.link(user, old, new)  # noqa: E731
        self.identify(self.twice(model, link, PathRef(path=old), PathRef(path=new), user=user))

    @rule(user=USER, spot=SPOTS, mode=MODES)
    def chmod(self, user: User, spot: Any, mode: int) -> None:
        path = self.path(spot)
        model = lambda: self.model.chmod(user, path, mode)  # noqa: E731
        self.identify(self.twice(model, set_attributes, PathRef(path=path), user=user, mode=mode))

    @rule(user=USER, spot=SPOTS, uid=st.sampled_from([0, 1000, 1001]), gid=st.sampled_from([0, 1000, 1001]))
    def chown(self, user: User, spot: Any, uid: int, gid: int) -> None:
        path = self.path(spot)
        model = lambda: self.model.chown(user, path, uid, gid)  # noqa: E731
        self.identify(self.twice(model, set_attributes, PathRef(path=path), user=user, follow=False, uid=uid, gid=gid))

    @precondition(lambda self: any(self.model.count_names(node) for node in self.model.files))
    @rule(index=st.integers(0, 9), length=LENGTHS)
    def truncate(self, index: int, length: int) -> None:
        files = [node for node in self.model.files if self.model.count_names(node)]
        node = files[index % len(files)]
        node.content.length = length
        self.model.change_content(USERS[0], node)
        self.identify(self.twice(lambda: node, truncate, InodeId(node.content.id), length, user=USERS[0]))
        # What the service does before it answers.
        row = self.see(lambda txn: find_inode(txn, InodeId(node.id)))
        self.kv.transact_now(lambda txn: finish_trim(txn, row.id, row))

    @rule(user=USER, spots=st.lists(SPOTS, max_size=6), follow=st.booleans())
    def stat(self, user: User, spots: list[Any], follow: bool) -> None:
        paths = [self.path(spot) for spot in spots]
        ctx = self.context(user, 0)
        together = self.see(lambda txn: stat_paths(txn, ctx, InodeId(0), paths, follow))
        for path, answer in zip(paths, together, strict=True):
            try:
                expected: Any = self.model.find(user, path, follow).id
            except ModelError as fail:
                expected = fail.code
            assert (answer.code if isinstance(answer, MetaError) else answer.id) == expected
            try:
                alone: Any = self.see(lambda txn, path=path: stat(txn, ctx, Stat(PathRef(path=path), follow)))
            except MetaError as error:
                alone = error.code
            assert alone == (answer.code if isinstance(answer, MetaError) else answer)

    @rule(limit=st.integers(1, 3))
    def dismantle(self, limit: int) -> None:
        done = self.act(dismantle, limit)
        assert (done > 0) == bool(self.model.detached_directories)
        self.model.dismantle(limit)

    @precondition(lambda self: self.model.list_garbage())
    @rule()
    def reclaim(self) -> None:
        row, inode = self.see(lambda txn: next_garbage(txn, 1))[0]
        assert self.kv.transact_now(lambda txn: begin_reclaim(txn, [row])) == {inode.id}
        assert self.kv.transact_now(lambda txn: delete_file(txn, row))
        self.model.reading = [content for content in self.model.reading if content.id != inode.content_id]
        self.model.files = [node for node in self.model.files if node.id != inode.id]

    # --- what must hold ---

    @invariant()
    def the_namespace_is_whole(self) -> None:
        assert self.see(check_namespace) == []

    @invariant()
    def both_trees_are_equal(self) -> None:
        todo = [(self.model.root, PathRef())]
        ctx = self.context(USERS[0], 0)
        while todo:
            node, ref = todo.pop()
            inode = self.see(lambda txn, ref=ref: stat(txn, ctx, Stat(ref, False)))
            ours = (
                node.id,
                KINDS[node.kind],
                node.mode,
                node.uid,
                node.gid,
                self.model.count_links(node),
                node.target,
                node.rdev,
            )
            assert (inode.id, inode.type, inode.mode, inode.uid, inode.gid, inode.nlink, inode.link_target, inode.rdev) == ours
            assert inode.length == (len(node.entries) if node.kind == "d" else node.length)
            if node.kind == "d":
                assert inode.parent == (node.parent or node).id
                listing = self.see(lambda txn, id=inode.id: list_directory(txn, ctx, List(PathRef(id))))
                assert [entry.name for entry in listing.entries] == sorted(node.entries, key=os.fsencode)
                todo += [(child, PathRef(inode.id, name)) for name, child in node.entries.items()]

    @invariant()
    def what_nobody_can_reach_is_queued(self) -> None:
        queued = self.see(lambda txn: next_garbage(txn, 1 << 20))
        assert {inode.id for _, inode in queued} == self.model.list_garbage()
        assert self.see(statfs).garbage == len(queued) + len(self.model.detached_directories)

    def teardown(self) -> None:
        for name in list(self.model.root.entries):
            self.act(remove, PathRef(path=name), RemoveKind.TREE)
        while self.act(dismantle, 2):
            pass
        for row in self.see(lambda txn: list_sessions(txn, None, 1 << 20)):
            self.act(prune, row, None)
        for garbage, _ in self.see(lambda txn: next_garbage(txn, 1 << 20)):
            self.kv.transact_now(lambda txn, garbage=garbage: delete_file(txn, garbage))
        late = self.wall + requests_remembered_ns
        assert self.kv.transact_now(lambda txn: sweep(txn, late, ClientId(bytes(16)), 1 << 20))[0] is None
        assert self.kv.transact_now(lambda txn: forget_pruned(txn, late, b"", 1 << 20))[0] is None
        for client, life in self.see(lambda txn: list_clients(txn, None, 1 << 20)):
            assert self.kv.transact_now(lambda txn, client=client, life=life: presume_dead(txn, client, life))
            assert self.kv.transact_now(lambda txn, client=client, life=life: forget_client(txn, client, life.heartbeats))
        assert self.see(check_namespace) == []
        assert len(self.rows()) == 2 + len(self.see(rows.find_tallies))  # the root and the counters
        assert self.see(statfs).inodes == 1


TestNamespaces = Namespaces.TestCase
TestNamespaces.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
