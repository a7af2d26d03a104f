"""A deliberately dumb namespace made of dicts: what the real one is compared with.

It knows paths, permissions and names by the rules of POSIX, takes its time, and shares no code with `fs3.core.meta`. Times,
layouts and idempotency are not in it. Verbs answer the node they are about, or raise `Fail` before anything has changed.
"""

from __future__ import annotations

from typing import NamedTuple

from fs3.base.status import Code
from fs3.model.inode import User
from fs3.model.namespace import RemoveKind, RenameMode


class Fail(Exception):
    """The verb is refused."""

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


class Where(NamedTuple):
    """Where a path leads."""

    directory: Node
    name: str
    """Empty when the path names `node` itself and no entry of a directory."""
    node: Node | None
    slash: bool
    """What is there must be a directory."""


class Dumb:
    """Names in dicts. What is not asked for often enough to be fast is counted every time."""

    def __init__(self) -> None:
        self.root = Node("d", 0o777, 0, 0)
        self.root.id = 1
        self.queue: list[Node] = []
        """Detached directories, in the order in which they are dismantled."""
        self.sessions: list[tuple[Node, int, bool]] = []
        """(file, session, it is unnamed)"""
        self.files: list[Node] = []
        """Every file that was not reclaimed yet."""

    # --- what is there ------------------------------------------------------------------------------------------------

    def directories(self) -> list[Node]:
        """Every directory, those of detached trees included."""
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
        """How many entries name a node."""
        return sum(child is node for directory in self.directories() for child in directory.entries.values())

    def nlink(self, node: Node) -> int:
        """What stat says."""
        if node.kind == "d":
            return 0 if node in self.queue else 2 + sum(child.kind == "d" for child in node.entries.values())
        return self.names_of(node)

    def garbage(self) -> set[int]:
        """Ids of the files that have neither a name nor a writer."""
        written = {id(node) for node, _, _ in self.sessions}
        return {node.id for node in self.files if not self.names_of(node) and id(node) not in written}

    # --- who may ------------------------------------------------------------------------------------------------------

    @staticmethod
    def may(user: User, node: Node, bits: int) -> bool:
        """The permission bits of a node grant all of `bits`."""
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
        """Raises unless the user may change entries of a directory, and take `victim` away."""
        if not self.may(user, directory, 3):
            raise Fail(Code.ACCESS)
        if victim is not None and directory.mode & 0o1000 and user.uid not in (0, directory.uid, victim.uid):
            raise Fail(Code.PERMISSION)

    def made(self, user: User, directory: Node, kind: str, mode: int) -> Node:
        """A fresh node by the rules of the directory it is for."""
        inherits = directory.mode & 0o2000
        if kind == "d":
            mode |= inherits
        return Node(kind, mode, user.uid, directory.gid if inherits else user.gid)

    # --- paths --------------------------------------------------------------------------------------------------------

    def locate(self, user: User, here: Node, path: str, follow: bool, hops: list[int] | None = None) -> Where:
        """Walks a path from a node. `hops` counts the symlinks that were followed."""
        hops = [0] if hops is None else hops
        slash = path != "" and path.rsplit("/", 1)[-1] in ("", ".")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        where = Where(here, "", here, slash)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            if here.kind != "d":
                raise Fail(Code.NOT_A_DIRECTORY)
            if not self.may(user, here, 1):
                raise Fail(Code.ACCESS)
            if part == "..":
                here = here.up or here
                where = Where(here, "", here, True)
                continue
            child = here.entries.get(part)
            if child is not None and child.kind == "l" and (follow or not last):
                hops[0] += 1
                if hops[0] > 40:
                    raise Fail(Code.TOO_MANY_SYMLINKS)
                start = self.root if child.target.startswith("/") else here
                directory, name, child, inner = self.locate(user, start, child.target, True, hops)
                where = Where(directory, name, child, inner or slash)
            else:
                where = Where(here, part, child, slash)
            if not last:
                if child is None:
                    raise Fail(Code.NOT_FOUND)
                here = child
        return where

    def existing(self, where: Where) -> Node:
        """What is at a place."""
        if where.node is None:
            raise Fail(Code.NOT_FOUND)
        if where.slash and where.node.kind != "d":
            raise Fail(Code.NOT_A_DIRECTORY)
        return where.node

    def named(self, user: User, path: str, code: Code) -> Where:
        """The entry a path names; `code` for a path that ends in none."""
        where = self.locate(user, self.root, path, False)
        if not where.name:
            raise Fail(code)
        if [part for part in path.split("/") if part][-1] == ".":
            self.existing(where)
            raise Fail(code)
        return where

    def find(self, user: User, path: str, follow: bool) -> Node:
        """The node a path names."""
        return self.existing(self.locate(user, self.root, path, follow or path.endswith(("/", "/."))))

    # --- verbs --------------------------------------------------------------------------------------------------------

    def mkdir(self, user: User, path: str, mode: int, parents: bool) -> Node:
        """One directory, or all that are missing."""
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
        """A directory where nothing is."""
        self.change(user, directory)
        node = self.made(user, directory, "d", mode)
        node.up = directory
        directory.entries[name] = node
        return node

    def open(self, user: User, path: str, create: bool, exclusive: bool, truncate: bool, mode: int) -> Node:
        """The file to write; `truncate` gives the name a fresh one."""
        exclusive = exclusive and create
        directory, name, node, slash = where = self.locate(user, self.root, path, not exclusive)
        if name and node is None and create:
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
        """A file for a directory, in no directory."""
        directory = self.find(user, path, True)
        if directory.kind != "d":
            raise Fail(Code.NOT_A_DIRECTORY)
        self.change(user, directory)
        node = self.made(user, directory, "f", mode)
        self.files.append(node)
        return node

    def publish(self, user: User, node: Node, path: str, exclusive: bool) -> None:
        """Gives an unnamed file its name."""
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
        """Takes an entry away; a directory with entries is queued."""
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
        """Moves an entry."""
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
        if exchange and there is not None:
            self.check_move(user, there, goal, origin)
        elif there is not None and there.kind == "d":
            if moved.kind != "d":
                raise Fail(Code.IS_A_DIRECTORY)
            if there.entries:
                raise Fail(Code.NOT_EMPTY)
        elif there is not None and moved.kind == "d":
            raise Fail(Code.NOT_A_DIRECTORY)
        del origin.entries[old_name]
        if exchange and there is not None:
            origin.entries[old_name] = there
            there.up = origin if there.kind == "d" else None
        goal.entries[new_name] = moved
        moved.up = goal if moved.kind == "d" else None
        return moved

    def check_move(self, user: User, moved: Node, origin: Node, goal: Node) -> None:
        """Raises unless a directory may get another parent."""
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
        """A symlink where nothing is."""
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
        """Another name."""
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
        """Raises unless nothing is there, and anything but a directory may come."""
        if node is not None:
            raise Fail(Code.EXISTS)
        if slash:
            raise Fail(Code.NOT_FOUND)

    def chmod(self, user: User, path: str, mode: int) -> Node:
        """Sets the mode; follows a symlink."""
        node = self.find(user, path, True)
        if user.uid not in (0, node.uid):
            raise Fail(Code.PERMISSION)
        if user.uid and node.gid not in (user.gid, *user.groups):
            mode &= ~0o2000
        node.mode = mode
        return node

    def chown(self, user: User, path: str, uid: int, gid: int) -> Node:
        """Sets owner and group; does not follow a symlink."""
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
        """Takes at most `limit` entries out of the oldest detached tree."""
        if not self.queue:
            return
        directory = self.queue[0]
        names = sorted(directory.entries)[:limit]
        found = [directory.entries.pop(name) for name in names]
        self.queue += sorted((node for node in found if node.kind == "d" and node.entries), key=lambda node: node.id)
        if len(names) < limit:
            self.queue.pop(0)
