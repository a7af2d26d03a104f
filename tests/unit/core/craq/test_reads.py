from __future__ import annotations

import pytest

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.core.craq.read_table import (
    READS,
    ChunkState,
    Downstream,
    LeaseState,
    SlotState,
    StoreState,
    VersionMatch,
)
from fs3.core.craq.reads import answer, gate, pending_is_dirty
from fs3.model.chain import Chain
from fs3.model.chunk import ChunkMeta
from fs3.sim.ring1.one_replica import chain

CLEAN = ChunkMeta(3, 0, 1, 4, 7)
DIRTY = ChunkMeta(3, 4, 1, 4, 7)
FRESH = ChunkMeta(0, 1, 1, 0, 0)
PLAIN = chain(5, 1, 2, 3, out=(9,))
WITH_SYNCING = chain(5, 1, 2, syncing=(3,))


def decide(meta: ChunkMeta | None, where: Chain | None, target: TargetId, version: int, now: int, lease: int) -> Code:
    """As everything that serves reads puts the two together."""
    code = gate(where, target, version, now, lease)
    return code if code is not Code.OK else answer(meta, pending_is_dirty(where, target))


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


# --- the table -------------------------------------------------------------------------------------------------------


def test_exactly_one_row_of_the_table_matches_every_case() -> None:
    READS.check()


METAS = {ChunkState.NOTHING: None, ChunkState.COMMITTED: CLEAN, ChunkState.BOTH: DIRTY, ChunkState.PENDING: FRESH}


@pytest.mark.parametrize("case", list(READS.cases()), ids=lambda case: "-".join(value.name.lower() for value in case))
def test_the_function_says_what_the_table_says(
    case: tuple[StoreState, VersionMatch, SlotState, LeaseState, Downstream, ChunkState],
) -> None:
    store, asked, slot, lease, behind, known = case
    target = TargetId(9 if slot is SlotState.ELSE else 2)
    where = chain(5, 1, 2, syncing=(3,) if behind is Downstream.SOMEBODY else (), out=(9,))
    code = decide(
        METAS[known],
        where if store is StoreState.OPEN else None,
        target,
        5 if asked is VersionMatch.EQUAL else 4,
        10,
        20 if lease is LeaseState.RUNNING else 10,
    )
    assert code is READS.row_for(case).code


# --- bad chunks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [ChunkState.COMMITTED, ChunkState.BOTH])
@pytest.mark.parametrize("dirty", [False, True])
def test_a_bad_chunk_is_refused_before_it_is_asked_which_version_to_show(known: ChunkState, dirty: bool) -> None:
    assert answer(METAS[known], dirty, is_bad=True) is Code.CHECKSUM
