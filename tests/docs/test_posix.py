"""docs/posix.md names a test for each rule, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "posix.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)


def test_every_test_that_is_named_is_there() -> None:
    assert NAMED
    for path, name in NAMED:
        assert (ROOT / path).is_file(), path
        assert not name or re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"


def test_every_rule_of_the_namespace_names_its_test() -> None:
    section = TEXT.partition("## Namespace\n")[2].partition("\n## ")[0]
    rules = [line for line in section.partition("### ")[0].splitlines() if line.startswith("| ")][1:]
    assert rules
    assert all(re.search(r"`tests/[\w/]+\.py::\w+` \|$", rule) for rule in rules)
