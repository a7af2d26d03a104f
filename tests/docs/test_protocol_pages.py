"""docs/protocols/{reconfiguration,election}.md show the timers and the relations between them as they are in the code.

The values are written anew by `python -m fs3.sim tables --write`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fs3.base import limits
from fs3.base.units import MILLISECOND
from fs3.sim.tables import rewrite_tables, timers_text

ROOT = Path(__file__).parents[2]
PROTOCOLS = ROOT / "docs" / "protocols"


@pytest.mark.parametrize("name", ["reconfiguration", "election"])
def test_the_timers(name: str) -> None:
    text = (PROTOCOLS / f"{name}.md").read_text()
    assert "<!-- table: timers -->" in text
    assert rewrite_tables(text) == text


def test_a_timer_is_shown_with_the_value_it_has() -> None:
    said = timers_text("| name | value | meaning |\n|---|---|---|\n| `lease_ns` | 7 ms | what a heartbeat grants |")
    assert said.splitlines()[2] == f"| `lease_ns` | {limits.lease_ns // MILLISECOND} ms | what a heartbeat grants |"
    with pytest.raises(ValueError, match="no such timer: tea_ns"):
        timers_text("| `tea_ns` | 5 ms | until it is ready |")


def test_the_public_state_table() -> None:
    text = (PROTOCOLS / "reconfiguration.md").read_text()
    assert "<!-- table: chain transitions -->" in text
    assert rewrite_tables(text) == text


@pytest.mark.parametrize("name", ["reconfiguration", "election"])
def test_the_relations_are_asserted_where_the_limits_are(name: str) -> None:
    text = (PROTOCOLS / f"{name}.md").read_text()
    source = (ROOT / "fs3" / "base" / "limits.py").read_text()
    relations = re.findall(r"^- `(.*)`$", text.partition("<!-- relations -->")[2].partition("<!-- end -->")[0], re.MULTILINE)
    assert relations
    for relation in relations:
        assert f"assert {relation}\n" in source
        assert eval(relation, dict(vars(limits)))
