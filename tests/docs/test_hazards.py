"""The tests, scenes and planted bugs that docs/kvcache-hazards.md names are there."""

import re
from pathlib import Path

from fs3.sim.ring2.bugs import BUGS
from fs3.sim.ring2.scenes import SCENES

ROOT = Path(__file__).parents[2]
ROWS = [line for line in (ROOT / "docs" / "kvcache-hazards.md").read_text().splitlines() if line.startswith("| ")][1:]


def test_every_hazard_names_a_test():
    assert len(ROWS) == 12
    for row in ROWS:
        assert re.search(r"`tests/\S+::test_\w+`", row), row


def test_what_is_named_is_there():
    for row in ROWS:
        held_by = row.split("|")[3]
        for path, test in re.findall(r"`(tests/\S+)::(test_\w+)`", held_by):
            assert re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{test}"
        for kind, names in re.findall(r"\b(scene|bug)s? ((?:`\w+`(?:, )?)+)", held_by):
            assert set(re.findall(r"`(\w+)`", names)) <= set(SCENES if kind == "scene" else BUGS), names
