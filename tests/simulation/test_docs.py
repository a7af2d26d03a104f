"""docs/simulation.md shows the table of planted bugs as it is."""

from __future__ import annotations

from pathlib import Path

from fs3.sim.bugs import BUGS

DOCUMENT = Path(__file__).parents[2] / "docs" / "simulation.md"


def test_every_planted_bug_is_in_the_table() -> None:
    text = DOCUMENT.read_text()
    for name, bug in BUGS.items():
        caught = f"seeds: within {bug.seeds}" if bug.seeds else f"scenario `{bug.scenario}`"
        assert f"| `{name}` | {bug.what} | {caught} |" in text
    assert text.count("| `") - 4 == len(BUGS)  # the four checkers above it
