"""The pages of an LMDB file, read without LMDB and believed in nothing.

The format is that of LMDB 0.9 on a 64-bit little-endian machine (`mdb.c`, "Page structures"): a page is

    number u64 | pad u16 | flags u16 | lower u16, upper u16 (or pages u32) | offsets of nodes u16 ... nodes

and a node is size u32 (or, in a branch, the page: u48) | flags u16 | key bytes u16 | key | value (or its page).
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from fs3.base.checksum import is_sealed

_PAGE = struct.Struct("<QHHHH")
_META = struct.Struct("<IIQQ")
_TREE = struct.Struct("<IHHQQQQQ")
_LAST = struct.Struct("<QQ")
_NODE = struct.Struct("<HHHH")
_MAGIC = 0xBEEF_C0DE
_VERSION = 1
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_BIG, _SUBTREE = 1, 2
_INTEGER_KEYS = 8
_NO_ROOT = 0xFFFF_FFFF_FFFF_FFFF
_HEAD = _PAGE.size
_SLACK_PAGES = 65_536
"""Pages at the end that were free before they were ever written need not be in the file."""
_DEPTH_MAX = 32
_MAIN = "the main rows"
_META_READS_MAX = 100
"""Two commits, and the meta page that is being read is written anew."""


class FileDamaged(Exception):
    """The file is not one LMDB may follow; the text says what is wrong with it."""


class StateReplaced(Exception):
    """The state that was to be looked at is no longer in the meta pages; a newer one is."""


class DamagedRow(NamedTuple):
    """A row that is not what was written."""

    key: bytes
    """Under which it is found. It may have been another one."""
    begin: bytes
    """The key it was written with is from here on ..."""
    end: bytes | None
    """... and below this; None: there is no bound."""


def is_layout_known() -> bool:
    """LMDB writes its file in another way on other machines; there nothing can be looked at."""
    return sys.byteorder == "little" and struct.calcsize("P") == 8


class Tree:
    """One tree of rows, as it is described where it is referred to."""

    __slots__ = ("branches", "depth", "entries", "flags", "leaves", "name", "overflows", "pad", "root")

    def __init__(self, name: str, packed: bytes) -> None:
        self.name = name
        self.pad, self.flags, self.depth, self.branches, self.leaves, self.overflows, self.entries, self.root = _TREE.unpack(
            packed
        )


Node = tuple[bytes, bytes, int]
"""(key, value, flags). Of a leaf that was read: (key, value, whether the value describes a tree)."""


class Leaf(NamedTuple):
    """A page of rows, and the keys that have their place on it."""

    page: int
    begin: bytes
    end: bytes | None
    nodes: list[Node]
    damaged: list[DamagedRow]


class PageFile:
    """The pages of one state of a file, by ordinary reads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.bytes = os.fstat(fd).st_size
        self.page_bytes = 4096
        self.last = 0
        """The last page of the state."""
        self.used: bytearray | None = None
        """By page: something refers to it. None: only a part is looked at."""

    def find_tree(self, name: bytes, state: int) -> Tree:
        """One tree of rows in a state that a read transaction holds. Raises FileDamaged, StateReplaced."""
        _, main = self.find_state(state)
        for leaf in self.leaves(main):
            for key, value, is_tree in leaf.nodes:
                if key == name and is_tree:
                    return describe_tree(key, value)
        raise FileDamaged(f"there are no rows {name!r}")

    # --- meta pages --------------------------------------------------------------------------------------------------

    def find_state(self, state: int | None) -> tuple[Tree, Tree]:
        """The trees of the free pages and of the main rows in a state, by default the newest one."""
        first = self._meta(0)
        self.page_bytes = first[0].pad
        if self.page_bytes < 512 or self.page_bytes & (self.page_bytes - 1) or self.page_bytes > 65_536:
            raise FileDamaged(f"it says its pages have {self.page_bytes} bytes")
        states = self._meta_states()
        for _ in range(_META_READS_MAX):
            # Another process may write one of them at this moment.
            first, second = self._meta(0), self._meta(1)
            before, states = states, (first[3], second[3])
            if before == states == self._meta_states():
                break
        if states != (0, 0) and (abs(states[0] - states[1]) != 1 or states[0] % 2):
            # Every commit writes the page of the older state.
            raise FileDamaged(f"its meta pages are of the states {states[0]} and {states[1]}")
        free, main, self.last, found = second if second[3] > first[3] else first
        if state is not None and found != state:
            if state not in states:
                raise StateReplaced
            free, main, self.last, _ = first if first[3] == state else second
        if free.pad != first[0].pad:
            raise FileDamaged("its two meta pages differ in the size of a page")
        if free.flags != _INTEGER_KEYS or main.flags:
            raise FileDamaged(f"its flags are {free.flags:#x} and {main.flags:#x}")
        pages = -(-self.bytes // self.page_bytes)
        if self.last < 1 or self.last >= pages + _SLACK_PAGES:
            raise FileDamaged(f"its last page is {self.last}, the file has {pages}")
        return free, main

    def _meta_states(self) -> tuple[int, int]:
        return self._meta(0)[3], self._meta(1)[3]

    def _meta(self, number: int) -> tuple[Tree, Tree, int, int]:
        page = os.pread(self._fd, _HEAD + _META.size + 2 * _TREE.size + _LAST.size, number * self.page_bytes)
        if len(page) < _HEAD + _META.size + 2 * _TREE.size + _LAST.size:
            raise FileDamaged(f"the file has {self.bytes} bytes, meta page {number} is missing")
        _, _, flags, _, _ = _PAGE.unpack_from(page)
        magic, version, _, _ = _META.unpack_from(page, _HEAD)
        if flags != _META_PAGE or magic != _MAGIC or version != _VERSION:
            raise FileDamaged(f"page {number} is no meta page (flags {flags:#x}, magic {magic:#x}, version {version})")
        at = _HEAD + _META.size
        free = Tree("the free pages", page[at : at + _TREE.size])
        main = Tree(_MAIN, page[at + _TREE.size : at + 2 * _TREE.size])
        last, transaction = _LAST.unpack_from(page, at + 2 * _TREE.size)
        return free, main, last, transaction

    # --- trees -------------------------------------------------------------------------------------------------------

    def leaves(self, tree: Tree, *, sealed: bool = False, begin: bytes = b"", whole: bool = True) -> Iterator[Leaf]:
        """The pages of rows of a tree in key order, from the one on which `begin` has its place; with all values when these
        carry sums. Everything on the way is looked at; unless it is to be `whole`, no pages of rows. Raises FileDamaged."""
        integers = tree.flags & _INTEGER_KEYS
        if tree.flags & ~_INTEGER_KEYS:
            raise FileDamaged(f"{tree.name} have flags {tree.flags:#x}")
        if tree.root == _NO_ROOT:
            if tree.depth or tree.entries:
                raise FileDamaged(f"{tree.name} have no root, but {tree.entries} entries")
            return
        if not 1 <= tree.depth <= _DEPTH_MAX:
            raise FileDamaged(f"{tree.name} have a depth of {tree.depth}")
        counts = [0, 0, 0, 0]  # branches, leaves, overflow pages, entries
        # From left to right: (page, how deep, no key is less than this, and all are less than this).
        todo: list[tuple[int, int, bytes | None, bytes | None]] = [(tree.root, 1, None, None)]
        while todo:
            number, depth, low, high = todo.pop()
            leaf = depth == tree.depth
            if leaf and not whole:
                self._use(number, 1, tree.name)
                continue
            page = self._page(number, 1, _LEAF if leaf else _BRANCH, tree.name)
            nodes = self._nodes(number, page, leaf=leaf, least=1 if leaf or integers else 2)
            keys = [node[0] for node in nodes]
            if integers:
                keys = [key[::-1] for key in keys]  # so that they compare as numbers
            if leaf:
                counts[1] += 1
                counts[2] += self._read_values(number, nodes, tree)
                counts[3] += len(nodes)
                rotten = {at for at, (key, value, _) in enumerate(nodes) if not is_sealed(key, value)} if sealed else set()
                in_order = _find_disorder(keys, low, high) is None
                damaged = _damaged_rows(keys, rotten, low, high, in_order=in_order) if rotten else []
                wrong = None if in_order else _find_disorder([key for at, key in enumerate(keys) if at not in rotten], low, high)
            else:
                keys[0] = low if low is not None else b""  # never looked at: everything less than the next is there
                wrong = _find_disorder(keys, low, high)
            if wrong is not None:
                raise FileDamaged(f"page {number} of {tree.name} has keys that {wrong}")
            if leaf:
                yield Leaf(number, low or b"", high, nodes, damaged)
                continue
            counts[0] += 1
            for index in range(len(nodes) - 1, -1, -1):
                child = int.from_bytes(nodes[index][1], "little")
                end = keys[index + 1] if index + 1 < len(keys) else high
                if end is None or end > begin:
                    todo.append((child, depth + 1, keys[index] or None, end))
        if self.used is not None and whole and counts != [tree.branches, tree.leaves, tree.overflows, tree.entries]:
            raise FileDamaged(
                f"{tree.name} have {counts} branches, leaves, overflow pages and entries, not "
                f"{[tree.branches, tree.leaves, tree.overflows, tree.entries]}"
            )

    def _read_values(self, page: int, nodes: list[Node], tree: Tree) -> int:
        """Put in the values that have pages of their own; how many pages these are."""
        count = 0
        for at, (key, value, flags) in enumerate(nodes):
            if not flags:
                continue
            if flags & _BIG:
                pages, value = self._big(page, value, tree.name)
                count += pages
            if flags & _SUBTREE and (tree.name != _MAIN or flags & _BIG):
                raise FileDamaged(f"page {page} of {tree.name} has a node with flags {flags:#x}")
            nodes[at] = (key, value, flags & _SUBTREE)
        return count

    def _page(self, number: int, pages: int, flags: int, name: str) -> bytes:
        """The bytes of a page, that nothing else refers to."""
        self._use(number, pages, name)
        size = pages * self.page_bytes
        page = os.pread(self._fd, size, number * self.page_bytes)
        if len(page) < size:
            raise FileDamaged(f"page {number} of {name} is missing, the file has {self.bytes} bytes")
        found, _, found_flags, _, _ = _PAGE.unpack_from(page)
        if found != number or found_flags != flags:
            raise FileDamaged(f"page {number} of {name} says that it is page {found} with flags {found_flags:#x}, not {flags:#x}")
        return page

    def _use(self, number: int, pages: int, name: str) -> None:
        """Something refers to pages."""
        if not 2 <= number <= self.last + 1 - pages:
            raise FileDamaged(f"{name} refer to page {number}, the last one is {self.last}")
        if self.used is not None:
            if any(self.used[number : number + pages]):
                raise FileDamaged(f"{name} refer to page {number}, and so does something else")
            self.used[number : number + pages] = b"\1" * pages

    def _nodes(self, number: int, page: bytes, *, leaf: bool, least: int) -> list[Node]:
        """(key, value or page, flags) of each node."""
        _, _, _, lower, upper = _PAGE.unpack_from(page)
        count = (lower - _HEAD) // 2
        if lower < _HEAD + 2 * least or lower % 2 or not lower <= upper <= len(page):
            raise FileDamaged(f"page {number} has room from {lower} to {upper}")
        nodes = []
        size = 0
        for at in struct.unpack_from(f"<{count}H", page, _HEAD):
            if not upper <= at <= len(page) - _NODE.size:
                raise FileDamaged(f"page {number} has a node at {at}")
            low, middle, flags, key_bytes = _NODE.unpack_from(page, at)
            begin = at + _NODE.size
            end = begin + key_bytes
            if leaf:
                length = 8 if flags & _BIG else low | middle << 16
                if flags & ~(_BIG | _SUBTREE):
                    raise FileDamaged(f"page {number} has a node with flags {flags:#x}")
                value = page[end : end + length]
                if flags & _BIG:
                    value += (low | middle << 16).to_bytes(4, "little")
                end += length
                nodes.append((page[begin : begin + key_bytes], value, flags))
            else:
                nodes.append((page[begin:end], page[at : at + 6], 0))
            if end > len(page):
                raise FileDamaged(f"page {number} has a node that ends at {end}")
            size += (end - at + 1) & ~1
        if size != len(page) - upper:
            raise FileDamaged(f"page {number} has nodes of {size} bytes in {len(page) - upper}")
        return nodes

    def _big(self, number: int, value: bytes, name: str) -> tuple[int, bytes]:
        """(pages, bytes) of a value that has pages of its own."""
        first = int.from_bytes(value[:8], "little")
        length = int.from_bytes(value[8:], "little")
        needed = (_HEAD - 1 + length) // self.page_bytes + 1
        head = os.pread(self._fd, _HEAD, first * self.page_bytes) if first <= self.last else b""
        if len(head) < _HEAD:
            raise FileDamaged(f"page {number} of {name} refers to page {first}, which is missing")
        pages = int.from_bytes(head[12:16], "little")
        if pages < needed:
            raise FileDamaged(f"{length} bytes of {name} are in {pages} pages from {first} on")
        page = self._page(first, pages, _OVERFLOW, name)
        return pages, page[_HEAD : _HEAD + length]


def describe_tree(name: bytes, packed: bytes) -> Tree:
    """The tree that a main row describes. Raises FileDamaged."""
    if len(packed) != _TREE.size:
        raise FileDamaged(f"the description of the rows {name!r} has {len(packed)} bytes")
    return Tree(f"the rows {name!r}", packed)


def _find_disorder(keys: list[bytes], low: bytes | None, high: bytes | None) -> str | None:
    """What is wrong with the keys of a page."""
    if any(a >= b for a, b in pairwise(keys)):
        return "are out of order"
    if keys and ((low is not None and keys[0] < low) or (high is not None and keys[-1] >= high)):
        return "belong elsewhere"
    return None


def _damaged_rows(
    keys: list[bytes], rotten: set[int], low: bytes | None, high: bytes | None, *, in_order: bool
) -> list[DamagedRow]:
    """The rows of a page whose sums are wrong, with the keys they may have been written with: those between the sound rows
    beside them, or all that belong on the page where a key has changed so much that it leads searches astray."""
    found = []
    for index in sorted(rotten):
        begin, end = low or b"", high
        if in_order:
            before = [at for at in range(index) if at not in rotten]
            after = [at for at in range(index + 1, len(keys)) if at not in rotten]
            begin = keys[before[-1]] + b"\0" if before else begin
            end = keys[after[0]] if after else end
        found.append(DamagedRow(keys[index], begin, end))
    return found
