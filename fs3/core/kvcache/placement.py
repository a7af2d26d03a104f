"""Which chain a page is on: a chunk id names one of 65 536 slots, and a table says whose each slot is.

The table is made by adding the chains one after the other. The first has every slot; each further one takes an equal share from
those before it, and nothing else changes hands. So a chain added at the end of a table takes its share of the pages and leaves
all others where they are; a chain has the same number of slots as any other, give or take one; and finding the chain of a page
costs the same however many chains there are. Which slots a chain has does not matter: ids are digests, slots are hit at random.

The slots are part of the format: pages are found by them. A table of the manager never loses a chain nor changes their order.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from functools import lru_cache

from fs3.base.ids import CHUNK_ID_BYTES, ChainId, ChunkId

SLOTS = 1 << 16
"""Room for far more chains than a routing info can hold; at 400 chains their shares differ by less than a hundredth."""
_SLOT_BYTES = 2
"""The last ones of a chunk id, little-endian, are its slot."""
_IDS_PER_WORD = CHUNK_ID_BYTES // _SLOT_BYTES


class Placement:
    """The chains of one table, ready to be chosen from."""

    def __init__(self, chains: Sequence[ChainId]) -> None:
        """Raises ValueError for no chains, and for more than there are slots."""
        if not chains:
            raise ValueError("a table without chains places nothing")
        if len(chains) > SLOTS:
            raise ValueError(f"{len(chains)} chains, at most {SLOTS} can have pages")
        self.chains = tuple(chains)
        self._places = _assign_slots(len(chains))

    def chain(self, chunk: ChunkId) -> ChainId:
        """The chain of a chunk."""
        return self.chains[self._places[int.from_bytes(chunk[-_SLOT_BYTES:], "little")]]

    def places(self, chunks: Sequence[ChunkId]) -> list[int]:
        """For each chunk the index in `chains` of its chain: `chain` for thousands of them."""
        words = array("H")
        words.frombytes(b"".join(chunks))
        if sys.byteorder == "big":
            words.byteswap()
        places = self._places
        return [places[slot] for slot in words[_IDS_PER_WORD - 1 :: _IDS_PER_WORD]]


def slots_of(place: int, chains: int) -> int:
    """How many of the `SLOTS` the chain at `place` has in a table of so many."""
    return SLOTS // chains + (place < SLOTS % chains)


@lru_cache(maxsize=8)
def _assign_slots(count: int) -> Sequence[int]:
    """Per slot the place of its chain, among `count` of them. Depends on nothing else, so tables of one length share it.

    About `SLOTS` times the logarithm of `count` slots change hands: milliseconds for a few chains, tens of them for hundreds.
    """
    owned: list[list[int]] = [list(range(SLOTS))]
    for newest in range(1, count):
        share, rest = divmod(SLOTS, newest + 1)
        share_before, rest_before = divmod(SLOTS, newest)
        # Whoever keeps its number of slots is skipped: once there are many chains, those are most of them.
        givers = range(rest, rest_before) if share == share_before else range(newest)
        taken: list[int] = []
        for place in givers:
            slots = owned[place]
            keep = share + (place < rest)
            if keep < len(slots):
                taken += slots[keep:]
                del slots[keep:]
        owned.append(taken)
    places = [0] * SLOTS
    for place, slots in enumerate(owned):
        for slot in slots:
            places[slot] = place
    return places
