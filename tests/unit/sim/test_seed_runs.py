"""Ranges of seeds, and the journal of those that were clean."""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.sim import seed_runs
from fs3.sim.ring import Outcome
from fs3.sim.seed_runs import Piece, SeedJournal, Tally, load_ring, split_seeds


def test_pieces_cover_a_range_and_are_shared() -> None:
    pieces = split_seeds("ring1", "", 30, 120)
    assert [(piece.first, piece.count) for piece in pieces] == [(30, 20), (50, 50), (100, 50)]
    assert pieces[1:] == split_seeds("ring1", "", 50, 100)
    assert [piece.count for piece in split_seeds("ring2", "", 0, 25)] == [10, 10, 5]
    assert split_seeds("ring1", "", 7, 0) == []


def test_a_journal_is_read_again(tmp_path: Path) -> None:
    one, other = Piece("ring1", "", 0, 50), Piece("ring1", "no_lease", 0, 50)
    journal = SeedJournal(tmp_path / "journal")
    assert journal.operations_of(one) is None
    journal.add(one, 123)
    again = SeedJournal(tmp_path / "journal")
    assert again.operations_of(one) == 123
    assert again.operations_of(other) is None
    assert again.stale == 0


def test_what_other_code_has_run_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = Piece("ring2", "", 0, 10)
    SeedJournal(tmp_path / "journal").add(piece, 1)
    monkeypatch.setattr(seed_runs, "digest_code", lambda: "another")
    journal = SeedJournal(tmp_path / "journal")
    assert journal.operations_of(piece) is None
    assert journal.stale == 1
    journal.add(piece, 2)
    assert len((tmp_path / "journal").read_text().splitlines()) == 2


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("dear diary\n")
    with pytest.raises(ValueError, match="journal, line 1: not of a journal of seeds: 'dear diary'"):
        SeedJournal(tmp_path / "journal")
    (tmp_path / "journal").write_text('{"ring": "ring1"}\n')
    with pytest.raises(ValueError, match="line 1"):
        SeedJournal(tmp_path / "journal")


def test_a_tally_adds_up() -> None:
    tally = Tally()
    tally.add(Outcome(3, "0", [], 10, 5, {"acknowledged": 2}))
    tally.add(Outcome(4, "0", ["once: twice"], 1, 1, {"acknowledged": 1}))
    assert (tally.seeds, tally.failed, tally.operations, tally.steps, tally.figures) == (2, [4], 6, 11, {"acknowledged": 3})


def test_rings_have_names() -> None:
    assert "early_ack" in load_ring("ring1").bugs
    assert "lease_twice" in load_ring("ring2").bugs
    with pytest.raises(ValueError, match="no ring is called 'ring3'"):
        load_ring("ring3")
