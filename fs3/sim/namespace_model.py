"""A deliberately dumb namespace made of dicts: what the real one is compared with.

It knows paths, permissions and names by the rules of POSIX, takes its time, and shares no code with `fs3.core.meta`. Times,
layouts and idempotency are not in it. Names that are not UTF-8 are texts as `os.fsdecode` makes them. Verbs answer the node they
are about, or raise `ModelError` before anything has changed.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from fs3.base.status import Code
from fs3.model.inode import User
from fs3.model.namespace import RemoveKind, RenameMode
from fs3.sim.acl_model import ModelAcl


class ModelError(Exception):
    """The verb is refused."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


class ModelContent:
    """What a file contains, of which only the length is known: a session keeps it, whichever file has it by then."""

    def __init__(self) -> None:
        self.id = 0
        self.length = 0


class ModelNode:
    """A file ("f"), directory ("d"), symlink ("l"), fifo ("p"), socket ("s"), block ("b") or character device ("c") of the dumb
    namespace."""

    def __init__(self, kind: str, mode: int, uid: int, gid: int) -> None:
        self.kind, self.mode, self.uid, self.gid = kind, mode, uid, gid
        self.rdev = 0
        self.id = 0
        self.entries: dict[str, ModelNode] = {}
        self.parent: ModelNode | None = None
        self.target = ""
        self.content = ModelContent()
        self.attributes: dict[bytes, bytes] = {}
        """Extended attributes but ACLs."""
        self.acl: ModelAcl | None = None
        """With whatever it says beyond the mode."""
        self.default_acl: ModelAcl | None = None

    @property
    def length(self) -> int:
        """Bytes."""
        return self.content.length


class ModelPathTarget(NamedTuple):
    """Where a path leads."""

    directory: ModelNode
    name: str
    """Empty when the path names `node` itself and no entry of a directory."""
    node: ModelNode | None
    must_be_directory: bool
    """What is there must be a directory."""


class NamespaceModel:
    """Names in dicts. What is not asked for often enough to be fast is counted every time."""

    def __init__(self) -> None:
        self.root = ModelNode("d", 0o777, 0, 0)
        self.root.id = 1
        self.detached_directories: list[ModelNode] = []
        """Detached directories, in the order in which they are dismantled."""
        self.sessions: list[tuple[ModelContent, int, bool]] = []
        """(content, session, its file was created without a name)"""
        self.reading: list[ModelContent] = []
        """What the client has open for reading, and tells of with each request."""
        self.kept: list[ModelContent] = []
        """What of it has no name any more, and is kept for it."""
        self.files: list[ModelNode] = []
        """Every file that was not reclaimed yet; what held an old content that was replaced is a file without a name."""

    # --- what is there ------------------------------------------------------------------------------------------------

    def list_directories(self) -> list[ModelNode]:
        """Every directory, those of detached trees included."""
        found, todo = [], [self.root, *self.detached_directories]
        while todo:
            node = todo.pop()
            found.append(node)
            todo += [child for child in node.entries.values() if child.kind == "d"]
        return found

    def list_paths(self) -> list[tuple[str, ModelNode]]:
        """Every path that reaches something without symlinks, the shortest first, and the root last."""
        found, todo = [], [("", self.root)]
        for path, node in todo:
            found.append((path, node))
            todo += [(f"{path}/{name}" if path else name, child) for name, child in sorted(node.entries.items())]
        return found[1:] + found[:1]

    def count_names(self, node: ModelNode) -> int:
        """How many entries name a node."""
        return sum(child is node for directory in self.list_directories() for child in directory.entries.values())

    def count_links(self, node: ModelNode) -> int:
        """What stat says."""
        if node.kind == "d":
            return 0 if node in self.detached_directories else 2 + sum(child.kind == "d" for child in node.entries.values())
        return self.count_names(node)

    def list_garbage(self) -> set[int]:
        """Ids of the files that have neither a name nor a writer nor a reader that keeps them."""
        kept = {id(content) for content, _, _ in self.sessions} | {id(content) for content in self.kept}
        return {node.id for node in self.files if not self.count_names(node) and id(node.content) not in kept}

    def list_unnamed(self) -> list[ModelContent]:
        """What the client has open for reading and has no name any more."""
        owners = {id(node.content): node for node in self.files}
        return [content for content in self.reading if not self.count_names(owners[id(content)])]

    def find_by_content(self, content: ModelContent) -> ModelNode:
        """The file that has a content."""
        return next(node for node in self.files if node.content is content)

    # --- who may ------------------------------------------------------------------------------------------------------

    @staticmethod
    def may_access(user: User, node: ModelNode, bits: int) -> bool:
        """The permission bits of a node grant all of `bits`."""
        if user.uid == 0:
            return True
        if user.uid == node.uid:
            shift = 6
        elif node.acl is not None:
            return node.acl.may_access(user, node.gid, bits)
        elif node.gid in (user.gid, *user.groups):
            shift = 3
        else:
            shift = 0
        return (node.mode >> shift) & bits == bits

    def check_may_change(self, user: User, directory: ModelNode, victim: ModelNode | None = None) -> None:
        """Raises unless the user may change entries of a directory, and take `victim` away."""
        if not self.may_access(user, directory, 3):
            raise ModelError(Code.ACCESS)
        if victim is not None and directory.mode & 0o1000 and user.uid not in (0, directory.uid, victim.uid):
            raise ModelError(Code.PERMISSION)

    def new_node(self, user: User, directory: ModelNode, kind: str, mode: int, umask: int = 0) -> ModelNode:
        """A fresh node by the rules of the directory it is for."""
        inherits = directory.mode & 0o2000
        if kind == "d":
            mode |= inherits
        node = ModelNode(kind, mode, user.uid, directory.gid if inherits else user.gid)
        if kind == "l":
            return node
        if directory.default_acl is None:
            node.mode &= ~umask
            return node
        if kind == "d":
            node.default_acl = directory.default_acl
        acl = directory.default_acl.limited_to(mode)
        node.mode = mode & 0o7000 | acl.mode()
        node.acl = acl if acl.is_more_than_a_mode() else None
        return node

    # --- paths --------------------------------------------------------------------------------------------------------

    def locate(self, user: User, here: ModelNode, path: str, follow: bool, hops: list[int] | None = None) -> ModelPathTarget:
        """Walks a path from a node. `hops` counts the symlinks that were followed."""
        hops = [0] if hops is None else hops
        slash = path != "" and path.rsplit("/", 1)[-1] in ("", ".")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        where = ModelPathTarget(here, "", here, slash)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            if here.kind != "d":
                raise ModelError(Code.NOT_A_DIRECTORY)
            if not self.may_access(user, here, 1):
                raise ModelError(Code.ACCESS)
            if part == "..":
                here = here.parent or here
                where = ModelPathTarget(here, "", here, True)
                continue
            child = here.entries.get(part)
            if child is not None and child.kind == "l" and (follow or not last):
                hops[0] += 1
                if hops[0] > 40:
                    raise ModelError(Code.TOO_MANY_SYMLINKS)
                start = self.root if child.target.startswith("/") else here
                directory, name, child, inner = self.locate(user, start, child.target, True, hops)
                where = ModelPathTarget(directory, name, child, inner or slash)
            else:
                where = ModelPathTarget(here, part, child, slash)
            if not last:
                if child is None:
                    raise ModelError(Code.NOT_FOUND)
                here = child
        return where

    def require_node(self, where: ModelPathTarget) -> ModelNode:
        """What is at a place."""
        if where.node is None:
            raise ModelError(Code.NOT_FOUND)
        if where.must_be_directory and where.node.kind != "d":
            raise ModelError(Code.NOT_A_DIRECTORY)
        return where.node

    def locate_entry(self, user: User, path: str, code: Code) -> ModelPathTarget:
        """The entry a path names; `code` for a path that ends in none."""
        where = self.locate(user, self.root, path, False)
        if not where.name:
            raise ModelError(code)
        if [part for part in path.split("/") if part][-1] == ".":
            self.require_node(where)
            raise ModelError(code)
        return where

    def find(self, user: User, path: str, follow: bool) -> ModelNode:
        """The node a path names."""
        return self.require_node(self.locate(user, self.root, path, follow or path.endswith(("/", "/."))))

    # --- verbs --------------------------------------------------------------------------------------------------------

    def mkdir(self, user: User, path: str, mode: int, parents: bool, umask: int = 0) -> ModelNode:
        """One directory, or all that are missing."""
        if not parents:
            directory, name, node, _ = self.locate_entry(user, path, Code.EXISTS)
            if node:
                raise ModelError(Code.EXISTS)
            return self.add_directory(user, directory, name, mode, umask)
        here = self.root
        planned: list[tuple[ModelNode, str]] = []
        parts = [part for part in path.split("/") if part not in ("", ".")]
        try:
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                directory, name, node, _ = self.locate(user, here, part, True)
                if node is None:
                    if (directory, name) != (here, part):
                        raise ModelError(Code.EXISTS if last else Code.NOT_FOUND)
                    needed = 0 if last else 0o300
                    here = self.add_directory(user, directory, name, mode | needed, umask & ~needed)
                    planned.append((directory, name))
                elif node.kind != "d":
                    raise ModelError(Code.EXISTS if last else Code.NOT_A_DIRECTORY)
                else:
                    here = node
        except ModelError:
            for directory, name in planned:
                del directory.entries[name]
            raise
        return here

    def add_directory(self, user: User, directory: ModelNode, name: str, mode: int, umask: int) -> ModelNode:
        """A directory where nothing is."""
        self.check_may_change(user, directory)
        node = self.new_node(user, directory, "d", mode, umask)
        node.parent = directory
        directory.entries[name] = node
        return node

    def open(self, user: User, path: str, create: bool, exclusive: bool, truncate: bool, mode: int, umask: int = 0) -> ModelNode:
        """The file to write; `truncate` gives it a fresh content."""
        exclusive = exclusive and create
        directory, name, node, slash = where = self.locate(user, self.root, path, not exclusive)
        if name and node is None and create:
            if slash:
                raise ModelError(Code.IS_A_DIRECTORY)
            self.check_may_change(user, directory)
            node = self.new_node(user, directory, "f", mode, umask)
            directory.entries[name] = node
            self.files.append(node)
            return node
        if exclusive:
            raise ModelError(Code.EXISTS)
        node = self.require_node(where)
        if node.kind == "d":
            raise ModelError(Code.IS_A_DIRECTORY)
        if node.kind in "psbc":
            raise ModelError(Code.UNSUPPORTED)
        if not self.may_access(user, node, 2):
            raise ModelError(Code.ACCESS)
        if truncate:
            left = ModelNode("f", node.mode, node.uid, node.gid)
            self.files.append(left)
            self.swap_contents(user, node, left)
        return node

    def swap_contents(self, user: User, node: ModelNode, other: ModelNode) -> None:
        """`node` gets the content of `other`."""
        node.content, other.content = other.content, node.content
        self.change_content(user, node)

    def change_content(self, user: User, node: ModelNode) -> None:
        """A file whose content changes lends nothing to those who run it any more."""
        node.mode = node.mode if user.uid == 0 else self._without_set_ids(node.mode)
        node.attributes.pop(b"security.capability", None)

    def write(self, user: User, content: ModelContent, length: int, modified: bool) -> ModelNode:
        """A writer tells up to where it has written; the file that has the content."""
        node = self.find_by_content(content)
        if modified or length > content.length:
            self.change_content(user, node)
        content.length = max(content.length, length)
        return node

    def open_unnamed(self, user: User, path: str, mode: int) -> ModelNode:
        """A file for a directory, in no directory."""
        directory = self.find(user, path, True)
        if directory.kind != "d":
            raise ModelError(Code.NOT_A_DIRECTORY)
        self.check_may_change(user, directory)
        node = self.new_node(user, directory, "f", mode)
        self.files.append(node)
        return node

    def publish(self, user: User, node: ModelNode, path: str, exclusive: bool) -> None:
        """Gives an unnamed file its name, or its content to the file that has the name."""
        directory, name, there, slash = where = self.locate_entry(user, path, Code.IS_A_DIRECTORY)
        if there is None:
            if slash:
                raise ModelError(Code.IS_A_DIRECTORY)
            self.check_may_change(user, directory)
        else:
            if exclusive:
                raise ModelError(Code.EXISTS)
            if self.require_node(where).kind == "d":
                raise ModelError(Code.IS_A_DIRECTORY)
            if there.kind in "psbc":
                raise ModelError(Code.UNSUPPORTED)
            if there.kind == "f" and self.may_access(user, there, 2):
                self.swap_contents(user, there, node)
                return
            self.check_may_change(user, directory, there)
            if there.kind == "f":
                node.mode = there.mode if user.uid == 0 else self._without_set_ids(there.mode)
                node.acl = there.acl
        directory.entries[name] = node

    @staticmethod
    def _without_set_ids(mode: int) -> int:
        return mode & ~(0o6000 if mode & 0o010 else 0o4000)

    def remove(self, user: User, path: str, kind: RemoveKind) -> ModelNode:
        """Takes an entry away; a directory with entries is queued."""
        directory, name, _, _ = where = self.locate_entry(user, path, Code.INVALID)
        node = self.require_node(where)
        self.check_may_change(user, directory, node)
        if node.kind == "d" and kind is RemoveKind.FILE:
            raise ModelError(Code.IS_A_DIRECTORY)
        if node.kind != "d" and kind is RemoveKind.DIRECTORY:
            raise ModelError(Code.NOT_A_DIRECTORY)
        if node.entries:
            if kind is RemoveKind.DIRECTORY:
                raise ModelError(Code.NOT_EMPTY)
            if user.uid not in (0, node.uid):
                raise ModelError(Code.PERMISSION)
            if not self.may_access(user, node, 7):
                raise ModelError(Code.ACCESS)
            self.detached_directories.append(node)
        del directory.entries[name]
        return node

    def rename(self, user: User, source: str, target: str, mode: RenameMode) -> ModelNode:
        """Moves an entry."""
        where = self.locate_entry(user, source, Code.INVALID)
        origin, old_name = where[:2]
        moved = self.require_node(where)
        where = self.locate_entry(user, target, Code.INVALID)
        goal, new_name, there, slash = where
        exchange = mode is RenameMode.EXCHANGE
        if exchange:
            self.require_node(where)
        if slash and moved.kind != "d":
            raise ModelError(Code.NOT_A_DIRECTORY)
        if there is not None and mode is RenameMode.NOREPLACE:
            raise ModelError(Code.EXISTS)
        if there is moved:
            return moved
        self.check_may_change(user, origin, moved)
        self.check_may_change(user, goal, there)
        self.check_move(user, moved, origin, goal)
        if exchange and there is not None:
            self.check_move(user, there, goal, origin)
        elif there is not None and there.kind == "d":
            if moved.kind != "d":
                raise ModelError(Code.IS_A_DIRECTORY)
            if there.entries:
                raise ModelError(Code.NOT_EMPTY)
        elif there is not None and moved.kind == "d":
            raise ModelError(Code.NOT_A_DIRECTORY)
        del origin.entries[old_name]
        if exchange and there is not None:
            origin.entries[old_name] = there
            there.parent = origin if there.kind == "d" else None
        goal.entries[new_name] = moved
        moved.parent = goal if moved.kind == "d" else None
        return moved

    def check_move(self, user: User, moved: ModelNode, origin: ModelNode, goal: ModelNode) -> None:
        """Raises unless a directory may get another parent."""
        if moved.kind != "d" or origin is goal:
            return
        if not self.may_access(user, moved, 2):
            raise ModelError(Code.ACCESS)
        above: ModelNode | None = goal
        while above is not None:
            if above is moved:
                raise ModelError(Code.WOULD_LOOP)
            above = above.parent

    def symlink(self, user: User, path: str, target: str) -> ModelNode:
        """A symlink where nothing is."""
        if not target:
            raise ModelError(Code.NOT_FOUND)
        directory, name, node, slash = self.locate_entry(user, path, Code.EXISTS)
        self.require_absent(node, slash)
        self.check_may_change(user, directory)
        made = self.new_node(user, directory, "l", 0o777)
        made.target, made.content.length = target, len(os.fsencode(target))
        directory.entries[name] = made
        return made

    def mknod(self, user: User, path: str, kind: str, mode: int, rdev: int) -> ModelNode:
        """A special file or an empty regular one where nothing is."""
        directory, name, node, slash = self.locate_entry(user, path, Code.EXISTS)
        self.require_absent(node, slash)
        self.check_may_change(user, directory)
        if kind in "bc" and user.uid:
            raise ModelError(Code.PERMISSION)
        made = self.new_node(user, directory, kind, mode)
        made.rdev = rdev if kind in "bc" else 0
        directory.entries[name] = made
        if kind == "f":
            self.files.append(made)
        return made

    def link(self, user: User, source: str, target: str) -> ModelNode:
        """Another name."""
        node = self.find(user, source, False)
        if node.kind == "d":
            raise ModelError(Code.PERMISSION)
        directory, name, there, slash = self.locate_entry(user, target, Code.EXISTS)
        self.require_absent(there, slash)
        self.check_may_change(user, directory)
        directory.entries[name] = node
        return node

    @staticmethod
    def require_absent(node: ModelNode | None, slash: bool) -> None:
        """Raises unless nothing is there, and anything but a directory may come."""
        if node is not None:
            raise ModelError(Code.EXISTS)
        if slash:
            raise ModelError(Code.NOT_FOUND)

    def chmod(self, user: User, path: str, mode: int) -> ModelNode:
        """Sets the mode; follows a symlink."""
        node = self.find(user, path, True)
        if user.uid not in (0, node.uid):
            raise ModelError(Code.PERMISSION)
        if user.uid and node.gid not in (user.gid, *user.groups):
            mode &= ~0o2000
        node.mode = mode
        if node.acl is not None:
            node.acl = node.acl.with_mode(mode)
        return node

    def chown(self, user: User, path: str, uid: int, gid: int) -> ModelNode:
        """Sets owner and group; does not follow a symlink."""
        node = self.find(user, path, False)
        if user.uid not in (0, node.uid) or (user.uid and uid != node.uid):
            raise ModelError(Code.PERMISSION)
        if user.uid and gid != node.gid and gid not in (user.gid, *user.groups):
            raise ModelError(Code.PERMISSION)
        node.uid, node.gid = uid, gid
        if node.kind != "d":
            node.attributes.pop(b"security.capability", None)
        if node.kind != "d" and node.mode & 0o010:
            node.mode &= ~0o2000
        return node

    def dismantle(self, limit: int) -> None:
        """Takes at most `limit` entries out of the oldest detached tree."""
        if not self.detached_directories:
            return
        directory = self.detached_directories[0]
        names = sorted(directory.entries, key=os.fsencode)[:limit]
        found = [directory.entries.pop(name) for name in names]
        self.detached_directories += sorted(
            (node for node in found if node.kind == "d" and node.entries), key=lambda node: node.id
        )
        if len(names) < limit:
            self.detached_directories.pop(0)
