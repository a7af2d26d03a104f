from __future__ import annotations

from fs3.base.ids import TargetId
from fs3.core.craq.admission.table import UNTAGGED
from fs3.sim.checkers.once import CommitVersions
from fs3.sim.ring1.one_replica import chunk, tag

ONE, TWO = TargetId(1), TargetId(2)


def test_an_update_has_one_version_wherever_it_is_committed() -> None:
    versions = CommitVersions()
    assert versions.explain(ONE, chunk(0), 1, tag(1)) == ""
    assert versions.explain(TWO, chunk(0), 1, tag(1)) == ""
    assert versions.explain(ONE, chunk(0), 2, tag(2)) == ""
    wrong = versions.explain(TWO, chunk(0), 3, tag(1))
    assert "target 2 commits update 1 of client 0001/0 as version 3" in wrong
    assert "it was version 1" in wrong
    assert "it was version 2 of chunk 00000000" in versions.explain(TWO, chunk(1), 2, tag(2))


def test_untagged_updates_are_not_told_apart() -> None:
    versions = CommitVersions()
    assert versions.explain(ONE, chunk(0), 1, UNTAGGED) == ""
    assert versions.explain(ONE, chunk(0), 2, UNTAGGED) == ""
