"""What validation remembers of a run of records, and how two neighbouring runs make one.

`join` is associative, so blocks make files, files make the data set, and it does not matter who
summarised what: the same rule finds disorder inside a block, between blocks and between files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from .checksum import Totals, totals_of
from .records import KEY_BYTES, Records, key_prefix, key_suffix


@dataclass(frozen=True, slots=True)
class Summary:
    """A run of records, in the order in which they are stored."""

    totals: Totals = field(default_factory=Totals)
    first_key: bytes = b""
    last_key: bytes = b""
    """Empty when there are no records."""
    descents: int = 0
    """Neighbours of which the second has the smaller key."""
    descent_first: int | None = None
    """Index of the first record smaller than the one before it."""
    duplicates: int = 0
    """Neighbours with equal keys: in sorted data, the number of keys that repeat an earlier one."""

    @classmethod
    def of(cls, records: Records) -> Self:
        """Summarise rows in memory."""
        if len(records) == 0:
            return cls()
        prefix = key_prefix(records)
        undecided = np.flatnonzero(prefix[1:] <= prefix[:-1]) + 1  # few, when sorted
        suffix = key_suffix(records)
        equal = prefix[undecided] == prefix[undecided - 1]
        lower = suffix[undecided] < suffix[undecided - 1]
        same = suffix[undecided] == suffix[undecided - 1]
        descents = undecided[~equal | lower]
        return cls(
            totals=totals_of(records),
            first_key=records[0, :KEY_BYTES].tobytes(),
            last_key=records[-1, :KEY_BYTES].tobytes(),
            descents=len(descents),
            descent_first=int(descents[0]) if len(descents) else None,
            duplicates=int(np.count_nonzero(equal & same)),
        )

    def join(self, after: Summary) -> Summary:
        """This run followed by `after`."""
        if not self.totals.records:
            return after
        if not after.totals.records:
            return self
        descends = after.first_key < self.last_key
        descent_first = self.descent_first
        if descent_first is None and descends:
            descent_first = self.totals.records
        if descent_first is None and after.descent_first is not None:
            descent_first = self.totals.records + after.descent_first
        return Summary(
            totals=self.totals + after.totals,
            first_key=self.first_key,
            last_key=after.last_key,
            descents=self.descents + descends + after.descents,
            descent_first=descent_first,
            duplicates=self.duplicates + (after.first_key == self.last_key) + after.duplicates,
        )
