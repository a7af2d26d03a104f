"""Runs of records inside named files, and how to cut them.

All positions here count records; bytes appear only in `Directory`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple


class Extent(NamedTuple):
    """Records `start` up to, and without, `stop` of one file."""

    name: str
    start: int
    stop: int

    @property
    def records(self) -> int:
        return self.stop - self.start


def split_evenly(total: int, parts: int) -> list[tuple[int, int]]:
    """Cut range(total) into `parts` consecutive (start, stop), as equal as can be."""
    bounds = [total * part // parts for part in range(parts + 1)]
    return list(pairwise(bounds))


def slice_files(records: Mapping[str, int], start: int, stop: int) -> list[Extent]:
    """Records `start` … `stop` of the concatenation of files, given name → number of records."""
    extents = []
    base = 0
    for name, length in records.items():
        extent = Extent(name, max(start - base, 0), min(stop - base, length))
        if extent.records > 0:
            extents.append(extent)
        base += length
    return extents


def group_extents(extents: Iterable[Extent], records_max: int) -> Iterator[list[Extent]]:
    """Cut and gather extents, in order, into groups of exactly `records_max` but for the last."""
    group: list[Extent] = []
    room = records_max
    for name, start, stop in extents:
        while start < stop:
            cut = min(stop, start + room)
            group.append(Extent(name, start, cut))
            room -= cut - start
            start = cut
            if room == 0:
                yield group
                group, room = [], records_max
    if group:
        yield group
