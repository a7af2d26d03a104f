"""What is recorded of a run in the virtual machine, and what is said when there is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.rdma import guest_log

ROOT = Path(__file__).parents[2]
BEGAN = datetime(2026, 11, 30, 6, 8, tzinfo=UTC)
CONSOLE = """\x1bc\x1b[?7lSeaBIOS (version 1.16.2)\r
\x1bc\x1b[2Jfs3-guest: kernel 6.1.0-57-amd64, link rxe0/1 state ACTIVE physical_state LINK_UP netdev fs3a \r
============================= test session starts ==============================\r
platform linux -- Python 3.11.7, pytest-9.2.0, pluggy-1.7.0 -- /home/someone/.venv/bin/python\r
rootdir: /home/someone/fs3\r
collecting ... collected 3 items\r
\r
tests/rdma/test_cluster.py::test_updates_reads_and_resync[device] PASSED [ 33%]\r
tests/rdma/test_device.py::TestOverDevice::test_a_call[b'a b'] PASSED    [ 66%]\r
tests/integration/test_dma_bufs.py::test_real SKIPPED (no vgem on host7) [100%]\r
\r
=========================== short test summary info ============================\r
SKIPPED [1] tests/integration/test_dma_bufs.py:7: no vgem on host7\r
============ 2 passed, 1 skipped, 41 deselected in 80.20s (0:01:20) ============\r
fs3-guest: the command ended with status 0\r
"""


def test_a_run_is_recorded_test_by_test_and_without_what_is_of_its_host() -> None:
    assert guest_log.condense(CONSOLE, "QEMU 7.2.22", "cabb1062", BEGAN, 90.9).splitlines() == [
        "commit    cabb1062",
        "began     2026-11-30 06:08 UTC",
        "took      91 s, the boot included",
        "result    2 passed, 1 skipped, 41 deselected in 80.20s (0:01:20)",
        "machine   QEMU 7.2.22",
        "kernel    6.1.0-57-amd64",
        "device    link rxe0/1 state ACTIVE physical_state LINK_UP netdev fs3a",
        "python    Python 3.11.7, pytest 9.2.0",
        "",
        "PASSED    tests/rdma/test_cluster.py::test_updates_reads_and_resync[device]",
        "PASSED    tests/rdma/test_device.py::TestOverDevice::test_a_call[b'a b']",
        "SKIPPED   tests/integration/test_dma_bufs.py::test_real",
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (r"fs3-guest: kernel.*$", "does not tell the kernel and the device"),
        (r"^=+ 2 passed.*$", "does not tell the summary"),
        (r"^tests/rdma/test_cluster.*$", "tells of 1 tests that passed, and ends with: 2 passed, 1 skipped"),
        (r"^tests/integration.*$", "tells of 0 tests that skipped"),
    ],
)
def test_what_is_not_the_whole_of_a_run_is_not_recorded(line: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        guest_log.condense(re.sub(line, "", CONSOLE, flags=re.MULTILINE), "", "", BEGAN, 1)


def test_the_record_is_of_a_run_that_passed() -> None:
    lines = guest_log.LOG.read_text().splitlines()
    head = dict(line.split(maxsplit=1) for line in lines[: lines.index("")])
    outcomes = [line.split(maxsplit=1) for line in lines[lines.index("") + 1 :]]
    assert re.fullmatch(r"[0-9a-f]{7,}\+?", head["commit"])
    assert re.match(r"\d+ passed", head["result"])
    assert "failed" not in head["result"]
    assert {outcome for outcome, _ in outcomes} <= {"PASSED", "SKIPPED"}
    for module in ("test_cluster", "test_protection", "test_device", "test_dma_buf", "test_dma_bufs"):
        assert any(f"/{module}.py::" in test and outcome == "PASSED" for outcome, test in outcomes)


@pytest.mark.parametrize(("option", "status"), [((), 3), (("--skip",), 0)])
def test_a_host_without_qemu_says_so(option: tuple[str, ...], status: int) -> None:
    command = [sys.executable, "-m", "tests.rdma.guest", *option]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": ""}, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (status, "fs3-guest: not run: qemu-system-x86 is not installed\n")


def test_only_the_tests_are_recorded() -> None:
    command = [sys.executable, "-m", "tests.rdma.guest", "--record", "--", "true"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "--record is of the tests: it takes no command" in ran.stderr
