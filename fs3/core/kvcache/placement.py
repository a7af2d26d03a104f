"""Which chain a page is on: rendezvous hashing over the chains of the namespace's table.

Every chain has a score for a chunk, the highest wins. A chain added to a table takes its share of the keys and leaves all others
where they are (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998). The scores are part of the
format: pages are found by them.
"""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.ids import ChainId, ChunkId
from fs3.base.prng import Prng

_MASK = (1 << 64) - 1
_MULTIPLIER = 0xFF51AFD7ED558CCD  # of MurmurHash3's finaliser


class Placement:
    """The chains of one table, ready to be chosen from."""

    def __init__(self, chains: Sequence[ChainId]) -> None:
        if not chains:
            raise ValueError("a table without chains places nothing")
        self._seeds = [(chain, Prng(chain).next()) for chain in chains]

    def chain(self, chunk: ChunkId) -> ChainId:
        """The chain of a chunk."""
        word = int.from_bytes(chunk[8:], "big")
        best = ChainId(0)
        best_score = -1
        for chain, seed in self._seeds:
            # The high half of the product depends on all bits below it.
            score = ((word ^ seed) * _MULTIPLIER & _MASK) >> 20
            if score > best_score:
                best, best_score = chain, score
        return best
