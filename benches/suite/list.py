"""Listing of a directory with the details of every entry, through fsspec: how long, and whether it grows as its entries do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import fsspec

from benches import limits
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect
from fs3.api.url import SCHEME
from fs3.base.errors import FS3Error
from fs3.model.namespace import PathRef
from fs3.model.requests import Open

if TYPE_CHECKING:
    from benches.run import Context

MANY = 100_000
FEW = 10_000
AT_ONCE = 1000
TOP = "/bench-list"
MUST_S = 0.45
GROWTH_MAX = 1.25
"""How much more an entry of many may cost than one of few; what is above 1 is mostly caches that no longer hold it all."""


def measure(context: Context) -> list[Row]:
    """The rows of listings."""
    many, few = context.sized(MANY, 200), context.sized(FEW, 20)
    run(_make(context, {"many": many, "few": few}))
    fs = fsspec.filesystem(SCHEME, cluster=context.cluster.url.partition("://")[2], skip_instance_cache=True)
    values, growth = [], []
    _seconds(fs, "many", many)
    for _ in context.turns():
        small = min(_seconds(fs, "few", few) for _ in range(3))
        values.append(_seconds(fs, "many", many))
        growth.append(values[-1] / many / (small / few))
    local = limits.list_files(context.directory / "local-list", many, len(values))
    fs.rm(TOP, recursive=True)
    fs.close()
    return [
        Row(
            "list", f"list {MANY} with details", "s", Spread.of(values), "s scandir and stat of local files", Spread.of(local),
            must_value=MUST_S, lower_is_better=True,
        ),
        Row(
            "list", f"cost of an entry of {MANY}, of that of {FEW}", "x", Spread.of(growth), must_value=GROWTH_MAX,
            lower_is_better=True,
        ),
    ]  # fmt: skip


def _seconds(fs: Any, name: str, entries: int) -> float:
    began = time.perf_counter()
    found = fs.ls(f"{TOP}/{name}", detail=True)
    elapsed = time.perf_counter() - began
    if len(found) != entries:
        raise RuntimeError(f"{len(found)} entries were listed of {entries}")
    return elapsed


async def _make(context: Context, directories: dict[str, int]) -> None:
    """Directories of so many empty files."""
    async with await connect(context.cluster.url, transport="tcp") as client:
        for name, entries in directories.items():
            await client.makedirs(f"{TOP}/{name}")
            for begin in range(0, entries, AT_ONCE):
                numbers = range(begin, min(begin + AT_ONCE, entries))
                made = await client.meta.batch([Open(PathRef.of(f"{TOP}/{name}/{number:06}"), create=True) for number in numbers])
                for answer in made:
                    if isinstance(answer, FS3Error):
                        raise answer
