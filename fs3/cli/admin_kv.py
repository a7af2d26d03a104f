"""`fs3 admin kv`: all rows of a cluster's managers and metadata into a file, out of one, and from one engine to another."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli.directory import ClusterDirectory
from fs3.cli.output import print_json

if TYPE_CHECKING:
    from fs3.cli.stores import StoreLocation

app = typer.Typer(
    name="kv",
    help="""Move what managers and metadata have stored.

    STORES is the directory of a cluster on this machine, etcd://host:port,host:port/NAME, or lmdb:DIR (the stores DIR/mgmtd/kv
    and DIR/meta/kv).""",
    no_args_is_help=True,
)

Stores = Annotated[str, typer.Argument(metavar="STORES", help="where the rows are")]
Target = Annotated[str, typer.Argument(metavar="TO", help="empty stores, which are made")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="the export")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]
Moving = Callable[[Callable[[str, int], None]], Any]
"""Is told what to call with a role and how many rows of it there have been."""
_FOUND = 1
"""Exit status: the rows were moved, and the check of them has found something."""


@app.command("export")
def export_rows(stores: Stores, file: File, as_json: AsJson = False) -> None:
    """Write all rows into a new FILE. The cluster may be in use: each store's rows are those of one moment."""
    from fs3.cli.kv_stores import locate, write_export

    written = _run(lambda progress: write_export(locate(stores), file, progress))
    _say(as_json, {"file": str(file), "rows": written, "bytes": file.stat().st_size}, f"{_count(written)} are in {file}")


@app.command("import")
def import_rows(file: File, target: Target, as_json: AsJson = False) -> None:
    """Put the rows of a FILE into empty stores, and check the namespace. Ids that were given since are not given again."""
    from fs3.cli.kv_stores import locate, read_import

    stores = locate(target)
    written = _run(lambda progress: read_import(file, stores, time.time_ns(), progress))
    _check(stores, as_json, {"target": target, "rows": written}, f"{_count(written)} are in {target}")


@app.command("copy")
def copy_rows(stores: Stores, target: Target, as_json: AsJson = False) -> None:
    """Put all rows of a stopped cluster into empty stores on another engine, read them back, and check the namespace."""
    from fs3.cli.kv_stores import copy_stores, locate

    source, to = locate(stores), locate(target)
    if not stores.startswith("lmdb:") and "://" not in stores:
        _check_stopped(ClusterDirectory(Path(stores)))
    if source == to:
        raise error(Code.INVALID, f"{stores} and {target} are the same stores")
    copied = _run(lambda progress: copy_stores(source, to, progress))
    written = {role: total.rows for role, total in copied.items()}
    sums = {role: f"{total.crc32c:08x}" for role, total in copied.items()}
    _check(to, as_json, {"target": target, "rows": written, "crc32c": sums}, f"{_count(written)} are in {target}, read back")


@app.command("use")
def use_stores(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="the directory of a cluster on this machine")],
    stores: Stores,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="also when the rows there are not those it has now, which are left behind")
    ] = False,
) -> None:
    """Let a stopped cluster of this machine work on other stores, to which its rows were copied."""
    from fs3.cli.kv_stores import are_same, identify_all, locate

    place = ClusterDirectory(directory)
    with place.lock_changes():
        shape, processes = place.require()
        _check_stopped(place)
        wanted = locate(stores)
        cluster = asyncio.run(identify_all(wanted))
        of_data = _cluster_of_data(place)
        if of_data not in ("", cluster):
            raise error(Code.WRONG_CLUSTER, f"the rows are of cluster {cluster}, the data of {of_data}", str(directory))
        own = locate(f"lmdb:{place.path}")
        kv = "" if wanted == own else str(wanted["meta"])
        if kv and wanted["meta"].directory is not None:
            told = f"{stores}: LMDB stores of a cluster are in its own directory, lmdb:{directory}"
            raise error(Code.INVALID, told)
        if not anyway and not asyncio.run(are_same(locate(str(directory)), wanted)):
            told = f"the rows in {stores} are not those that the cluster has now; --anyway leaves the latter behind"
            raise error(Code.INVALID, told, str(directory))
        place.save(replace(shape, kv=kv), processes)
    sys.stdout.write(f"the cluster in {directory} works on {kv or f'lmdb:{directory}'} from its next start on\n")


def _check_stopped(place: ClusterDirectory) -> None:
    """FS3Error BUSY naming the processes that run."""
    shape, _ = place.require()
    running = [name for name in shape.names() if place.running_pid(name) is not None]
    if running:
        raise error(Code.BUSY, f"{', '.join(running)} still runs; `fs3 down` ends it", str(place.path))


def _cluster_of_data(place: ClusterDirectory) -> str:
    """The cluster that storage processes have data of; empty when none has any."""
    for file in sorted(place.path.glob("storage-*/node.json")):
        try:
            found = json.loads(file.read_text()).get("cluster")
        except (OSError, ValueError, AttributeError):
            continue
        if found:
            return str(found)
    return ""


def _run(action: Moving) -> Any:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        return asyncio.run(action(lambda role, rows: None))
    with console.status("") as status:
        return asyncio.run(action(lambda role, rows: status.update(f"{role}: {rows:,} rows")))


def _check(stores: dict[str, StoreLocation], as_json: bool, document: dict[str, Any], told: str) -> None:
    """Check the namespace that has arrived; exit status 1 when something is wrong with it."""
    from fs3.cli.kv_stores import check_names
    from fs3.core.meta.fsck.problems import describe, name_of

    found = asyncio.run(check_names(stores["meta"])).problems
    document["problems"] = [{"kind": name_of(problem), "text": describe(problem)} for problem in found]
    lines = [told, *(f"{name_of(problem)}  {describe(problem)}" for problem in found)]
    lines.append(f"problems: {len(found)}; see `fs3 admin fsck`" if found else "nothing is wrong with the namespace")
    _say(as_json, document, "\n".join(lines))
    if found:
        raise typer.Exit(_FOUND)


def _say(as_json: bool, document: dict[str, Any], told: str) -> None:
    if as_json:
        print_json(document)
    else:
        sys.stdout.write(told + "\n")


def _count(written: dict[str, int]) -> str:
    return " and ".join(f"{count:,} rows of {role}" for role, count in written.items())
