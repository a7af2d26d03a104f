"""fsspec's own suites for filesystems."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

import fsspec.tests.abstract as abstract
import pytest


class Fixtures(abstract.AbstractFixtures):
    """Where the suites work."""

    @pytest.fixture
    def fs(self, fs3_options: dict[str, str]) -> abstract.AbstractFixtures:
        import fsspec

        return fsspec.filesystem("fs3", **fs3_options)

    @pytest.fixture
    def fs_path(self, room: str) -> str:
        return room

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return posixpath.join

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return True


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass
