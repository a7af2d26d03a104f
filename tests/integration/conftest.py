"""Mounts of a cluster inside this process, for the modules that need two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounts import embedded_mount


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two mounts of one cluster."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with embedded_mount(tmp_path / "fs3", tmp_path / "one"), embedded_mount(tmp_path / "fs3", tmp_path / "two"):
        yield tmp_path / "one", tmp_path / "two"
