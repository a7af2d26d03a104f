"""The trace of IO beside torch.profiler's, of a loop that loads by a DataLoader, trains, and writes checkpoints meanwhile."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.external.library import library

pytestmark = [
    pytest.mark.external,
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # fork() and threads do not go together in general
]

CLOCKS_APART_US = 100_000
"""torch.profiler reads another clock of the processor, and places it on the system's."""


def test_the_overlap_of_loading_training_and_checkpoints(url: str, tmp_path: Path) -> None:
    """What must have come one after the other does so in the merged trace, so what overlaps there did overlap."""
    torch = library("torch")
    from benches.training_step import STEPS_PER_CHECKPOINT, stages_of, train, write_samples

    steps = 2 * STEPS_PER_CHECKPOINT
    write_samples(url, steps)
    events: list[dict[str, Any]] = json.loads(train(url, steps, tmp_path).read_text())["traceEvents"]
    spans = [event for event in events if event.get("ph") == "X"]

    def of_file(name: str, operation: str) -> list[dict[str, Any]]:
        found = [each for each in spans if each["name"] == operation and each.get("args", {}).get("path", "").endswith(name)]
        assert found, f"{operation} of {name} is in the trace"
        return found

    computed = sorted((each for each in spans if each["name"] == "compute"), key=lambda each: float(each["ts"]))
    assert len(computed) == steps
    for number, step in enumerate(computed):
        reads = of_file(f"/samples/{number}", "fs3 read")
        assert os.getpid() not in {each["pid"] for each in reads}, "a worker has loaded it"
        loaded = max(each["ts"] + each["dur"] for each in reads)
        assert loaded < step["ts"] + CLOCKS_APART_US, f"step {number} computes with what was loaded"
        inner = [each for each in spans if each["name"].startswith("aten::") and each["tid"] == step["tid"]]
        assert any(step["ts"] <= each["ts"] <= step["ts"] + step["dur"] for each in inner), "it says what torch does"
    for number in (STEPS_PER_CHECKPOINT - 1, steps - 1):
        writes = of_file(f"/checkpoints/{number}", "fs3 write")
        assert {each["pid"] for each in writes} == {os.getpid()}
        done = computed[number]["ts"] + computed[number]["dur"]
        assert min(each["ts"] for each in writes) > done - CLOCKS_APART_US, "a checkpoint is of what was computed"
    assert all(stages_of(events).values())
    from fsspec.core import open as open_file

    with open_file(f"{url}/checkpoints/{steps - 1}", "rb") as file:
        assert all(bool(tensor.isfinite().all()) for tensor in torch.load(file).values())
