"""`fs3 demo failover` is found by its name, and a missing one is said."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fs3.base.errors import FS3Error
from fs3.cli import demo
from fs3.drill.failover_demo import run_demo

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
recorded_calls: list[tuple[Path | None, str, float]] = []


def record_call(directory: Path | None, role: str, speed: float) -> None:
    recorded_calls.append((directory, role, speed))


def install(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    def find(group: str, name: str) -> list[EntryPoint]:
        return [point for point in points if (point.group, point.name) == (group, name)]

    monkeypatch.setattr(demo, "entry_points", find)


def test_the_demo_that_is_installed_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recorded_calls.clear()
    monkeypatch.setattr(EntryPoint, "load", lambda self: record_call)
    install(monkeypatch, EntryPoint("failover", "anything:at_all", "fs3.demos"))
    done = CliRunner().invoke(demo.app, ["failover", "--dir", str(tmp_path), "--role", "tail", "--speed", "4"])
    assert done.exit_code == 0
    assert recorded_calls == [(tmp_path, "tail", 4.0)]


def test_a_missing_demo_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(FS3Error, match=r"the demo is not installed .*fs3\.demos.*pip install"):
        demo.load_failover_demo()


def test_the_package_names_its_demo() -> None:
    points = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"][demo.DEMOS]
    (point,) = (EntryPoint(name, value, demo.DEMOS) for name, value in points.items())
    assert point.name == "failover"
    assert point.load() is run_demo


def test_a_role_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FS3Error, match="--role nobody: head, middle, tail"):
        run_demo(tmp_path, "nobody", 1.0)
