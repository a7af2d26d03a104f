"""The namespace equals a deliberately dumb one made of dicts, whatever is done to it, by whom, and however often.

Every operation is sent twice under one request number: the repetition must answer the same and change no row. After each step
the whole tree is compared, with identities, attributes and names; the namespace is checked for wholeness; and the queue of
garbage holds exactly the files that nobody can reach. In the end everything is removed, and no row may be left.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fs3.base.ids import ChainId, ClientId, InodeId, TableId
from fs3.base.limits import requests_remembered_ns
from fs3.base.status import Code
from fs3.core.meta.bootstrap import ensure_root
from fs3.core.meta.check import check_namespace
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.garbage import dismantle, finish, next_garbage
from fs3.core.meta.idempotency import sweep
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.list import list_directory
from fs3.core.meta.ops.lookup import lookup
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.meta.ops.stat import batch_stat, stat
from fs3.core.meta.ops.statfs import count
from fs3.core.meta.ops.symlink import symlink
from fs3.core.meta.ops.truncate import truncate
from fs3.core.meta.sessions import list_sessions, prune
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.chain import ChainTable
from fs3.model.inode import InodeType, User
from fs3.model.namespace import PathRef, RemoveKind, RenameMode
from fs3.model.routing import Routing

CLIENT = ClientId(b"one client of it")
USERS = [User(0, 0), User(0, 0), User(1000, 1000), User(1001, 1001, (1000,))]
ROUTING = Routing(tables={TableId(1): ChainTable(TableId(1), 1, 3, tuple(ChainId(n) for n in range(1, 8)))})

NAMES = st.sampled_from("abcd")
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
LENGTHS = st.integers(0, 3)


class Fail(Exception):
    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


class Node:
    """A file ("f"), directory ("d") or symlink ("l") of the dumb namespace."""

    def __init__(self, kind: str, mode: int, uid: int, gid: int) -> None:
        self.kind, self.mode, self.uid, self.gid = kind, mode, uid, gid
        self.id = 0
        self.entries: dict[str, Node] = {}
        self.up: Node | None = None
        self.target = ""
        self.length = 0


class Dumb:
    """Names in dicts. What is not asked for often enough to be fast is counted every time."""

    def __init__(self) -> None:
        self.root = Node("d", 0o777, 0, 0)
        self.root.id = 1
        self.queue: list[Node] = []
        """Detached directories, in the order in which they are dismantled."""
        self.sessions: list[tuple[Node, int, bool]] = []
        self.files: list[Node] = []

    # --- what is there ---

    def directories(self) -> list[Node]:
        found, todo = [], [self.root, *self.queue]
        while todo:
            node = todo.pop()
            found.append(node)
            todo += [child for child in node.entries.values() if child.kind == "d"]
        return found

    def paths(self) -> list[tuple[str, Node]]:
        """Every path that reaches something without symlinks, the shortest first, and the root last."""
        found, todo = [], [("", self.root)]
        for path, node in todo:
            found.append((path, node))
            todo += [(f"{path}/{name}" if path else name, child) for name, child in sorted(node.entries.items())]
        return found[1:] + found[:1]

    def names_of(self, node: Node) -> int:
        return sum(child is node for directory in self.directories() for child in directory.entries.values())

    def nlink(self, node: Node) -> int:
        if node.kind == "d":
            return 0 if node in self.queue else 2 + sum(child.kind == "d" for child in node.entries.values())
        return self.names_of(node)

    def garbage(self) -> set[int]:
        written = {id(node) for node, _, _ in self.sessions}
        return {node.id for node in self.files if not self.names_of(node) and id(node) not in written}

    # --- who may ---

    @staticmethod
    def may(user: User, node: Node, bits: int) -> bool:
        if user.uid == 0:
            return True
        if user.uid == node.uid:
            shift = 6
        elif node.gid in (user.gid, *user.groups):
            shift = 3
        else:
            shift = 0
        return (node.mode >> shift) & bits == bits

    def change(self, user: User, directory: Node, victim: Node | None = None) -> None:
        if not self.may(user, directory, 3):
            raise Fail(Code.ACCESS)
        if victim is not None and directory.mode & 0o1000 and user.uid not in (0, directory.uid, victim.uid):
            raise Fail(Code.PERMISSION)

    def made(self, user: User, directory: Node, kind: str, mode: int) -> Node:
        inherits = directory.mode & 0o2000
        if kind == "d":
            mode |= inherits
        return Node(kind, mode, user.uid, directory.gid if inherits else user.gid)

    # --- paths ---

    def locate(self, user: User, here: Node, path: str, follow: bool, hops: list[int] | None = None) -> Any:
        """(directory, name or None, node or None, must be a directory)"""
        hops = [0] if hops is None else hops
        slash = path != "" and path.rsplit("/", 1)[-1] in ("", ".")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        where: Any = (here, None, here, slash)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            if here.kind != "d":
                raise Fail(Code.NOT_A_DIRECTORY)
            if not self.may(user, here, 1):
                raise Fail(Code.ACCESS)
            if part == "..":
                here = here.up or here
                where = (here, None, here, True)
                continue
            child = here.entries.get(part)
            if child is not None and child.kind == "l" and (follow or not last):
                hops[0] += 1
                if hops[0] > 40:
                    raise Fail(Code.TOO_MANY_SYMLINKS)
                start = self.root if child.target.startswith("/") else here
                directory, name, child, inner = self.locate(user, start, child.target, True, hops)
                where = (directory, name, child, inner or slash)
            else:
                where = (here, part, child, slash)
            if not last:
                if child is None:
                    raise Fail(Code.NOT_FOUND)
                here = child
        return where

    def existing(self, where: Any) -> Node:
        _, _, node, slash = where
        if node is None:
            raise Fail(Code.NOT_FOUND)
        if slash and node.kind != "d":
            raise Fail(Code.NOT_A_DIRECTORY)
        return node

    def named(self, user: User, path: str, code: Code) -> Any:
        where = self.locate(user, self.root, path, False)
        if where[1] is None:
            raise Fail(code)
        if [part for part in path.split("/") if part][-1] == ".":
            self.existing(where)
            raise Fail(code)
        return where

    def find(self, user: User, path: str, follow: bool) -> Node:
        return self.existing(self.locate(user, self.root, path, follow or path.endswith(("/", "/."))))

    # --- verbs; each answers the node it is about ---

    def mkdir(self, user: User, path: str, mode: int, parents: bool) -> Node:
        if not parents:
            directory, name, node, _ = self.named(user, path, Code.EXISTS)
            if node:
                raise Fail(Code.EXISTS)
            return self.put_directory(user, directory, name, mode)
        here = self.root
        planned: list[tuple[Node, str]] = []
        parts = [part for part in path.split("/") if part not in ("", ".")]
        try:
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                directory, name, node, _ = self.locate(user, here, part, True)
                if node is None:
                    if (directory, name) != (here, part):
                        raise Fail(Code.EXISTS if last else Code.NOT_FOUND)
                    here = self.put_directory(user, directory, name, mode if last else mode | 0o300)
                    planned.append((directory, name))
                elif node.kind != "d":
                    raise Fail(Code.EXISTS if last else Code.NOT_A_DIRECTORY)
                else:
                    here = node
        except Fail:
            for directory, name in planned:
                del directory.entries[name]
            raise
        return here

    def put_directory(self, user: User, directory: Node, name: str, mode: int) -> Node:
        self.change(user, directory)
        node = self.made(user, directory, "d", mode)
        node.up = directory
        directory.entries[name] = node
        return node

    def open(self, user: User, path: str, create: bool, exclusive: bool, truncate: bool, mode: int) -> Node:
        exclusive = exclusive and create
        directory, name, node, slash = where = self.locate(user, self.root, path, not exclusive)
        if name is not None and node is None and create:
            if slash:
                raise Fail(Code.IS_A_DIRECTORY)
            self.change(user, directory)
            node = self.made(user, directory, "f", mode)
            directory.entries[name] = node
            self.files.append(node)
            return node
        if exclusive:
            raise Fail(Code.EXISTS)
        node = self.existing(where)
        if node.kind == "d":
            raise Fail(Code.IS_A_DIRECTORY)
        if not self.may(user, node, 2):
            raise Fail(Code.ACCESS)
        if truncate and self.names_of(node) == 1:
            fresh = Node("f", node.mode, node.uid, node.gid)
            directory.entries[name] = fresh
            self.files.append(fresh)
            return fresh
        return node

    def unnamed(self, user: User, path: str, mode: int) -> Node:
        directory = self.find(user, path, True)
        if directory.kind != "d":
            raise Fail(Code.NOT_A_DIRECTORY)
        self.change(user, directory)
        node = self.made(user, directory, "f", mode)
        self.files.append(node)
        return node

    def publish(self, user: User, node: Node, path: str, exclusive: bool) -> None:
        directory, name, there, slash = where = self.named(user, path, Code.IS_A_DIRECTORY)
        if there is None:
            if slash:
                raise Fail(Code.IS_A_DIRECTORY)
            self.change(user, directory)
        else:
            if exclusive:
                raise Fail(Code.EXISTS)
            if self.existing(where).kind == "d":
                raise Fail(Code.IS_A_DIRECTORY)
            self.change(user, directory, there)
        directory.entries[name] = node

    def remove(self, user: User, path: str, kind: RemoveKind) -> Node:
        directory, name, _, _ = where = self.named(user, path, Code.INVALID)
        node = self.existing(where)
        self.change(user, directory, node)
        if node.kind == "d" and kind is RemoveKind.FILE:
            raise Fail(Code.IS_A_DIRECTORY)
        if node.kind != "d" and kind is RemoveKind.DIRECTORY:
            raise Fail(Code.NOT_A_DIRECTORY)
        if node.entries:
            if kind is RemoveKind.DIRECTORY:
                raise Fail(Code.NOT_EMPTY)
            if user.uid not in (0, node.uid):
                raise Fail(Code.PERMISSION)
            if not self.may(user, node, 7):
                raise Fail(Code.ACCESS)
            self.queue.append(node)
        del directory.entries[name]
        return node

    def rename(self, user: User, source: str, target: str, mode: RenameMode) -> Node:
        where = self.named(user, source, Code.INVALID)
        origin, old_name = where[:2]
        moved = self.existing(where)
        where = self.named(user, target, Code.INVALID)
        goal, new_name, there, slash = where
        exchange = mode is RenameMode.EXCHANGE
        if exchange:
            self.existing(where)
        if slash and moved.kind != "d":
            raise Fail(Code.NOT_A_DIRECTORY)
        if there is not None and mode is RenameMode.NOREPLACE:
            raise Fail(Code.EXISTS)
        if there is moved:
            return moved
        self.change(user, origin, moved)
        self.change(user, goal, there)
        self.check_move(user, moved, origin, goal)
        if exchange:
            self.check_move(user, there, goal, origin)
        elif there is not None and there.kind == "d":
            if moved.kind != "d":
                raise Fail(Code.IS_A_DIRECTORY)
            if there.entries:
                raise Fail(Code.NOT_EMPTY)
        elif there is not None and moved.kind == "d":
            raise Fail(Code.NOT_A_DIRECTORY)
        del origin.entries[old_name]
        if exchange:
            origin.entries[old_name] = there
            there.up = origin if there.kind == "d" else None
        goal.entries[new_name] = moved
        moved.up = goal if moved.kind == "d" else None
        return moved

    def check_move(self, user: User, moved: Node, origin: Node, goal: Node) -> None:
        if moved.kind != "d" or origin is goal:
            return
        if not self.may(user, moved, 2):
            raise Fail(Code.ACCESS)
        above: Node | None = goal
        while above is not None:
            if above is moved:
                raise Fail(Code.WOULD_LOOP)
            above = above.up

    def symlink(self, user: User, path: str, target: str) -> Node:
        if not target:
            raise Fail(Code.NOT_FOUND)
        directory, name, node, slash = self.named(user, path, Code.EXISTS)
        self.absent(node, slash)
        self.change(user, directory)
        made = self.made(user, directory, "l", 0o777)
        made.target, made.length = target, len(target)
        directory.entries[name] = made
        return made

    def link(self, user: User, source: str, target: str) -> Node:
        node = self.find(user, source, False)
        if node.kind == "d":
            raise Fail(Code.PERMISSION)
        directory, name, there, slash = self.named(user, target, Code.EXISTS)
        self.absent(there, slash)
        self.change(user, directory)
        directory.entries[name] = node
        return node

    @staticmethod
    def absent(node: Node | None, slash: bool) -> None:
        if node is not None:
            raise Fail(Code.EXISTS)
        if slash:
            raise Fail(Code.NOT_FOUND)

    def chmod(self, user: User, path: str, mode: int) -> Node:
        node = self.find(user, path, True)
        if user.uid not in (0, node.uid):
            raise Fail(Code.PERMISSION)
        if user.uid and node.gid not in (user.gid, *user.groups):
            mode &= ~0o2000
        node.mode = mode
        return node

    def chown(self, user: User, path: str, uid: int, gid: int) -> Node:
        node = self.find(user, path, False)
        if user.uid not in (0, node.uid) or (user.uid and uid != node.uid):
            raise Fail(Code.PERMISSION)
        if user.uid and gid != node.gid and gid not in (user.gid, *user.groups):
            raise Fail(Code.PERMISSION)
        node.uid, node.gid = uid, gid
        if node.kind != "d" and node.mode & 0o010:
            node.mode &= ~0o2000
        return node

    def dismantle(self, limit: int) -> None:
        if not self.queue:
            return
        directory = self.queue[0]
        names = sorted(directory.entries)[:limit]
        found = [directory.entries.pop(name) for name in names]
        self.queue += sorted((node for node in found if node.kind == "d" and node.entries), key=lambda node: node.id)
        if len(names) < limit:
            self.queue.pop(0)


class Namespaces(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.kv, self.dumb = MemoryKV(), Dumb()
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
        return OpContext(user, self.wall, CLIENT, seq, ROUTING, LayoutDefaults(TableId(1), 1 << 20, 3))

    def act(self, verb: Any, *args: Any, user: User = USERS[0], **options: Any) -> Any:
        """A verb, once."""
        self.wall += 1
        ctx = self.context(user, 0)
        return self.kv.transact_now(lambda txn: verb(txn, ctx, *args, **options))

    def twice(self, expected: Any, verb: Any, *args: Any, user: User, **options: Any) -> Any:
        """A verb and its repetition, against what the dumb namespace says: (what it answered, the dumb one's node), or None."""
        try:
            node = expected()
        except Fail as fail:
            node = fail
        self.wall += 1
        self.seq += 1
        ctx = self.context(user, self.seq)
        before, refusal = self.rows(), None
        try:
            answer = self.kv.transact_now(lambda txn: verb(txn, ctx, *args, **options))
        except MetaError as error:
            refusal = error
        if refusal is not None:
            assert isinstance(node, Fail), f"refused with {refusal.code.name} ({refusal}), but should have been granted"
            assert refusal.code is node.code, f"refused with {refusal.code.name} ({refusal}), should be {node.code.name}"
            assert self.rows() == before
            return None
        assert not isinstance(node, Fail), f"granted, should have been refused with {node.code.name}"
        after = self.rows()
        self.wall += 1
        repeated = self.context(user, self.seq)
        assert self.kv.transact_now(lambda txn: verb(txn, repeated, *args, **options)) == answer
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

    def path(self, spot: Any) -> str:
        """The text of a spot."""
        if isinstance(spot, str):
            return spot
        number, *name, trail = spot
        paths = [path for path, node in self.dumb.paths() if node.kind == "d" or not name]
        return "/".join([paths[number % len(paths)], *name]) + trail

    # --- rules ---

    @rule(user=USER, spot=SPOTS, mode=DIRECTORY_MODES, parents=st.booleans())
    def mkdir(self, user: User, spot: Any, mode: int, parents: bool) -> None:
        path = self.path(spot)
        model = lambda: self.dumb.mkdir(user, path, mode, parents)  # noqa: E731
        found = self.twice(model, mkdir, PathRef(path=path), user=user, mode=mode, parents=parents)
        if found:
            # With `parents` several were made; the others are found by walking.
            self.identify(found)
            for node in self.dumb.directories():
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
        model = lambda: self.dumb.open(user, path, **options)  # noqa: E731
        found = self.twice(model, open_file, PathRef(path=path), user=user, write=True, **options)
        if found:
            opened, node = found
            self.identify((opened.inode, node))
            self.dumb.sessions.append((node, opened.session, False))
            if length is not None:
                self.close(-1, length, "", False, user)

    @rule(user=USER, spot=SPOTS, mode=MODES)
    def open_unnamed(self, user: User, spot: Any, mode: int) -> None:
        path = self.path(spot)
        model = lambda: self.dumb.unnamed(user, path, mode)  # noqa: E731
        found = self.twice(model, open_file, PathRef(path=path), user=user, unnamed=True, mode=mode)
        if found:
            opened, node = found
            self.identify((opened.inode, node))
            self.dumb.sessions.append((node, opened.session, True))

    @precondition(lambda self: self.dumb.sessions)
    @rule(index=st.integers(0, 9), length=LENGTHS, spot=SPOTS, exclusive=st.booleans(), user=USER)
    def close(self, index: int, length: int, spot: Any, exclusive: bool, user: User) -> None:
        path = self.path(spot)
        node, session, unnamed = entry = self.dumb.sessions[index % len(self.dumb.sessions)]
        options: dict[str, Any] = {"length": length}
        if unnamed:
            options |= {"publish": PathRef(path=path), "exclusive": exclusive}

        def model() -> Node:
            if unnamed and path:
                self.dumb.publish(user, node, path, exclusive)
            self.dumb.sessions.remove(entry)
            node.length = max(node.length, length)
            return node

        self.identify(self.twice(model, close_file, InodeId(node.id), session, user=user, **options))

    @precondition(lambda self: self.dumb.sessions)
    @rule(length=LENGTHS)
    def prune(self, length: int) -> None:
        row = self.see(lambda txn: list_sessions(txn, None, 1))[0]
        self.act(prune, row, length)
        entry = next(entry for entry in self.dumb.sessions if (entry[0].id, entry[1]) == (row.inode, row.id))
        entry[0].length = max(entry[0].length, length)
        self.dumb.sessions.remove(entry)

    @rule(user=USER, spot=MOSTLY_THERE, kind=st.sampled_from(RemoveKind))
    def remove(self, user: User, spot: Any, kind: RemoveKind) -> None:
        path = self.path(spot)
        found = self.twice(lambda: self.dumb.remove(user, path, kind), remove, PathRef(path=path), kind, user=user)
        if found:
            assert found[0] == found[1].id

    @rule(user=USER, source=MOSTLY_THERE, goal=SPOTS, mode=st.sampled_from(RenameMode))
    def rename(self, user: User, source: Any, goal: Any, mode: RenameMode) -> None:
        old, new = self.path(source), self.path(goal)
        model = lambda: self.dumb.rename(user, old, new, mode)  # noqa: E731
        self.identify(self.twice(model, rename, PathRef(path=old), PathRef(path=new), mode, user=user))

    @rule(user=USER, spot=SPOTS, to=SPOTS, absolute=st.booleans())
    def symlink(self, user: User, spot: Any, to: Any, absolute: bool) -> None:
        path, text = self.path(spot), "/" * absolute + self.path(to)
        model = lambda: self.dumb.symlink(user, path, text)  # noqa: E731
        self.identify(self.twice(model, symlink, PathRef(path=path), text, user=user))

    @rule(user=USER, source=MOSTLY_THERE, goal=SPOTS)
    def link(self, user: User, source: Any, goal: Any) -> None:
        old, new = self.path(source), self.path(goal)
        model = lambda: self.dumb.link(user, old, new)  # noqa: E731
        self.identify(self.twice(model, link, PathRef(path=old), PathRef(path=new), user=user))

    @rule(user=USER, spot=SPOTS, mode=MODES)
    def chmod(self, user: User, spot: Any, mode: int) -> None:
        path = self.path(spot)
        model = lambda: self.dumb.chmod(user, path, mode)  # noqa: E731
        self.identify(self.twice(model, set_attributes, PathRef(path=path), user=user, mode=mode))

    @rule(user=USER, spot=SPOTS, uid=st.sampled_from([0, 1000, 1001]), gid=st.sampled_from([0, 1000, 1001]))
    def chown(self, user: User, spot: Any, uid: int, gid: int) -> None:
        path = self.path(spot)
        model = lambda: self.dumb.chown(user, path, uid, gid)  # noqa: E731
        self.identify(self.twice(model, set_attributes, PathRef(path=path), user=user, follow=False, uid=uid, gid=gid))

    @precondition(lambda self: any(self.dumb.names_of(node) for node in self.dumb.files))
    @rule(index=st.integers(0, 9), length=LENGTHS)
    def truncate(self, index: int, length: int) -> None:
        files = [node for node in self.dumb.files if self.dumb.names_of(node)]
        node = files[index % len(files)]
        node.length = length
        self.identify(self.twice(lambda: node, truncate, InodeId(node.id), length, user=USERS[0]))

    @rule(user=USER, spots=st.lists(SPOTS, max_size=6), follow=st.booleans())
    def stat(self, user: User, spots: list[Any], follow: bool) -> None:
        paths = [self.path(spot) for spot in spots]
        ctx = self.context(user, 0)
        together = self.see(lambda txn: batch_stat(txn, ctx, InodeId(0), paths, follow))
        for path, answer in zip(paths, together, strict=True):
            try:
                expected: Any = self.dumb.find(user, path, follow).id
            except Fail as fail:
                expected = fail.code
            assert (answer.code if isinstance(answer, MetaError) else answer.id) == expected
            try:
                alone: Any = self.see(lambda txn, path=path: stat(txn, ctx, PathRef(path=path), follow))
            except MetaError as error:
                alone = error.code
            assert alone == (answer.code if isinstance(answer, MetaError) else answer)

    @rule(limit=st.integers(1, 3))
    def dismantle(self, limit: int) -> None:
        done = self.act(dismantle, limit)
        assert (done > 0) == bool(self.dumb.queue)
        self.dumb.dismantle(limit)

    @precondition(lambda self: self.dumb.garbage())
    @rule()
    def reclaim(self) -> None:
        row, inode = self.see(lambda txn: next_garbage(txn, 1))[0]
        assert self.kv.transact_now(lambda txn: finish(txn, row))
        self.dumb.files = [node for node in self.dumb.files if node.id != inode.id]

    # --- what must hold ---

    @invariant()
    def the_namespace_is_whole(self) -> None:
        assert self.see(check_namespace) == []

    @invariant()
    def both_trees_are_equal(self) -> None:
        todo = [(self.dumb.root, PathRef())]
        ctx = self.context(USERS[0], 0)
        kinds = {"f": InodeType.FILE, "d": InodeType.DIRECTORY, "l": InodeType.SYMLINK}
        while todo:
            node, ref = todo.pop()
            inode = self.see(lambda txn, ref=ref: stat(txn, ctx, ref, False))
            ours = (node.id, kinds[node.kind], node.mode, node.uid, node.gid, self.dumb.nlink(node), node.target)
            assert (inode.id, inode.type, inode.mode, inode.uid, inode.gid, inode.nlink, inode.target) == ours
            assert inode.length == (len(node.entries) if node.kind == "d" else node.length)
            if node.kind == "d":
                assert inode.parent == (node.up or node).id
                listing = self.see(lambda txn, id=inode.id: list_directory(txn, ctx, PathRef(id)))
                assert [entry.name for entry in listing.entries] == sorted(node.entries)
                todo += [(child, PathRef(inode.id, name)) for name, child in node.entries.items()]

    @invariant()
    def what_nobody_can_reach_is_queued(self) -> None:
        queued = self.see(lambda txn: next_garbage(txn, 1 << 20))
        assert {inode.id for _, inode in queued} == self.dumb.garbage()
        assert self.see(count).garbage == len(queued) + len(self.dumb.queue)

    def teardown(self) -> None:
        for name in list(self.dumb.root.entries):
            self.act(remove, PathRef(path=name), RemoveKind.TREE)
        while self.act(dismantle, 2):
            pass
        for row in self.see(lambda txn: list_sessions(txn, None, 1 << 20)):
            self.act(prune, row, None)
        for garbage, _ in self.see(lambda txn: next_garbage(txn, 1 << 20)):
            self.kv.transact_now(lambda txn, garbage=garbage: finish(txn, garbage))
        late = self.wall + requests_remembered_ns
        assert self.kv.transact_now(lambda txn: sweep(txn, late, ClientId(bytes(16)), 1 << 20))[0] is None
        assert self.see(check_namespace) == []
        assert len(self.rows()) == 2  # the root and the counters
        assert self.see(count).inodes == 1


TestNamespaces = Namespaces.TestCase
TestNamespaces.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
