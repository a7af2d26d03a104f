"""Moves of targets, to and from protobuf. What arrives is not trusted: InvalidArgument names the malformed field."""

from __future__ import annotations

from typing import Any

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.limits import name_bytes_max, targets_per_node_max
from fs3.base.units import MILLISECOND
from fs3.model.moves import (
    Departing,
    DiskDrain,
    ListMoves,
    Move,
    MoveAction,
    MoveOverview,
    MoveProgress,
    MoveReason,
    MoveSettings,
    NodeShare,
    PlanMoves,
    SetMoves,
)
from fs3.wire.directories import path_shown_bytes_max
from fs3.wire.malformed import malformed
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import EncodedRouting, enum_from_pb
from fs3.wire.mgmtd_verb import MgmtdVerb
from fs3.wire.pb import mgmtd_pb2 as pb


def _plan_moves_to_pb(request: PlanMoves) -> pb.PlanMovesRequest:
    action: Any = int(request.action)
    return pb.PlanMovesRequest(
        action=action,
        node=request.node,
        other=request.other,
        dry_run=request.is_dry_run,
        accept_loss=request.accept_loss,
        target_ids=request.targets,
        disk=request.disk,
    )


def _plan_moves_from_pb(message: pb.PlanMovesRequest) -> PlanMoves:
    action = enum_from_pb(MoveAction, message.action, "PlanMovesRequest.action")
    for field, name in (("node", message.node), ("other", message.other)):
        if len(name.encode()) > name_bytes_max:
            raise malformed(f"PlanMovesRequest.{field}", f"longer than {name_bytes_max} bytes")
    if not message.node and action is not MoveAction.REBALANCE:
        raise malformed("PlanMovesRequest.node", "is empty")
    names_targets = action in (MoveAction.DRAIN_TARGETS, MoveAction.UNDRAIN_TARGETS)
    if names_targets != bool(message.target_ids):
        raise malformed("PlanMovesRequest.target_ids", "is empty" if names_targets else f"{action.name} has none")
    if len(message.target_ids) > targets_per_node_max:
        raise malformed("PlanMovesRequest.target_ids", f"more than {targets_per_node_max}")
    names_disk = action in (MoveAction.DRAIN_DISK, MoveAction.UNDRAIN_DISK)
    if names_disk != bool(message.disk):
        raise malformed("PlanMovesRequest.disk", "is empty" if names_disk else f"{action.name} has none")
    if len(message.disk.encode()) > path_shown_bytes_max:
        raise malformed("PlanMovesRequest.disk", f"longer than {path_shown_bytes_max} bytes")
    targets = tuple(TargetId(target) for target in message.target_ids)
    return PlanMoves(action, message.node, message.other, message.dry_run, message.accept_loss, targets, message.disk)


def _set_moves_to_pb(request: SetMoves) -> pb.SetMovesRequest:
    after = request.forget_after_ns
    named = {"paused": request.is_paused, "per_node": request.per_node}
    named["forget_after_ms"] = None if after is None else after // MILLISECOND
    return pb.SetMovesRequest(**{name: value for name, value in named.items() if value is not None})  # type: ignore[arg-type]


def _set_moves_from_pb(message: pb.SetMovesRequest) -> SetMoves:
    return SetMoves(
        message.paused if message.HasField("paused") else None,
        message.per_node if message.HasField("per_node") else None,
        message.forget_after_ms * MILLISECOND if message.HasField("forget_after_ms") else None,
    )


def _list_moves_to_pb(_: ListMoves) -> pb.ListMovesRequest:
    return pb.ListMovesRequest()


def _list_moves_from_pb(_: pb.ListMovesRequest) -> ListMoves:
    return ListMoves()


def _progress_to_pb(progress: MoveProgress) -> pb.Move:
    move = progress.move
    reason: Any = int(move.reason)
    return pb.Move(
        chain_id=move.chain,
        leaver_id=move.leaver,
        source_id=progress.source,
        destination_id=move.destination,
        reason=reason,
        joiner_id=move.joiner,
        size=progress.size,
        done=progress.done,
        bytes_per_second=progress.rate,
    )


def _progress_from_pb(message: pb.Move, field: str) -> MoveProgress:
    move = Move(
        ChainId(message.chain_id),
        TargetId(message.leaver_id),
        NodeId(message.destination_id),
        enum_from_pb(MoveReason, message.reason, f"{field}.reason"),
        TargetId(message.joiner_id),
    )
    return MoveProgress(move, NodeId(message.source_id), message.size, message.done, message.bytes_per_second)


def _overview_to_pb(overview: MoveOverview, _: EncodedRouting | None) -> pb.MovesReply:
    departing = [
        pb.DepartingNode(node_id=each.node, reason=int(each.reason), onto_id=each.onto)  # type: ignore[arg-type]
        for each in overview.departing
    ]
    shares = [
        pb.NodeShare(node_id=each.node, used=each.used, capacity=each.capacity, targets=each.targets, heads=each.heads)
        for each in overview.shares
    ]
    settings = overview.settings
    return pb.MovesReply(
        paused=settings.is_paused,
        per_node=settings.per_node,
        forget_after_ms=settings.forget_after_ns // MILLISECOND,
        moves=[_progress_to_pb(progress) for progress in overview.moves],
        departing=departing,
        shares=shares,
        notes=overview.notes,
        drained_disks=[
            pb.DrainedDisk(
                node_id=disk.node,
                path=disk.path,
                targets=disk.targets,
                used=disk.used,
                known=disk.is_known,
                empty=disk.is_empty,
            )
            for disk in overview.drained_disks
        ],
    )


def _overview_from_pb(message: pb.MovesReply) -> MoveOverview:
    return MoveOverview(
        MoveSettings(message.paused, message.per_node, message.forget_after_ms * MILLISECOND),
        tuple(_progress_from_pb(move, f"MovesReply.moves[{index}]") for index, move in enumerate(message.moves)),
        tuple(
            Departing(
                NodeId(each.node_id),
                enum_from_pb(MoveReason, each.reason, f"MovesReply.departing[{index}].reason"),
                NodeId(each.onto_id),
            )
            for index, each in enumerate(message.departing)
        ),
        tuple(
            NodeShare(NodeId(share.node_id), share.used, share.capacity, share.targets, share.heads) for share in message.shares
        ),
        tuple(message.notes),
        tuple(
            DiskDrain(NodeId(disk.node_id), disk.path, disk.targets, disk.used, disk.known, disk.empty)
            for disk in message.drained_disks
        ),
    )


MOVE_VERBS: dict[type[Any], MgmtdVerb] = {
    PlanMoves: MgmtdVerb(MGMTD.PlanMoves, _plan_moves_to_pb, _plan_moves_from_pb, _overview_to_pb, _overview_from_pb),
    SetMoves: MgmtdVerb(MGMTD.SetMoves, _set_moves_to_pb, _set_moves_from_pb, _overview_to_pb, _overview_from_pb),
    ListMoves: MgmtdVerb(MGMTD.ListMoves, _list_moves_to_pb, _list_moves_from_pb, _overview_to_pb, _overview_from_pb),
}
"""Those of `fs3.model.moves`."""
