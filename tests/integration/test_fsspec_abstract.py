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


def suite(name: str) -> type:
    """A suite of fsspec's, which is one of no tests where its version has none of that name: these came with 2024.12."""
    return getattr(abstract, name, None) or type(name, (), {})


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(suite("AbstractOpenTests"), Fixtures):  # type: ignore[misc]
    pass


class TestPipe(suite("AbstractPipeTests"), Fixtures):  # type: ignore[misc]
    pass
