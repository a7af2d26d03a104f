from __future__ import annotations

import pytest

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.core.craq.reads import decide
from fs3.model.chain import Chain
from fs3.model.chunk import ChunkMeta
from fs3.sim.one_replica import chain

CLEAN = ChunkMeta(3, 0, 1, 4, 7)
DIRTY = ChunkMeta(3, 4, 1, 4, 7)
FRESH = ChunkMeta(0, 1, 1, 0, 0)
PLAIN = chain(5, 1, 2, 3, out=(9,))
WITH_SYNCING = chain(5, 1, 2, syncing=(3,))


@pytest.mark.parametrize(
    ("meta", "where", "target", "code"),
    [
        (CLEAN, PLAIN, 1, Code.OK),
        (CLEAN, PLAIN, 2, Code.OK),
        (CLEAN, PLAIN, 3, Code.OK),
        (None, PLAIN, 1, Code.NOT_FOUND),
        (DIRTY, PLAIN, 1, Code.DIRTY),
        (DIRTY, PLAIN, 2, Code.DIRTY),
        (FRESH, PLAIN, 1, Code.DIRTY),
        # The tail has not answered what it has pending, and nobody is behind it.
        (DIRTY, PLAIN, 3, Code.OK),
        (FRESH, PLAIN, 3, Code.NOT_FOUND),
        # A syncing target behind it may show it already, as the new tail.
        (DIRTY, WITH_SYNCING, 2, Code.DIRTY),
        (CLEAN, WITH_SYNCING, 2, Code.OK),
        (CLEAN, WITH_SYNCING, 3, Code.NOT_SERVING),
        (CLEAN, PLAIN, 9, Code.NOT_SERVING),
        (CLEAN, PLAIN, 4, Code.NOT_SERVING),
        (CLEAN, None, 1, Code.NOT_SERVING),
    ],
)
def test_reads(meta: ChunkMeta | None, where: Chain | None, target: int, code: Code) -> None:
    assert decide(meta, where, TargetId(target), 5, 10, 20) is code


def test_chain_versions_must_be_equal() -> None:
    for version in (4, 6):
        assert decide(CLEAN, PLAIN, TargetId(1), version, 10, 20) is Code.WRONG_CHAIN_VERSION


def test_nobody_serves_from_the_moment_its_lease_ends() -> None:
    assert decide(CLEAN, PLAIN, TargetId(1), 5, 19, 20) is Code.OK
    assert decide(CLEAN, PLAIN, TargetId(1), 5, 20, 20) is Code.LEASE
    assert decide(DIRTY, PLAIN, TargetId(1), 5, 21, 20) is Code.LEASE
