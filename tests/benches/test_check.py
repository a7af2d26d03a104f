"""The regression gate: what counts as worse, and what is compared with what."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benches.check import __main__ as check
from benches.check.lines import Line, append_line, compare, find_line, machine_kind, read_lines


def line(kind: str = "this", commit: str = "", **cpu_us: float) -> Line:
    return Line("2026-01-01T00:00:00+00:00", commit, kind, cpu_us)


@pytest.mark.parametrize(("now", "is_worse"), [(100.0, False), (109.9, False), (110.1, True), (50.0, False)])
def test_more_than_a_tenth_more_is_worse(now: float, is_worse: bool) -> None:
    (verdict,) = compare({"stat": now}, line(stat=100.0))
    assert verdict.is_worse is is_worse
    assert verdict.ratio == pytest.approx(now / 100)


def test_a_path_that_was_not_recorded_is_shown_and_not_worse() -> None:
    known, new = compare({"stat": 1.0, "new": 5.0}, line(stat=1.0))
    assert (known.ratio, new.ratio, new.is_worse) == (1.0, None, False)


def test_the_newest_line_of_the_same_kind_of_machine_counts(tmp_path: Path) -> None:
    path = tmp_path / "results" / "lines"
    assert read_lines(path) == []
    for each in (line("this", "a"), line("this", "b"), line("other", "c")):
        append_line(each, path)
    lines = read_lines(path)
    assert [each.commit for each in lines] == ["a", "b", "c"]
    assert find_line(lines, "this") == line("this", "b")
    assert find_line(lines, "a third") is None
    path.write_text('{"time": 1}\n')
    with pytest.raises(ValueError, match="lines:1: "):
        read_lines(path)


def test_a_machine_without_a_line_is_not_compared_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "read_lines", lambda: [line("a machine nobody has")])
    assert check.main(["--directory", str(tmp_path)]) == check.NOT_COMPARED
    assert "NOT COMPARED" in (said := capsys.readouterr().out)
    assert machine_kind() in said


def test_the_scheduler_accounts_for_all_threads_and_processes() -> None:
    before = check.cpu_ns([os.getpid()])
    sum(number * number for number in range(200_000))
    assert check.cpu_ns([os.getpid()]) > before
    assert check.cpu_ns([]) == 0
