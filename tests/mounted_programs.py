"""Programs for tests of mounts: started and waited for; one that writes and syncs, and says what it was acknowledged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SYNCS = """
import os, sys
root, number = sys.argv[1], 0
log = os.open(os.path.join(root, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
big = os.open(os.path.join(root, "big"), os.O_RDWR | os.O_CREAT)
while True:
    line = b"%08d\\n" % number
    os.write(log, line)
    os.pwrite(big, line * 5000, number % 20 * 45_000)
    os.fsync(big)
    with open(os.path.join(root, "small%d" % (number % 10)), "wb") as small:
        small.write(line)
        small.flush()
        os.fsync(small.fileno())
    number += 1
    print(number, flush=True)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(programs: Sequence[subprocess.Popen[str]]) -> None:
    """They all succeed."""
    for program in programs:
        _, said = program.communicate(timeout=120)
        assert program.returncode == 0, said


class SyncingProgram:
    """A program that writes and syncs, and says what it was acknowledged."""

    def __init__(self, root: Path) -> None:
        self._program = start(SYNCS, root)
        assert self._program.stdout is not None
        self._said = self._program.stdout
        self.rounds = 0
        """That were acknowledged."""

    def wait(self, count: int) -> None:
        """Until so many more rounds are acknowledged."""
        wanted = self.rounds + count
        while self.rounds < wanted:
            line = self._said.readline()
            assert line, self._program.communicate()[1]
            self.rounds = int(line)

    def end(self, *, kill: bool) -> int:
        """The rounds that were acknowledged until it was killed, or failed."""
        if kill:
            self._program.kill()
        for line in self._said:
            self.rounds = int(line)
        self._program.communicate(timeout=60)
        assert self._program.returncode
        return self.rounds


def check_synced(root: Path, rounds: int) -> None:
    """What was acknowledged is there; what was under way may be."""
    assert rounds
    log = (root / "log").read_bytes()
    numbers = [int(line) for line in log.splitlines()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= rounds
    big = (root / "big").read_bytes()
    for place in range(min(20, rounds)):
        newest = rounds - 1 - (rounds - 1 - place) % 20
        found = {int(big[at : at + 9]) for at in range(place * 45_000, (place + 1) * 45_000, 9)}
        assert found <= {newest, newest + 20}, (place, rounds)
    for place in range(min(10, rounds)):
        newest = rounds - 1 - (rounds - 1 - place) % 10
        assert (root / f"small{place}").read_bytes() in (b"%08d\n" % newest, b"%08d\n" % (newest + 10), b"")
