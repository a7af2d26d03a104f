"""docs/posix.md names a test for each rule, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "posix.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)


def test_every_test_that_is_named_is_there() -> None:
    assert NAMED
    for path, name in NAMED:
        assert (ROOT / path).is_file(), path
        assert not name or re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"


SECTIONS = "Namespace", "Extended attributes and ACLs", "On a mount", "Open files without a name", "Holes and space", "Locks"


@pytest.mark.parametrize("name", SECTIONS)
def test_every_rule_names_its_test(name: str) -> None:
    section = TEXT.partition(f"## {name}\n")[2].partition("\n## ")[0]
    tables = section.split("| rule | test |\n|---|---|\n")[1:]
    assert tables
    for table in tables:
        rules = table.partition("\n\n")[0].splitlines()
        assert rules
        assert all(re.search(r"`tests/[\w/]+\.py(::\w+)?` \|$", rule) for rule in rules)


def test_every_section_is_looked_at() -> None:
    assert set(re.findall(r"^## (.*)$", TEXT, re.MULTILINE)) == set(SECTIONS)
