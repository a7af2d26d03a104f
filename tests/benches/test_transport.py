"""The bench of transports: every figure of it beside its limit, and the page and the pictures that are made of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benches import plot, report, transport
from benches.record import Row, Spread, save

ROOT = Path(__file__).parents[2]


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_every_figure_is_printed_beside_its_limit() -> None:
    command = [sys.executable, "-m", "benches.transport", "--runs", "1", "--scale", "0.01", "--save"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    for figure, limit, must in (
        ("tcp: read 4 MiB, 2 in flight", "by a bare socket", "0.90 x limit"),
        ("local: page of 4.5 MB, verified", "by the socket", "1.80 x limit"),
        ("path without a device: first request of a connection", "by TCP alone, and 5", "1.00 x limit"),
        ("path without a device: reads of 4 KiB, one at a time", "by TCP alone", "0.95 x limit"),
        ("path without a device: everything under way answered after it does not", "", " 1 "),
        ("path without a device: everything under way answered after it loses", "", " 1 "),
        ("path without a device: lost or repeated of 16 requests", "", " 0 "),
    ):
        (line,) = [line for line in lines if figure in line]
        assert limit in line
        assert must in line
    (verdict,) = [line for line in lines if "lost or repeated" in line]
    assert verdict.rstrip().endswith("reached"), verdict
    assert "saved to" not in ran.stdout, "a run at a small scale is saved nowhere"


def test_a_transport_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        transport.main(["--schemes", "tcp,carrier-pigeon"])
    assert "there is no transport 'carrier-pigeon'; there are tcp, local, path" in capsys.readouterr().err


def test_its_figures_are_on_the_page_and_have_a_picture(tmp_path: Path) -> None:
    figures = [f"figure {number} with a name that takes more than a line of a title" for number in range(plot.COLUMNS + 2)]
    results = save(
        [Row("transport", figure, "GB/s", Spread.of([2.0]), "l", Spread.of([1.0])) for figure in figures], tmp_path / "r"
    )
    newest, _ = report.split([json.loads(line) for line in results.read_text().splitlines()])
    assert f"| transport: {figures[-1]} | 2.00 GB/s |" in report.latest_tables(newest)
    assert plot.main(["--results", str(results), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "transport.svg").stat().st_size
