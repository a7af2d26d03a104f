"""docs/protocols/{reconfiguration,election}.md show the table and the timers as they are in the code.

`REWRITE=1 pytest tests/docs/test_protocol_pages.py` writes them anew; the diff is the review.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fs3.base import limits
from fs3.base.units import MILLISECOND
from fs3.client.mgmtd import selector
from fs3.core.membership.transition import table_text

ROOT = Path(__file__).parents[2]
PROTOCOLS = ROOT / "docs" / "protocols"
TIMERS = {**vars(selector), **vars(limits)}
"""Timers stand in `base/limits.py`; one that only the search for the primary uses stands there."""
_TIMER = re.compile(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", re.MULTILINE)


def rewritten(text: str, section: str, renew: Callable[[str], str]) -> str:
    """The document with what stands between `<!-- section -->` and `<!-- end -->` renewed."""
    begin, end = f"<!-- {section} -->\n", "<!-- end -->"
    head, found, rest = text.partition(begin)
    assert found, f"no section {section}"
    old, found, tail = rest.partition(end)
    assert found, f"section {section} does not end"
    return head + begin + renew(old) + end + tail


def timers(old: str) -> str:
    """The same timers with the values they have."""
    assert _TIMER.search(old)
    return _TIMER.sub(lambda row: f"| `{row[1]}` | {TIMERS[row[1]] // MILLISECOND} ms | {row[2]} |", old)


def checked(document: Path, new: str) -> None:
    if os.environ.get("REWRITE"):
        document.write_text(new)
    assert document.read_text() == new


@pytest.mark.parametrize("name", ["reconfiguration", "election"])
def test_the_timers(name: str) -> None:
    document = PROTOCOLS / f"{name}.md"
    checked(document, rewritten(document.read_text(), "timers", timers))


def test_the_public_state_table() -> None:
    document = PROTOCOLS / "reconfiguration.md"
    checked(document, rewritten(document.read_text(), "table", lambda old: table_text() + "\n"))


@pytest.mark.parametrize("name", ["reconfiguration", "election"])
def test_the_relations_are_asserted_where_the_limits_are(name: str) -> None:
    text = (PROTOCOLS / f"{name}.md").read_text()
    source = (ROOT / "fs3" / "base" / "limits.py").read_text()
    relations = re.findall(r"^- `(.*)`$", text.partition("<!-- relations -->")[2].partition("<!-- end -->")[0], re.MULTILINE)
    assert relations
    for relation in relations:
        assert f"assert {relation}\n" in source
        assert eval(relation, dict(vars(limits)))
