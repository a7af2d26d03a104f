"""Files of remembered seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.sim.remembered import read_seeds


def test_a_line_is_a_seed_a_bug_and_a_cause(tmp_path: Path) -> None:
    path = tmp_path / "seeds.txt"
    path.write_text("# Seeds\n\n7   no_lease  it served too long\n12  -         nothing else\n")
    assert read_seeds(path) == [(7, "no_lease", "it served too long"), (12, "", "nothing else")]
    path.write_text("7 no_lease\n")
    with pytest.raises(ValueError, match="'7 no_lease' is not a seed, a bug and a cause"):
        read_seeds(path)
