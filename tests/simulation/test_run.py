from __future__ import annotations

import pytest

from fs3.sim.run import main


def test_many_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "5", "--base", "30"]) == 0
    assert "5 seeds from 30, 0 failed" in capsys.readouterr().out


def test_a_planted_bug_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3", "--bug", "early_ack"]) == 1
    assert "seed 0: durability: " in capsys.readouterr().out


def test_one_seed_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "42", "--trace"]) == 0
    text = capsys.readouterr().out
    assert "⇒ commit" in text
    assert "seed 42 fingerprint " in text


def test_one_seed_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "0", "--bug", "early_ack"]) == 1
    assert "FAILED durability: " in capsys.readouterr().out


def test_processes_give_the_same_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "60", "--jobs", "2"]) == 0
    assert "60 seeds from 0, 0 failed" in capsys.readouterr().out


def test_planted_bugs_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bugs", "--bug", "early_ack"]) == 0
    assert "| `early_ack` | 1 | 40 |" in capsys.readouterr().out
