"""Scripted runs and the traces they must produce.

`python -m fs3.sim ring1 scenario --rewrite tests/scenarios/*.txt` writes the traces anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.sim.command import main
from fs3.sim.ring1.scenario import ScenarioError, play

SCENARIOS = sorted((Path(__file__).parents[1] / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=[path.stem for path in SCENARIOS])
def test_scenario(path: Path) -> None:
    assert play(path.read_text()) == path.read_text()


def test_what_was_expected_is_replaced() -> None:
    text = "# A comment.\nchain 1\nread x0 1\n----\nsomething else\nand more\n\nstate\n----\n"
    read = "1: read x0 ⇒ answer NOT_FOUND version 0 ''"
    state = "1: ·→1→· head v1 flights 0"
    assert play(text) == f"# A comment.\nchain 1\nread x0 1\n----\n{read}\n\nstate\n----\n{state}\n"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("dance 1", "no such command: dance 1"),
        ("read x0", "read x0: "),
        ("deliver 1 2", "nothing is on its way from 1 to 2"),
        ("crash 9", "crash 9: "),
        ("write c1 x0", "write c1 x0: "),
    ],
)
def test_bad_commands_are_named(command: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        play(f"chain 1 2\n{command}\n----\n")


def test_files_are_checked_and_rewritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.txt"
    path.write_text("chain 1\nstate\n----\n")
    assert main(["ring1", "scenario", str(path)]) == 1
    assert "differs" in capsys.readouterr().out
    assert main(["ring1", "scenario", "--rewrite", str(path)]) == 0
    assert "rewritten" in capsys.readouterr().out
    assert main(["ring1", "scenario", str(path)]) == 0
    assert "head v1" in path.read_text()
