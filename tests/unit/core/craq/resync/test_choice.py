from __future__ import annotations

import pytest

from fs3.core.craq.resync.choice import CHOICES, Choice, choice_for, choose
from fs3.core.craq.resync.rows import RemoteRow
from fs3.model.chunk import ChunkMeta
from fs3.sim.ring1.one_replica import chunk


def test_exactly_one_row_matches_every_case() -> None:
    CHOICES.check()


def test_every_row_decides_something_and_says_why() -> None:
    for row in CHOICES.rows:
        assert row.why
        assert any(row.matches(case) for case in CHOICES.cases())
    assert {choose(*case) for case in CHOICES.cases()} == set(Choice)  # type: ignore[arg-type]
    assert CHOICES.markdown().count("\n") == len(CHOICES.rows) + 1


def meta(committed: int, pending: int = 0, length: int = 4, checksum: int = 7) -> ChunkMeta:
    return ChunkMeta(committed, pending, 1, length, checksum)


@pytest.mark.parametrize(
    ("mine", "theirs", "choice"),
    [
        (None, None, Choice.SKIP),
        (meta(0, 1), None, Choice.SKIP),
        (None, (3, 0, 4, 7, False), Choice.REMOVE),
        (None, (0, 1, 0, 0, False), Choice.REMOVE),
        (meta(0, 1), (0, 1, 0, 0, False), Choice.REMOVE),
        (None, (3, 0, 4, 7, True), Choice.REMOVE),
        (meta(3), None, Choice.FILL),
        (meta(3), (3, 0, 4, 7, False), Choice.SKIP),
        (meta(3, 4), (3, 0, 4, 7, False), Choice.SKIP),
        (meta(3), (4, 0, 4, 7, False), Choice.FILL),
        (meta(3), (3, 0, 5, 7, False), Choice.FILL),
        (meta(3), (3, 0, 4, 8, False), Choice.FILL),
        (meta(3), (3, 4, 4, 7, False), Choice.FILL),
        (meta(3), (0, 3, 0, 0, False), Choice.FILL),
        (meta(3), (3, 0, 4, 7, True), Choice.FILL),
    ],
)
def test_choices(mine: ChunkMeta | None, theirs: tuple[int, int, int, int, bool] | None, choice: Choice) -> None:
    row = RemoteRow(chunk(0), *theirs) if theirs is not None else None
    assert choice_for(mine, row) is choice


@pytest.mark.parametrize(
    ("theirs", "choice"),
    [
        (None, Choice.FILL),
        ((3, 0, 4, 7, False), Choice.SKIP),
        ((3, 0, 4, 7, True), Choice.SKIP),
        ((3, 0, 4, 8, True), Choice.FILL),
        ((2, 0, 4, 7, False), Choice.FILL),
        ((3, 4, 4, 7, False), Choice.FILL),
    ],
)
def test_choices_about_a_chunk_that_is_bad_here(theirs: tuple[int, int, int, int, bool] | None, choice: Choice) -> None:
    row = RemoteRow(chunk(0), *theirs) if theirs is not None else None
    assert choice_for(meta(3), row, is_bad=True) is choice
    assert choice_for(meta(0, 1), None, is_bad=True) is Choice.SKIP
