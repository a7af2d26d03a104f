"""Numbers that may fall and never rise, one per rule: `ratchet.json` beside this file.

A change that lowers one lowers it in the file as well (`FS3_RATCHET=write` does), so that nothing climbs back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("ratchet.json")


def hold(rule: str, counts: Mapping[str, int]) -> None:
    """Asserts that `rule` is broken exactly as often as is written down.

    Args:
        rule: its name in `ratchet.json`.
        counts: how often, by module: for whoever has to find what is new.
    """
    total = sum(counts.values())
    held = json.loads(FILE.read_text()) if FILE.exists() else {}
    if os.environ.get("FS3_RATCHET") == "write":
        held[rule] = min(total, held.get(rule, total))
        FILE.write_text(json.dumps(held, indent=2, sort_keys=True) + "\n")
    where = ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count)
    assert total <= held[rule], f"{rule}: {total}, not more than {held[rule]}: {where}"
    assert total == held[rule], (
        f"{rule} fell to {total}: write it down (FS3_RATCHET=write), so that it cannot rise to {held[rule]}"
    )
