"""Puts what is made from now on at other addresses: sets of what hashes by its address are walked in another order then."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

_HEADER_BYTES = 33
"""Of a `bytes`."""
_SMALL_BYTES_MAX = 512
"""The interpreter has a list of free places for each size up to this one."""
_PLACES_MAX = 3000


@contextmanager
def scrambled_memory(seed: int) -> Iterator[None]:
    """In the block, new objects get the places of others that were freed in a drawn order."""
    prng = random.Random(seed)
    kept: list[object] = []
    for size in range(48, _SMALL_BYTES_MAX + 1, 16):
        made: list[object] = [bytes(size - _HEADER_BYTES) for _ in range(prng.randrange(500, _PLACES_MAX))]
        prng.shuffle(made)
        kept += made[: len(made) // 5]
        while made:
            made.pop()
    tables: list[object] = [{} for _ in range(_PLACES_MAX)]
    prng.shuffle(tables)
    while tables:
        tables.pop()
    yield
    assert kept, "held until here"
