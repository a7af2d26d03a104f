"""A checksum of a *set* of records: equal before and after sorting, whatever the order.

valsort adds up the CRC-32 of every record. A CRC takes a hundred dependent table look-ups per
record, which numpy can only spell as a hundred passes; so ours adds up another hash, mod 2**64:

    hash(record) = mix64(sum of word[j] * K[j] mod 2**64)      25 words of 32 bits, K[j] odd

The sum over words is one matrix-vector product. Changing one word always changes the hash, since
K[j] is odd and `mix64` is a bijection; anything else escapes with a chance of about 2**-64. The mix
is what makes the sum honest: without it the total would be linear in the words, and exchanging a
field between two records would go unnoticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from .mixing import mix64, random_words
from .records import BLOCK_RECORDS, RECORD_BYTES, Records

_WORDS: Final = RECORD_BYTES // 4
_MULTIPLIERS: Final = random_words(25, np.arange(_WORDS, dtype=np.uint64)) | np.uint64(1)
"""K: any fixed odd numbers without structure."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What sorting must not change."""

    records: int = 0
    checksum: int = 0
    """Sum of the record hashes mod 2**64."""

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.records + other.records, (self.checksum + other.checksum) % 2**64)

    def __str__(self) -> str:
        return f"{self.records:,} records with checksum {self.checksum:016x}"


def totals_of(records: Records) -> Totals:
    """Count and checksum of `records`, in blocks that stay in the processor's cache."""
    checksum = 0
    for start in range(0, len(records), BLOCK_RECORDS):
        words = records[start : start + BLOCK_RECORDS].view("<u4")
        hashes = mix64(np.einsum("ij,j->i", words, _MULTIPLIERS))
        checksum += int(hashes.sum())
    return Totals(len(records), checksum % 2**64)
