"""The overlap of loading, computing and checkpointing, from the events of traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benches.training_step import common, describe, length, merge, stages_of, union


def event(name: str, begin_us: float, dur_us: float, path: str = "") -> dict[str, Any]:
    return {"ph": "X", "name": name, "ts": begin_us, "dur": dur_us, "args": {"path": path}}


def test_what_overlaps() -> None:
    assert union([(3, 4), (0, 1), (0.5, 2), (2, 2.5)]) == [(0, 2.5), (3, 4)]
    assert length([(0, 2.5), (3, 4)]) == 3.5
    assert common([(0, 2), (3, 5)], [(1, 4)]) == 2
    assert common([], [(1, 4)]) == 0


def test_stages_of_a_program() -> None:
    events = [
        event("compute", 10_000_000, 4_000_000),
        event("fs3 read", 9_000_000, 2_000_000, "/samples/1"),
        event("fs3 write", 13_000_000, 2_000_000, "/checkpoints/8"),
        event("fs3 stat", 1, 1, "/elsewhere"),
        {"ph": "M", "name": "process_name"},
    ]
    stages = stages_of(events)
    assert stages == {"loading": [(0, 2)], "computing": [(1, 5)], "checkpointing": [(4, 6)]}
    assert describe(stages).splitlines() == [
        "6.00 s, computing 67 % of it",
        "loading: 2.00 s, 50 % of it while the program computes",
        "checkpointing: 2.00 s, 50 % of it while the program computes",
    ]


def test_traces_of_different_base_times_become_one(tmp_path: Path) -> None:
    for name, base_ns, begin in (("one", 10**9, 5.0), ("other", 3 * 10**9, 7.0)):
        (tmp_path / name).write_text(json.dumps({"baseTimeNanoseconds": base_ns, "traceEvents": [event("compute", begin, 1)]}))
    merged = json.loads(merge([tmp_path / "one", tmp_path / "other"], tmp_path / "both").read_text())
    assert [each["ts"] for each in merged["traceEvents"]] == [5.0, 2_000_007.0]
