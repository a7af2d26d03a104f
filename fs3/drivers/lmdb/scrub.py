"""Looking through a store for what has become damaged since it was opened: a little at a time, for ever.

A step reads some pages of rows in key order, through ordinary reads and not LMDB's map: a page that is full of something else
must not end the process. It looks at a state that its caller holds for the length of the step, so that others may write
meanwhile, and pages that are no longer used are not kept from being used again for longer.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from fs3.drivers.lmdb.page_file import DamagedRow, PageFile, StateReplaced, is_layout_known

lmdb_scrub_pages = 8
"""Pages of rows that one step looks at: less work than the interpreter lets a thread do before another one has a turn."""


class ScrubbedPages(NamedTuple):
    """What one step has looked at."""

    begin: bytes
    end: bytes | None
    """Where the next step begins; None: that was the last page."""
    bytes: int
    rows: int
    damaged: tuple[DamagedRow, ...]


def scrub_pages(path: Path, name: bytes, state: int, begin: bytes) -> ScrubbedPages | None:
    """Look at the page of rows on which `begin` has its place, and some after it, in a state that is held. On any thread.

    None: others have committed so much since the state was taken that it cannot be found any more. Raises FileDamaged for a
    page that LMDB must not follow, OSError when the file cannot be read.
    """
    if not is_layout_known():
        return None
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        file = PageFile(fd)
        tree = file.find_tree(name, state)
        first: bytes | None = None
        pages = rows = 0
        damaged: list[DamagedRow] = []
        end: bytes | None = None
        for leaf in file.leaves(tree, sealed=True, begin=begin):
            if first is None:
                first = leaf.begin
            if pages == lmdb_scrub_pages:
                end = leaf.begin
                break
            pages += 1
            rows += len(leaf.nodes)
            damaged += leaf.damaged
        return ScrubbedPages(first or b"", end, pages * file.page_bytes, rows, tuple(damaged))
    except StateReplaced:
        return None
    finally:
        os.close(fd)
