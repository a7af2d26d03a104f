"""`fs3 admin rebalance`, `drain`, `undrain`, `remove`, `replace`, `forget` and `moves`: where targets are."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
import typer

from fs3.base.errors import error
from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.base.units import SECOND, format_size, parse_duration
from fs3.cli.admin import AsJson, Where, exit_not_checked, run_with_client
from fs3.cli.output import print_json, print_table
from fs3.model.moves import MoveAction, MoveOverview, MoveProgress, MoveReason, PlanMoves, SetMoves
from fs3.model.routing import Routing

if TYPE_CHECKING:
    from fs3.api.client import Client

MoveRequest: TypeAlias = "Callable[[Client], Awaitable[MoveOverview]]"
"""What the manager is asked."""

_POLL_SECONDS = 0.5
"""Between two looks at what moves."""

NodeName = Annotated[str, typer.Argument(metavar="NODE", help="name of a storage node, as `fs3 status` shows it")]
Targets = Annotated[
    list[int] | None,
    typer.Option("--target", help="only this target of the node; may be given more than once"),
]
Disk = Annotated[
    str | None, typer.Option("--disk", metavar="PATH", help="only what is on this disk, by its path in `fs3 status`")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only show what would move")]
Wait = Annotated[bool, typer.Option("--wait", help="return once it is done")]


def register(app: typer.Typer) -> None:
    """Add the commands to `fs3 admin`."""
    for command in (rebalance, drain, undrain, remove, replace, forget, moves):
        app.command()(command)


def rebalance(where: Where = None, dry_run: DryRun = False, wait: Wait = False, as_json: AsJson = False) -> None:
    """Move targets until all storage nodes are equally full, and chains are in different zones and racks."""
    _plan(where, PlanMoves(MoveAction.REBALANCE, is_dry_run=dry_run), wait=wait, as_json=as_json)


def drain(
    node: NodeName,
    where: Where = None,
    target: Targets = None,
    disk: Disk = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Move everything that a storage node has to the others, and give it nothing more. It may be removed afterwards. With
    --disk, everything on that disk of the node moves, and nothing is put there any more; with --target, only these targets."""
    plan = _drain_plan(node, target, disk, MoveAction.DRAIN, MoveAction.DRAIN_TARGETS, MoveAction.DRAIN_DISK)
    _plan(where, msgspec.structs.replace(plan, is_dry_run=dry_run), wait=wait, as_json=as_json)


def undrain(node: NodeName, where: Where = None, target: Targets = None, disk: Disk = None, as_json: AsJson = False) -> None:
    """Let a node, or a disk, that is being drained keep what it still has, and be given more; or let these targets stay. Moves
    that are under way end as they were begun."""
    plan = _drain_plan(node, target, disk, MoveAction.UNDRAIN, MoveAction.UNDRAIN_TARGETS, MoveAction.UNDRAIN_DISK)
    _plan(where, plan, as_json=as_json)


def _drain_plan(
    node: str, named: list[int] | None, disk: str | None, whole: MoveAction, of_targets: MoveAction, of_disk: MoveAction
) -> PlanMoves:
    """What is asked for, by what of the node is named."""
    if named and disk is not None:
        exit_not_checked(error(Code.INVALID, "--disk names all targets of a disk: give no --target beside it"))
    if disk is not None:
        return PlanMoves(of_disk, node, disk=disk)
    targets = tuple(TargetId(target) for target in dict.fromkeys(named or ()))
    return PlanMoves(of_targets if targets else whole, node, targets=targets)


def remove(node: NodeName, where: Where = None, as_json: AsJson = False) -> None:
    """Remove a node that holds nothing from the cluster. A process that comes back with its directory is told so."""
    _plan(where, PlanMoves(MoveAction.REMOVE, node), as_json=as_json)


def replace(
    old: Annotated[str, typer.Argument(metavar="OLD", help="name of the storage node that is to hold nothing")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="name of the storage node that gets what it has")],
    where: Where = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Move everything that a storage node has, alive or dead, to another one. It may be removed afterwards."""
    _plan(where, PlanMoves(MoveAction.REPLACE, old, new, is_dry_run=dry_run), wait=wait, as_json=as_json)


def forget(
    node: NodeName,
    where: Where = None,
    dry_run: DryRun = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="go on although the newest data of some chains is on this node only")
    ] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild elsewhere what a dead storage node had, from the other replicas, and remove it from the cluster."""
    plan = PlanMoves(MoveAction.FORGET, node, is_dry_run=dry_run, accept_loss=accept_loss)
    _plan(where, plan, wait=wait, as_json=as_json)


def moves(
    where: Where = None,
    pause: Annotated[bool, typer.Option("--pause", help="begin no move; those under way go on")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="begin moves again")] = False,
    per_node: Annotated[int | None, typer.Option(help="moves of one node at a time")] = None,
    forget_after: Annotated[
        str | None, typer.Option(help="forget a storage node that was not heard for so long: 30m, 2h, 1d; never")
    ] = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Show what moves, how far it is, and what each storage node holds; or change how targets move."""
    if pause and resume:
        exit_not_checked(error(Code.INVALID, "--pause and --resume contradict each other"))
    try:
        after = None if forget_after is None else 0 if forget_after == "never" else parse_duration(forget_after)
    except ValueError as wrong:
        exit_not_checked(error(Code.INVALID, f"--forget-after {wrong}"))
    settings = SetMoves(True if pause else False if resume else None, per_node, after)

    async def ask(client: Client) -> MoveOverview:
        if settings == SetMoves():
            return await client.manager.list_moves()
        return await client.manager.set_moves(settings)

    _show(where, ask, wait=wait, as_json=as_json)


def _plan(where: str | None, plan: PlanMoves, *, wait: bool = False, as_json: bool = False) -> None:
    async def ask(client: Client) -> MoveOverview:
        return await client.manager.plan_moves(plan)

    _show(where, ask, wait=wait and not plan.is_dry_run, as_json=as_json, is_dry_run=plan.is_dry_run)


def _show(
    where: str | None,
    ask: MoveRequest,
    *,
    wait: bool,
    as_json: bool,
    is_dry_run: bool = False,
) -> None:
    """Ask, show the answer, and wait until nothing moves any more when that is wanted."""

    async def action(client: Client) -> dict[str, Any]:
        overview = await ask(client)
        if wait:
            overview = await _wait(client, as_json=as_json)
        await client.manager.refresh(client.manager.routing.version)
        return describe(overview, client.manager.routing)

    found = run_with_client(where, action)
    if as_json:
        print_json(found)
    else:
        _print(found, is_dry_run=is_dry_run)


async def _wait(client: Client, *, as_json: bool) -> MoveOverview:
    """Until nothing moves and nothing is to move; a line now and then says how far it is."""
    said = ""
    while True:
        overview = await client.manager.list_moves()
        holds = {share.node for share in overview.shares if share.targets}
        leaves = (each.node in holds or each.reason is MoveReason.FORGET for each in overview.departing)
        filled = (disk.is_known and not disk.is_empty for disk in overview.drained_disks)
        if not overview.moves and not any(leaves) and not any(filled):
            return overview
        text = summary(overview, client.manager.routing)
        if text != said and not as_json:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
            said = text
        await asyncio.sleep(_POLL_SECONDS)


def summary(overview: MoveOverview, routing: Routing) -> str:
    """How far all moves are together, in one line."""
    begun = [progress for progress in overview.moves if progress.move.joiner]
    left = bytes_left(overview.moves)
    rate = sum(progress.rate for progress in begun)
    text = f"{len(begun)} moves under way, {len(overview.moves) - len(begun)} wait; {format_size(left)} to go"
    if overview.settings.is_paused:
        text += "; paused"
    return f"{text} at {format_size(rate)}/s, about {left // rate + 1} s" if rate else text


def bytes_left(moves: tuple[MoveProgress, ...]) -> int:
    """What has not been copied yet."""
    return sum(max(0, progress.size - progress.done) for progress in moves)


def describe(overview: MoveOverview, routing: Routing) -> dict[str, Any]:
    """An overview with the names of nodes, for programs."""

    def name(node: int) -> str:
        known = next((each for each in routing.nodes.values() if each.id == node), None)
        return known.name if known is not None else str(node)

    rate = sum(progress.rate for progress in overview.moves)
    left = bytes_left(overview.moves)
    return {
        "paused": overview.settings.is_paused,
        "per_node": overview.settings.per_node,
        "forget_after_seconds": overview.settings.forget_after_ns // SECOND,
        "moves": [
            {
                "chain": each.move.chain,
                "target": each.move.leaver,
                "from": name(each.source),
                "to": name(each.move.destination),
                "reason": each.move.reason.name.lower(),
                "new_target": each.move.joiner,
                "bytes": each.size,
                "done_bytes": each.done,
                "bytes_per_second": each.rate,
            }
            for each in overview.moves
        ],
        "departing": [
            {"node": name(each.node), "reason": each.reason.name.lower(), "onto": name(each.onto) if each.onto else ""}
            for each in overview.departing
        ],
        "drained_disks": [
            {
                "node": name(disk.node),
                "disk": disk.path,
                "targets": disk.targets,
                "used_bytes": disk.used,
                "known": disk.is_known,
                "empty": disk.is_empty,
            }
            for disk in overview.drained_disks
        ],
        "nodes": [{"node": name(share.node), **_without_id(msgspec.to_builtins(share))} for share in overview.shares],
        "left_bytes": left,
        "eta_seconds": left // rate + 1 if rate else None,
        "notes": list(overview.notes),
        "summary": summary(overview, routing),
    }


def _without_id(share: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in share.items() if key != "node"}


def _print(found: dict[str, Any], *, is_dry_run: bool) -> None:
    departing = {each["node"]: each for each in found["departing"]}
    rows = []
    for node in found["nodes"]:
        leaves = departing.get(node["node"])
        share = f"{100 * node['used'] / node['capacity']:.1f} %" if node["capacity"] else ""
        what = "" if leaves is None else _DEPARTING[leaves["reason"]] + (f" by {leaves['onto']}" if leaves["onto"] else "")
        rows.append((node["node"], str(node["targets"]), str(node["heads"]), format_size(node["used"]), share, what))
    print_table(("node", "targets", "heads", "used", "full", ""), rows)
    if found["drained_disks"]:
        print_table(("node", "disk", "targets", "used", ""), [_disk_columns(disk) for disk in found["drained_disks"]])
    if found["moves"]:
        headings = "chain", "target", "from", "to", "why", "bytes", "done"
        print_table(headings, [_move_columns(move, is_dry_run=is_dry_run) for move in found["moves"]])
    if is_dry_run:
        total = format_size(sum(move["bytes"] for move in found["moves"]))
        sys.stdout.write(f"{len(found['moves'])} moves of {total}; nothing was changed\n")
    else:
        sys.stdout.write(f"{found['summary']}\n" if found["moves"] else "nothing moves\n")
    for note in found["notes"]:
        sys.stdout.write(f"{note}\n")


_DEPARTING = {
    MoveReason.DRAIN.name.lower(): "is drained",
    MoveReason.FORGET.name.lower(): "is forgotten",
    MoveReason.REPLACE.name.lower(): "is replaced",
}


def _disk_columns(disk: dict[str, Any]) -> tuple[str, ...]:
    what = "is drained" if disk["known"] else "is drained; the node has not told of it"
    if disk["empty"]:
        what = "is empty: it may be taken out"
    return (disk["node"], disk["disk"], str(disk["targets"]), format_size(disk["used_bytes"]), what)


def _move_columns(move: dict[str, Any], *, is_dry_run: bool) -> tuple[str, ...]:
    done = "" if is_dry_run else "waits" if not move["new_target"] else f"{100 * move['done_bytes'] // max(1, move['bytes'])} %"
    where = move["from"], move["to"]
    return (str(move["chain"]), str(move["target"]), *where, move["reason"], format_size(move["bytes"]), done)
