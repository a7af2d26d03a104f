"""What a process of a service is set to."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from fs3.runtime.serving import collector_objects, tune_collector
kept = [[] for _ in range(100)]
tune_collector()
assert gc.get_freeze_count() >= 100
assert gc.get_threshold()[0] == collector_objects
assert gc.isenabled()
"""


def test_the_collector_looks_less_often_and_not_at_what_is_there() -> None:
    subprocess.run((sys.executable, "-c", PROGRAM), check=True)
