"""The run command of all rings."""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.sim import command
from fs3.sim.command import main
from fs3.sim.ring1.ring import ChainRing


def test_many_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring1", "run", "--seeds", "5", "--base", "30"]) == 0
    assert "5 seeds from 30, 0 failed" in capsys.readouterr().out


def test_a_planted_bug_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring1", "run", "--seeds", "3", "--bug", "early_ack"]) == 1
    said = capsys.readouterr().out
    assert "seed 0: durability: " in said
    assert "python -m fs3.sim ring1 replay --seed 0 --trace --bug early_ack" in said


def test_one_seed_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring1", "replay", "--seed", "42", "--trace"]) == 0
    text = capsys.readouterr().out
    assert "⇒ commit" in text
    assert "seed 42 fingerprint " in text


def test_one_seed_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring1", "replay", "--seed", "0", "--bug", "early_ack"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("FAILED durability: ") for line in lines)
    assert any("⇒ stage" in line for line in lines), "the end of its story is shown, asked for or not"


def test_processes_give_the_same_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring1", "run", "--seeds", "60", "--jobs", "2"]) == 0
    alone, there = ChainRing(), capsys.readouterr().out
    operations = sum(alone.run(seed).operations for seed in range(60))
    assert f"60 seeds from 0, 0 failed, {operations} operations" in there


def test_planted_bugs_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring1", "bugs", "--only", "early_ack"]) == 0
    what = ChainRing.bugs["early_ack"].what
    assert f"| `early_ack` | {what} | 1 of 40 seeds: `durability` |" in capsys.readouterr().out


def test_an_interrupted_run_goes_on(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["ring1", "run", "--seeds", "120", "--journal", str(tmp_path / "journal")]
    real, runs = ChainRing.run, []

    def interrupted(self: ChainRing, seed: int, bug: str = "") -> object:
        runs.append(seed)
        if len(runs) == 70:
            raise KeyboardInterrupt
        return real(self, seed, bug)

    monkeypatch.setattr(ChainRing, "run", interrupted)
    assert main(arguments) == 130
    assert "interrupted with 70 seeds to go; the same command goes on" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "120 seeds from 0, 0 failed" in capsys.readouterr().out
    assert runs[70:] == list(range(50, 120)), "what was clean is not run again"
    assert main(arguments) == 0
    assert "120 of them remembered" in capsys.readouterr().out
    assert len(runs) == 140


def test_fresh_seeds_are_those_of_the_day(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "FRESH_SEEDS", {"ring1": 2, "ring2": 1})
    monkeypatch.setenv("FS3_SEED_BASE", "20000000")
    assert main(["fresh"]) == 0
    said = capsys.readouterr().out
    assert "python -m fs3.sim fresh --base 20000000" in said
    assert "ring1: 2 seeds from 20000000, 0 failed" in said
    assert "ring2: 1 seeds from 20000000, 0 failed" in said
    monkeypatch.delenv("FS3_SEED_BASE")
    monkeypatch.setattr(command, "FRESH_SEEDS", {"ring1": 1})
    monkeypatch.setattr("time.time", lambda: 86_400 * 321.5)
    assert main(["fresh"]) == 0
    assert "1 seeds from 321000000" in capsys.readouterr().out


def test_a_fresh_seed_that_fails_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = ChainRing.run
    monkeypatch.setattr(command, "FRESH_SEEDS", {"ring1": 1})
    monkeypatch.setattr(ChainRing, "run", lambda self, seed, bug="": real(self, seed, "early_ack"))
    assert main(["fresh", "--base", "0"]) == 1
    assert "FAILED ring1: 1 of 1 seeds; e.g. python -m fs3.sim ring1 replay --seed 0 --trace" in capsys.readouterr().out


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring2", "run", "--seeds", "2", "--base", "30"]) == 0
    assert "2 seeds from 30, 0 failed" in capsys.readouterr().out
    assert main(["ring2", "replay", "--seed", "3", "--trace"]) == 0
    text = capsys.readouterr().out
    assert "heals everything" in text
    assert "seed 3 fingerprint " in text
    with pytest.raises(SystemExit, match="no bug is called 'nonsense'"):
        main(["ring2", "replay", "--seed", "3", "--bug", "nonsense"])
