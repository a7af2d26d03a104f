"""Every bench runs at a small scale and says what it must; rows, tables and the page are made of what was saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benches import crowd, record, report
from benches import run as benches_run
from benches.peers.ceph import ceph
from benches.peers.mooncake import mooncake
from benches.peers.processes import running, wait_until_served
from benches.peers.redis import redis
from benches.record import Peer, Row, Spread
from fs3.cli.local import LocalCluster
from tests.space import SpaceGuard

ROOT = Path(__file__).parents[2]
ROW = Row("read", "figure", "GB/s", Spread.of([1.0, 3.0, 2.0]), "GB/s limit", Spread.of([4.0]), must_ratio=0.5)
LEFT_BEHIND = Peer("p", Spread.of([1.0]), 1.2)


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        (Row("x", "f", "/s", Spread.of([2.0])), None),
        (Row("x", "f", "/s", Spread.of([2.0]), must_value=2.0), True),
        (Row("x", "f", "/s", Spread.of([2.0]), must_value=2.1), False),
        (Row("x", "f", "ms", Spread.of([2.0]), must_value=2.1, lower_is_better=True), True),
        (Row("x", "f", "/s", Spread.of([2.0]), "l", Spread.of([4.0]), must_ratio=0.5), True),
        (Row("x", "f", "/s", Spread.of([2.0]), "l", Spread.of([4.0]), must_ratio=0.5, must_value=3.0), False),
        (Row("x", "f", "/s", Spread.of([2.0]), peers=[Peer("p", Spread.of([4.0]), 1.2)]), False),
        (
            Row("x", "f", "/s", Spread.of([2.0]), peers=[LEFT_BEHIND, Peer("q", Spread.of([1.9]), 1.2)]),
            False,
        ),
        (Row("x", "f", "/s", Spread.of([2.0]), peers=[LEFT_BEHIND, Peer("q", Spread.of([4.0]))]), True),
        (Row("x", "f", "/s", Spread.of([2.0]), peers=[Peer("p", Spread.of([4.0]))]), None),
    ],
)
def test_a_row_is_reached_when_all_it_must_reach_was(row: Row, reached: bool | None) -> None:
    assert row.reached is reached


def test_the_page_shows_the_newest_recording_and_keeps_the_earlier_ones(tmp_path: Path) -> None:
    results, page = tmp_path / "2026.jsonl", tmp_path / "page.md"
    record.save([ROW, Row("kv-eviction", "elsewhere", "x", Spread.of([1.0]))], results)
    old = json.loads(results.read_text().splitlines()[0])
    for key in ("peers", "peer_ratios"):
        del old[key]  # recorded before there were peers
    old |= {"time": "2026-01-01T00:00:00+00:00", "value": {"median": 0.5, "low": 0.5, "high": 0.5, "runs": 1}, "ratio": 0.125}
    results.write_text(json.dumps(old) + "\n" + results.read_text())
    page.write_text(
        "top\n<!-- latest recording: begin -->\nold\n<!-- latest recording: end -->\nmiddle\n"
        "<!-- earlier recordings: begin -->\n<!-- earlier recordings: end -->\nend\n"
    )
    for _ in range(2):
        assert report.main(["--results", str(results), "--page", str(page)]) == 0
    text = page.read_text()
    assert "| read: figure | 2.00 GB/s | 1.00 - 3.00 | 4.00 GB/s limit | 0.50 |  |  | 0.50 of the limit | reached |" in text
    assert "| read: figure | GB/s | 2026-01-01" in text
    assert "0.500 (0.12)" in text
    assert text.startswith("top\n")
    assert text.endswith("end\n")
    assert "old" not in text
    assert "elsewhere" not in text


def test_a_page_without_markers_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="latest recording"):
        report.replace_between("nothing", report.LATEST, "")


def test_the_page_of_this_project_has_the_markers() -> None:
    text = report.PAGE.read_text()
    for name in (report.LATEST, report.EARLIER):
        assert report.replace_between(text, name, "written")


def test_forked_processes_begin_together_and_their_rates_add_up() -> None:
    parent = os.getpid()

    def prepare(number: int) -> crowd.Work:
        assert os.getpid() != parent
        return lambda count: None

    assert crowd.operations_per_second(2, prepare, 10) > 0


def test_a_forked_process_that_fails_is_named() -> None:
    def prepare(number: int) -> crowd.Work:
        raise ValueError("nothing to do")

    with pytest.raises(RuntimeError, match="process 0 failed: ValueError: nothing to do"):
        crowd.operations_per_second(1, prepare, 10)


@pytest.mark.parametrize(("seconds", "most", "turns"), [(60.0, None, 5), (60.0, 3, 3), (60.0, 9, 5), (0.0, None, 1)])
def test_a_figure_is_measured_as_often_as_there_is_time(tmp_path: Path, seconds: float, most: int | None, turns: int) -> None:
    cluster = LocalCluster(tmp_path)
    context = benches_run.Context(cluster, tmp_path, 5, Console(), seconds)
    assert list(context.turns(most)) == list(range(turns))


def test_a_peer_that_is_not_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with redis(tmp_path / "redis") as first, ceph(tmp_path / "ceph") as second, mooncake(tmp_path / "mooncake") as third:
        assert (first, second, third) == (None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_line_of_when_there_was_one_peer_is_read_as_lines_are_today(tmp_path: Path) -> None:
    results = tmp_path / "2026.jsonl"
    spread = {"median": 4.0, "low": 4.0, "high": 4.0, "runs": 1}
    with_peer = {"bench": "read", "peer": spread, "peer_name": "/s p", "peer_ratio": 0.5, "must_peer_ratio": 1.2}
    without = {"bench": "read", "peer": None, "peer_name": "/s p", "peer_ratio": None, "must_peer_ratio": None}
    results.write_text("".join(json.dumps(line) + "\n" for line in (with_peer, without)))
    first, second = record.load(results)
    assert (first["peers"], first["peer_ratios"]) == ([{"name": "/s p", "value": spread, "must_ratio": 1.2}], [0.5])
    assert (second["peers"], second["peer_ratios"]) == ([], [])


def test_a_peer_that_does_not_serve_is_an_error(tmp_path: Path) -> None:
    def ask() -> None:
        raise LookupError

    with running(["false"], tmp_path / "log") as process, pytest.raises(RuntimeError, match="has ended with 1"):
        wait_until_served([process], ask, LookupError)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nothing"], "there is no bench 'nothing'"),
        (["--runs", "0"], "--runs"),
        (["--scale", "0"], "--scale"),
        (["--scale", "2"], "--scale"),
        (["--seconds", "-1"], "--seconds"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benches_run.main(arguments)
    assert why in capsys.readouterr().err


def test_a_run_that_is_ended_saves_the_benches_it_has_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    saved: list[Row] = []

    def save(rows: list[Row]) -> str:
        saved.extend(rows)
        return "there"

    def run(wanted: object, options: object, work: object, console: object, rows: list[Row]) -> None:
        rows.append(ROW)
        raise SystemExit(143)

    monkeypatch.setattr(record, "save", save)
    monkeypatch.setattr(benches_run, "_run", run)
    for arguments, expected in ((["--scale", "0.5"], []), (["--no-save"], []), ([], [ROW])):
        with pytest.raises(SystemExit):
            benches_run.main([*arguments, "--directory", str(tmp_path)])
        assert saved == expected


SHOWN = {
    "machine idle read short_circuit files write": (
        "before warming",
        "at rest",
        "2 calls under way",
        "by the Unix socket",
        "forked",
        "raw chain",
    ),
    "mixed lookup incast": ("16 bulk readers", "6 chains", "399 chains", "180 nodes"),
    "kv meta list small_files": ("4.5 MB", "74 kB", "4 KiB, 128 a call", "fsspec", "with details", "in one call"),
    "graysort": ("3 durable replicas", "one replica"),
}
"""Benches that are tried out together -> what their tables name."""


def test_every_bench_is_tried_out() -> None:
    tried = {name for names in SHOWN for name in names.split()}
    assert tried == set(benches_run.NAMES) - {"memory"}, "which writes half a GiB at any scale"


@pytest.mark.processes
@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", SHOWN)
def test_benches_run_at_a_small_scale(names: str, space_guard: SpaceGuard) -> None:
    """In a process of its own, with which the server that makes the processes of the limits ends."""
    with space_guard.lend("benches") as directory:
        arguments = [*names.split(), "--runs", "1", "--scale", "0.01", "--directory", str(directory)]
        command = [sys.executable, "-m", "benches.run", *arguments]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "saved to" not in ran.stdout
    for figure in (*(f"{name}, " for name in names.split()), *SHOWN[names]):
        assert figure in ran.stdout
