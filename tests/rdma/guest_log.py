"""What is recorded of a run in the virtual machine: the commit, versions, what became of each test; and nothing of the host."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from benches.record import commit_name

LOG = Path(__file__).with_name("guest-log.txt")
"""Of the last run that passed and was to be recorded."""
_OUTCOME = re.compile(r"^(tests/\S+::.+?) (PASSED|SKIPPED|XFAIL|FAILED|ERROR)\b")
_KERNEL = re.compile(r"fs3-guest: kernel (\S+), (.*)$")
_PYTHON = re.compile(r"^platform linux -- (Python [\d.]+, pytest-[\d.]+)")
_SUMMARY = re.compile(r"^=+ (.*\b\d+ passed\b.* in [\d.]+s.*?) =+$")


def condense(output: str, versions: str, commit: str, began: datetime, seconds: float) -> str:
    """The record of a run that passed, from all that its console showed. ValueError when that is not the whole of such a run."""
    found = {"kernel": "", "device": "", "python": "", "summary": ""}
    outcomes: list[tuple[str, str]] = []
    for line in map(str.rstrip, output.splitlines()):
        if match := _OUTCOME.match(line):
            outcomes.append((match[1], match[2]))
        elif match := _KERNEL.search(line):  # behind what the firmware did to the screen
            found["kernel"], found["device"] = match[1], match[2].strip()
        elif match := _PYTHON.match(line):
            found["python"] = match[1].replace("pytest-", "pytest ")
        elif match := _SUMMARY.match(line):
            found["summary"] = match[1]
    missing = [name for name, text in found.items() if not text]
    if missing:
        raise ValueError(f"the console does not tell the {' and the '.join(missing)}")
    counts = Counter(outcome for _, outcome in outcomes)
    for outcome, word in (("PASSED", "passed"), ("SKIPPED", "skipped"), ("FAILED", "failed")):
        told = re.search(rf"(\d+) {word}", found["summary"])
        if counts[outcome] != (int(told[1]) if told else 0):
            raise ValueError(f"the console tells of {counts[outcome]} tests that {word}, and ends with: {found['summary']}")
    head = (
        f"commit    {commit}",
        f"began     {began:%Y-%m-%d %H:%M} UTC",
        f"took      {seconds:.0f} s, the boot included",
        f"result    {found['summary']}",
        f"machine   {versions}",
        f"kernel    {found['kernel']}",
        f"device    {found['device']}",
        f"python    {found['python']}",
    )
    return "\n".join((*head, "", *(f"{outcome:9} {test}" for test, outcome in outcomes), ""))


def find_versions(emulator: str, kernel: Path) -> str:
    """Of what the machine is made of, here."""
    shown = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=True).stdout.split()
    wanted = ("rdma-core", "python3-pyverbs")
    packages = [f"{name} {_package_version(name)}" for name in wanted]
    return ", ".join((f"QEMU {shown[shown.index('version') + 1]} (TCG, one processor)", *packages, kernel.stem))


def _package_version(name: str) -> str:
    asked = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True, check=False)
    return asked.stdout or "of unknown version"


def record(output: str, emulator: str, kernel: Path, began: datetime) -> Path:
    """Write the record of a run that has just passed. ValueError: see `condense`."""
    seconds = (datetime.now(tz=UTC) - began).total_seconds()
    LOG.write_text(condense(output, find_versions(emulator, kernel), commit_name() or "unknown", began, seconds))
    return LOG
