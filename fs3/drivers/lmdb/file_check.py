"""Is the file of an LMDB environment sound? Read before LMDB follows anything in it, and again and again while it is used.

LMDB trusts its file. A page that is not there is a SIGBUS, one that is full of something else an assertion that ends the
process, or a read somewhere in memory; a separator that has changed hides rows. So everything LMDB relies on is looked at
first, through ordinary reads: both meta pages, every page that can be reached from the newer one, the order of all keys, the
numbers of pages and rows, and the list of free pages. What is *in* the rows is looked at where they carry the sums of
`fs3.base.checksum.seal_row`: a row whose sum is wrong is damaged, and in the key range where it was found absence proves nothing,
since it may be the key that has changed.

A file that other processes write is looked at in a state that a read transaction holds: no page of that state is used again
before the transaction ends.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from fs3.base.units import GIB
from fs3.drivers.lmdb.page_file import DamagedRow, FileDamaged, PageFile, describe_tree, is_layout_known

lmdb_opening_check_bytes_max = 1 * GIB
"""A larger file is not read completely before it is used: its pages of rows are left to the scrub, all others are looked at."""

damaged_rows_max = 1000
"""Of one file; with more of them, the file as a whole is damaged."""


class FileReport(NamedTuple):
    """What is in a file whose pages are sound."""

    names: tuple[bytes, ...]
    """Keys of the main rows: of single rows, and of the trees of others."""
    rows: int
    """Of the tree whose rows carry sums."""
    damaged: tuple[DamagedRow, ...]
    """In that tree."""


def check_file(path: Path, sealed: bytes = b"", state: int | None = None, *, everything: bool = False) -> FileReport:
    """Look at everything in the newest state of a file that is not being written, or in a state that a read transaction holds.

    `sealed` names the tree whose rows carry sums; in a file of more than `lmdb_opening_check_bytes_max` not these, but only the
    pages that lead to them, unless `everything` is asked for. Raises FileDamaged naming the first page that is wrong,
    StateReplaced, OSError when it cannot be read.
    """
    if not is_layout_known():
        return FileReport((), 0, ())
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
        return _check(PageFile(fd), sealed, state, everything=everything)
    finally:
        os.close(fd)


def _check(file: PageFile, sealed: bytes, state: int | None, *, everything: bool) -> FileReport:
    free, main = file.find_state(state)
    file.used = used = bytearray(file.last + 1)
    used[0] = used[1] = 1
    damaged: list[DamagedRow] = []
    count = 0
    rows = [node for leaf in file.leaves(main) for node in leaf.nodes]
    for key, value, is_tree in rows:
        if is_tree:
            tree = describe_tree(key, value)
            if key == sealed:
                count = tree.entries
            whole = everything or key != sealed or file.bytes <= lmdb_opening_check_bytes_max
            for leaf in file.leaves(tree, sealed=key == sealed, whole=whole):
                damaged += leaf.damaged
                if len(damaged) > damaged_rows_max:
                    raise FileDamaged(f"more than {damaged_rows_max} of {tree.name} are not what was written")
    for leaf in file.leaves(free):
        for _, value, _ in leaf.nodes:
            _check_free(file.last, used, value)
    return FileReport(tuple(key for key, _, _ in rows), count, tuple(damaged))


def _check_free(last: int, used: bytearray, value: bytes) -> None:
    """One list of free pages: how many, then their numbers, descending."""
    count = int.from_bytes(value[:8], "little")
    if len(value) < 8 or len(value) % 8 or count > len(value) // 8 - 1:
        raise FileDamaged(f"a list of {count} free pages has {len(value)} bytes")
    numbers = struct.unpack_from(f"<{count}Q", value, 8)
    for number in numbers:
        if not 2 <= number <= last or used[number]:
            raise FileDamaged(f"page {number} is said to be free, and is not")
        used[number] = 2
    if any(a <= b for a, b in pairwise(numbers)):
        raise FileDamaged("a list of free pages is out of order")
