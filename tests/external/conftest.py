"""Libraries that read and write through fsspec, on a real cluster. `make consumers` runs them all, in an environment it makes of
requirements.txt; elsewhere a library that is not installed is a skip."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import fsspec
import pytest


@pytest.fixture
def url(cluster_url: str) -> Iterator[str]:
    """An empty directory of the test's own, as a URL."""
    fs = fsspec.filesystem("fs3", cluster=cluster_url.partition("://")[2])
    path = f"/consumer-{uuid.uuid4().hex[:12]}"
    fs.mkdir(path)
    yield cluster_url + path
    fs.rm(path, recursive=True)
