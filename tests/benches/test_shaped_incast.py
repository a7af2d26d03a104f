"""The bench of nodes behind a shaped line, where namespaces can be made."""

from __future__ import annotations

import asyncio

import pytest

from benches import shaped_incast


def test_stripes_arrive_over_a_shaped_line(monkeypatch: pytest.MonkeyPatch) -> None:
    why = shaped_incast.find_obstacle()
    if why:
        pytest.skip(why)
    monkeypatch.setattr(shaped_incast, "STRIPES", 2)
    with shaped_incast.shaped_line() as namespace, shaped_incast.serving_nodes(namespace) as endpoints:
        assert len(endpoints) == shaped_incast.NODES
        granted, without = asyncio.run(shaped_incast.measure(endpoints, 1))
    assert granted.limit is without.limit is not None
    # More than the line carries would mean that it is not shaped.
    line = shaped_incast.RATE_MBIT / 8
    assert 0 < granted.value.median <= 1.1 * line
    assert 0 < without.value.median <= 1.1 * line


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert shaped_incast.main([]) == 2
    assert "not measured: there is no ip and no tc" in capsys.readouterr().out
