"""Seeds worth replaying for ever: lines of a seed, the planted bug it finds ("-": none), and what it is about."""

from __future__ import annotations

from pathlib import Path


def read_seeds(path: Path) -> list[tuple[int, str, str]]:
    """(seed, planted bug or "", cause) of each line that is no comment. ValueError naming a line that is anything else."""
    found = []
    for line in path.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        try:
            seed, bug, cause = line.split(maxsplit=2)
            found.append((int(seed), "" if bug == "-" else bug, cause))
        except ValueError as wrong:
            raise ValueError(f"{path}: {line!r} is not a seed, a bug and a cause") from wrong
    return found
