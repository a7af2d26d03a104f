"""Is the file of an LMDB environment sound? Read before LMDB maps it.

LMDB trusts its file. A page that is not there is a SIGBUS, one that is full of something else an assertion that ends the
process, or a read somewhere in memory; a separator that has changed hides rows. So everything LMDB relies on is looked at
first, through ordinary reads: both meta pages, every page that can be reached from the newer one, the order of all keys, the
numbers of pages and rows, and the list of free pages. What is *in* the rows is not looked at, they have sums of their own.

The format is that of LMDB 0.9 on a 64-bit little-endian machine (`mdb.c`, "Page structures"): a page is

    number u64 | pad u16 | flags u16 | lower u16, upper u16 (or pages u32) | offsets of nodes u16 ... nodes

and a node is size u32 (or, in a branch, the page: u48) | flags u16 | key bytes u16 | key | value (or its page).
"""

from __future__ import annotations

import os
import struct
import sys
from itertools import pairwise
from pathlib import Path

from fs3.base.units import MIB

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
_READ_AHEAD = 4 * MIB


class FileDamaged(Exception):
    """The file is not one LMDB may map; the text says what is wrong with it."""


def check_file(path: Path) -> None:
    """Look at the whole file. Raises FileDamaged naming the first page that is wrong, OSError when it cannot be read."""
    if sys.byteorder != "little" or struct.calcsize("P") != 8:
        return  # LMDB writes its file in another way there
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
        _File(fd).check()
    finally:
        os.close(fd)


class _Tree:
    """One tree of rows, as it is described where it is referred to."""

    __slots__ = ("branches", "depth", "entries", "flags", "leaves", "name", "overflows", "pad", "root")

    def __init__(self, name: str, packed: bytes) -> None:
        self.name = name
        self.pad, self.flags, self.depth, self.branches, self.leaves, self.overflows, self.entries, self.root = _TREE.unpack(
            packed
        )


class _File:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._page_bytes = 4096
        self._last = 0
        self._used = bytearray()
        """By page: something refers to it."""

    def check(self) -> None:
        free, main = self._newest()
        self._used = bytearray(self._last + 1)
        self._used[0] = self._used[1] = 1
        rows: list[tuple[bytes, bytes, int]] = []
        self._check_tree(main, rows)
        for key, value, flags in rows:
            if flags & _SUBTREE:
                if len(value) != _TREE.size:
                    raise FileDamaged(f"the description of the rows {key!r} has {len(value)} bytes")
                self._check_tree(_Tree(f"the rows {key!r}", value), None)
        rows.clear()
        self._check_tree(free, rows)
        for _, value, _ in rows:
            self._check_free(value)

    # --- meta pages --------------------------------------------------------------------------------------------------

    def _newest(self) -> tuple[_Tree, _Tree]:
        first = self._meta(0)
        self._page_bytes = first[0].pad
        if self._page_bytes < 512 or self._page_bytes & (self._page_bytes - 1) or self._page_bytes > 65_536:
            raise FileDamaged(f"it says its pages have {self._page_bytes} bytes")
        second = self._meta(1)
        free, main, self._last, _ = second if second[3] > first[3] else first
        if free.pad != first[0].pad:
            raise FileDamaged("its two meta pages differ in the size of a page")
        if free.flags != _INTEGER_KEYS or main.flags:
            raise FileDamaged(f"its flags are {free.flags:#x} and {main.flags:#x}")
        pages = -(-self._size // self._page_bytes)
        if self._last < 1 or self._last >= pages + _SLACK_PAGES:
            raise FileDamaged(f"its last page is {self._last}, the file has {pages}")
        return free, main

    def _meta(self, number: int) -> tuple[_Tree, _Tree, int, int]:
        page = os.pread(self._fd, _HEAD + _META.size + 2 * _TREE.size + _LAST.size, number * self._page_bytes)
        if len(page) < _HEAD + _META.size + 2 * _TREE.size + _LAST.size:
            raise FileDamaged(f"the file has {self._size} bytes, meta page {number} is missing")
        _, _, flags, _, _ = _PAGE.unpack_from(page)
        magic, version, _, _ = _META.unpack_from(page, _HEAD)
        if flags != _META_PAGE or magic != _MAGIC or version != _VERSION:
            raise FileDamaged(f"page {number} is no meta page (flags {flags:#x}, magic {magic:#x}, version {version})")
        at = _HEAD + _META.size
        free = _Tree("the free pages", page[at : at + _TREE.size])
        main = _Tree("the main rows", page[at + _TREE.size : at + 2 * _TREE.size])
        last, transaction = _LAST.unpack_from(page, at + 2 * _TREE.size)
        return free, main, last, transaction

    # --- trees -------------------------------------------------------------------------------------------------------

    def _check_tree(self, tree: _Tree, rows: list[tuple[bytes, bytes, int]] | None) -> None:
        """Everything that can be reached from a root. Rows are kept in `rows`, unless that is None."""
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
            page = self._page(number, 1, _LEAF if leaf else _BRANCH, tree.name)
            nodes = self._nodes(number, page, leaf=leaf, least=1 if leaf or integers else 2)
            keys = [node[0] for node in nodes]
            if integers:
                keys = [key[::-1] for key in keys]  # so that they compare as numbers
            if not leaf:
                keys[0] = low if low is not None else b""  # never looked at: everything less than the next is there
            if any(a >= b for a, b in pairwise(keys)):
                raise FileDamaged(f"the keys of page {number} of {tree.name} are out of order")
            if (low is not None and keys[0] < low) or (high is not None and keys[-1] >= high):
                raise FileDamaged(f"page {number} of {tree.name} has keys that belong elsewhere")
            if leaf:
                counts[1] += 1
                counts[3] += len(nodes)
                for key, value, flags in nodes:
                    if flags & _BIG:
                        pages, value = self._big(number, value, tree.name)
                        counts[2] += pages
                    if flags & _SUBTREE and tree.name != "the main rows":
                        raise FileDamaged(f"page {number} of {tree.name} has a node with flags {flags:#x}")
                    if rows is not None:
                        rows.append((key, value, flags))
                continue
            counts[0] += 1
            for index in range(len(nodes) - 1, -1, -1):
                child = int.from_bytes(nodes[index][1], "little")
                todo.append((child, depth + 1, keys[index] or None, keys[index + 1] if index + 1 < len(keys) else high))
        if counts != [tree.branches, tree.leaves, tree.overflows, tree.entries]:
            raise FileDamaged(
                f"{tree.name} have {counts} branches, leaves, overflow pages and entries, not "
                f"{[tree.branches, tree.leaves, tree.overflows, tree.entries]}"
            )

    def _page(self, number: int, pages: int, flags: int, name: str) -> bytes:
        """The bytes of a page, that nothing else refers to."""
        if not 2 <= number <= self._last + 1 - pages:
            raise FileDamaged(f"{name} refer to page {number}, the last one is {self._last}")
        if any(self._used[number : number + pages]):
            raise FileDamaged(f"{name} refer to page {number}, and so does something else")
        self._used[number : number + pages] = b"\1" * pages
        size = pages * self._page_bytes
        page = os.pread(self._fd, size, number * self._page_bytes)
        if len(page) < size:
            raise FileDamaged(f"page {number} of {name} is missing, the file has {self._size} bytes")
        found, _, found_flags, _, _ = _PAGE.unpack_from(page)
        if found != number or found_flags != flags:
            raise FileDamaged(f"page {number} of {name} says that it is page {found} with flags {found_flags:#x}, not {flags:#x}")
        return page

    def _nodes(self, number: int, page: bytes, *, leaf: bool, least: int) -> list[tuple[bytes, bytes, int]]:
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
        needed = (_HEAD - 1 + length) // self._page_bytes + 1
        head = os.pread(self._fd, _HEAD, first * self._page_bytes) if first <= self._last else b""
        if len(head) < _HEAD:
            raise FileDamaged(f"page {number} of {name} refers to page {first}, which is missing")
        pages = int.from_bytes(head[12:16], "little")
        if pages < needed:
            raise FileDamaged(f"{length} bytes of {name} are in {pages} pages from {first} on")
        page = self._page(first, pages, _OVERFLOW, name)
        return pages, page[_HEAD : _HEAD + length]

    def _check_free(self, value: bytes) -> None:
        """One list of free pages: how many, then their numbers, descending."""
        count = int.from_bytes(value[:8], "little")
        if len(value) < 8 or len(value) % 8 or count > len(value) // 8 - 1:
            raise FileDamaged(f"a list of {count} free pages has {len(value)} bytes")
        numbers = struct.unpack_from(f"<{count}Q", value, 8)
        for number in numbers:
            if not 2 <= number <= self._last or self._used[number]:
                raise FileDamaged(f"page {number} is said to be free, and is not")
            self._used[number] = 2
        if any(a <= b for a, b in pairwise(numbers)):
            raise FileDamaged("a list of free pages is out of order")
