"""An interrupt at any moment ends the program, and is no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = "from fs3.cli.entry import main; main()"


def is_left_to_the_system(process: subprocess.Popen[str]) -> bool:
    """An interrupt ends it, and calls nothing of Python's."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return not int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1
    return True


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell what signals a process takes")
def test_an_interrupt_while_it_is_loaded() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; print(flush=True); {PROGRAM}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    while not is_left_to_the_system(process) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    said, wrong = process.communicate()
    assert wrong == "" or "Usage" in said + wrong, "it was loaded before the signal came"
    assert "Traceback" not in wrong


def test_it_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("fs3 ")
