"""The files that the page of a cluster consists of, read once: hand-written HTML, CSS and JavaScript, and the runbooks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).with_name("page")
_RUNBOOKS = (PAGE / "runbooks", Path(__file__).parents[3] / "docs" / "runbooks")
"""In an installed package, and in the source tree."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".md": "text/plain; charset=utf-8",
}


class SiteFile(NamedTuple):
    """What is answered for one path."""

    body: bytes
    content_type: str


def load_page() -> dict[str, SiteFile]:
    """The parts of the page, by path."""
    return {f"/page/{path.name}": _load(path) for path in PAGE.iterdir() if path.suffix in TYPES}


def load_runbooks() -> dict[str, SiteFile]:
    """The page of each kind of problem, by path; none where they were not installed."""
    found = next((directory for directory in _RUNBOOKS if directory.is_dir()), None)
    return {f"/runbooks/{path.name}": _load(path) for path in found.glob("*.md")} if found is not None else {}


def _load(path: Path) -> SiteFile:
    return SiteFile(path.read_bytes(), TYPES[path.suffix])
