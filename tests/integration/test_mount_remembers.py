"""A mount asks no service for attributes that it knows, and never tells what was before another mount's change."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fs3.api.fuse.mount import Mount
from fs3.client.meta.client import OnAnswer
from fs3.model.requests import Request
from fs3.sim.conformance.fuse import why_no_mount
from tests.mounts import embedded_mount

pytestmark = pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}")


class Questions:
    """What the process of a mount asks the metadata service."""

    def __init__(self, mount: Mount) -> None:
        self.names: list[str] = []
        meta = mount._operations.client.meta
        send = meta._send

        async def count(method: Any, *arguments: Any, **how: Any) -> Any:
            if method.name != "Watch":
                self.names.append(method.name)
            return await send(method, *arguments, **how)

        meta._send = count  # type: ignore[method-assign]
        submit, remembered = meta.submit, meta.remembered
        assert remembered is not None

        def count_submitted(request: Request[Any], done: OnAnswer[Any]) -> None:
            if remembered.find(meta.user, request) is None:
                self.names.append(type(request).__name__)
            submit(request, done)

        meta.submit = count_submitted  # type: ignore[method-assign]

    def take(self) -> list[str]:
        """Since the last time."""
        names, self.names = self.names, []
        return names


@contextmanager
def two_mounts(tmp_path: Path) -> Iterator[tuple[Path, Path, Questions]]:
    points = tmp_path / "one", tmp_path / "two"
    for point in points:
        point.mkdir()
    with embedded_mount(tmp_path / "fs3", points[0]) as mount, embedded_mount(tmp_path / "fs3", points[1]):
        questions = Questions(mount)
        (points[1] / "file").write_bytes(b"x")
        end = time.monotonic() + 30
        while questions.take() or not (points[0] / "file").exists() or questions.take():
            assert time.monotonic() < end, "it has no leases"
        yield *points, questions


def test_a_file_that_is_looked_at_again(tmp_path: Path) -> None:
    with two_mounts(tmp_path) as (one, two, questions):
        for _ in range(10):
            assert (one / "file").stat().st_size == 1
        assert questions.take() == []
        (two / "file").write_bytes(b"four")
        assert (one / "file").stat().st_size == 4
        assert questions.take() == ["Stat"]
        os.rename(two / "file", two / "other")
        assert not (one / "file").exists()
        assert (one / "other").stat().st_size == 4


def test_a_long_listing_asks_for_no_single_file(tmp_path: Path) -> None:
    with two_mounts(tmp_path) as (one, two, questions):
        (two / "d").mkdir()
        for number in range(100):
            (two / "d" / f"f{number}").write_bytes(b"x" * number)
        questions.take()
        for round_ in range(2):
            sizes = {name: (one / "d" / name).stat().st_size for name in os.listdir(one / "d")}
            assert sizes == {f"f{number}": number + round_ * (number == 7) for number in range(100)}
            asked = questions.take()
            assert len(asked) <= 6, asked
            (two / "d" / "f7").write_bytes(b"x" * 8)
